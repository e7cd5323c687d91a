"""All files of an export -> hash_manifest.json: their hashes, and what they were made of."""

from pathlib import Path

from stages.exporting.bundle import Bundle
from stages.exporting.export_files import LATENCY_FILE, SoftLabels
from stages.runtime.files import sha256_file, write_json


def write_hash_manifest(
    folder: Path, bundle: Bundle, *, view: Path, soft_labels: SoftLabels
) -> None:
    """Write hashes and sizes of all files below `folder`, and the hashes of what they were made of.

    latency.json is left out: it differs from run to run, and equal exports have equal hashes.
    """
    ensemble, calibration = bundle.ensemble, bundle.ensemble.calibration
    files = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != LATENCY_FILE
    }
    meaning = (
        "softmax(logits) is the mean over face_views of the ensemble's calibrated probabilities. "
        "softlabels_index.jsonl names the temperature of each row: the majority's or, for rows "
        "with votes, the crowd's; it is applied already. distillation_temperature is not: a "
        "student divides these logits and its own by it in the KD and DKD terms. A temperature "
        "that is no fit is 1, and its no_fit says why; the crowd's is null where too few val rows "
        "have votes"
    )
    if len({*ensemble.inputs}) > 1:
        meaning += ". Each teacher saw its own input, not the one input of the ensemble's file"
    manifest = {
        "stage": bundle.fitted.stage,
        "recipe_version": ensemble.training_version,
        "manifest_sha256": bundle.card.manifest_sha256,
        "calibration_sha256": bundle.calibration_sha256,
        "fusion": bundle.fitted.fusion,
        "teachers": {
            name: {
                "backbone": teacher.cards[0].backbone,
                "weight": bundle.ensemble.fit.members[name].weight,
                "weights_sha256": teacher.cards[0].weights_sha256,
            }
            for name, teacher in sorted(bundle.teachers.items())
        },
        "soft_labels": {
            "view": view.stem,
            "view_sha256": sha256_file(view),
            "meaning": meaning,
            "prior_correction": {
                name: member.prior_correction
                for name, member in bundle.ensemble.fit.members.items()
            },
            "class_bias": calibration.class_bias,
            "majority_temperature": calibration.temperature,
            "majority_temperature_no_fit": calibration.temperature_no_fit,
            "crowd_temperature": calibration.crowd_temperature,
            "crowd_temperature_no_fit": calibration.crowd_temperature_no_fit,
            **soft_labels.model_dump(),
        },
        "files": {name: sha256_file(path) for name, path in files.items()},
        "bytes": {name: path.stat().st_size for name, path in files.items()},
    }
    write_json(folder / "hash_manifest.json", manifest)
