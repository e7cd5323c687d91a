"""models/export -> hash_manifest.json: what each file is and what it was made of."""

from pathlib import Path
from typing import Any

from stages.exporting.bundle import Bundle
from stages.runtime.files import sha256_file, write_json

HASH_MANIFEST = "hash_manifest.json"


def write_hash_manifest(
    folder: Path, bundle: Bundle, *, view: Path, soft_labels: dict[str, Any]
) -> None:
    """Write the hashes of all that is in `folder` by now, of the teachers and of the view."""
    card = bundle.cards[0]
    write_json(
        folder / HASH_MANIFEST,
        {
            "stage": bundle.stage,
            "recipe_version": card.recipe_version,
            "manifest_sha256": card.manifest_sha256,
            "calibration_sha256": bundle.calibration_sha256,
            "temperature": bundle.temperature,
            "teachers": {
                name: {
                    "backbone": member.card.backbone,
                    "weight": member.weight,
                    "temperature": member.temperature,
                    "weights_sha256": member.card.weights_sha256,
                }
                for name, member in sorted(bundle.members.items())
            },
            "soft_labels": {
                "view": view.stem,
                "view_sha256": sha256_file(view),
                "meaning": "softmax(logits) is the calibrated probability of the ensemble; its "
                "temperature is applied already",
                **soft_labels,
            },
            "files": {path.name: sha256_file(path) for path in sorted(folder.iterdir())},
        },
    )
