"""models/export -> hash_manifest.json: what each file is and what it was made of."""

from pathlib import Path
from typing import Any

from stages.exporting.bundle import Bundle
from stages.runtime.files import sha256_file, write_json

HASH_MANIFEST = "hash_manifest.json"


def write_hash_manifest(
    folder: Path, bundle: Bundle, *, view: Path, soft_labels: dict[str, Any]
) -> None:
    """Write the hashes of all files below `folder`, of the teachers and of the view."""
    card = bundle.cards[0]
    write_json(
        folder / HASH_MANIFEST,
        {
            "stage": bundle.stage,
            "recipe_version": card.training_version,
            "manifest_sha256": card.manifest_sha256,
            "calibration_sha256": bundle.calibration_sha256,
            "fusion": bundle.fusion,
            "calibration": {
                "temperature": bundle.calibration.temperature,
                "temperature_no_fit": bundle.calibration.temperature_no_fit,
                "class_bias": list(bundle.calibration.class_bias),
                "mixture_of": bundle.calibration.space,
            },
            "teachers": {
                name: {
                    "backbone": member.card.backbone,
                    "weight": bundle.weights[name],
                    "temperature": member.calibration.temperature,
                    "temperature_no_fit": member.calibration.temperature_no_fit,
                    "weights_sha256": member.card.weights_sha256,
                }
                for name, member in sorted(bundle.members.items())
            },
            "soft_labels": {
                "view": view.stem,
                "view_sha256": sha256_file(view),
                "meaning": "softmax(logits) is the calibrated probability of the ensemble: "
                "calibration_temperature is applied already. distillation_temperature is not: a "
                "student divides these logits and its own by it in the KD and DKD terms. "
                "votes_temperature is what the crowd's votes would have asked for instead of "
                "calibration_temperature; null where too few rows have votes. A temperature "
                "that is no fit is 1, and its no_fit says why",
                "calibration_temperature": bundle.calibration.temperature,
                "votes_temperature": bundle.calibration.votes_temperature,
                "votes_temperature_no_fit": bundle.calibration.votes_temperature_no_fit,
                **soft_labels,
            },
            "files": {
                path.relative_to(folder).as_posix(): sha256_file(path)
                for path in sorted(folder.rglob("*"))
                if path.is_file()
            },
        },
    )
