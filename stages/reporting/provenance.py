"""Where the numbers come from: hashes, commits, packages, and the recipe."""

from collections.abc import Mapping
from typing import Any

import yaml

from stages.reporting.elements import paragraph, section, table, wrapped
from stages.reporting.finished import Finished
from stages.reporting.markup import Markup, tag
from stages.reporting.wording import counted, short

# What decides over numbers; environment.json of each run names all packages.
_SHOWN = (
    "torch", "torchvision", "timm", "numpy", "pandas", "pyarrow", "opencv-python",
    "opencv-python-headless", "simplejpeg", "scikit-learn", "scipy", "onnx", "onnxruntime", "dvc",
)  # fmt: skip
_COMPUTING = {"cuda": "CUDA", "cudnn": "cuDNN", "driver": "driver"}


def provenance_section(run: Finished, *, recipe: Mapping[str, Any]) -> Markup:
    """What names the data, the weights, the code and the recipe beyond doubt."""
    (common,) = run.numbers["provenance"]
    return section(
        "provenance",
        "Provenance",
        paragraph(
            "Manifest ", short(common["manifest_sha256"]),
            ", calibration ", short(run.hashes["calibration_sha256"]),
            f". Intervals: {common['intervals']}, {counted(common['bootstrap_samples'])} draws; "
            f"ECE with {common['bins']} bins. Label rules: "
            + "; ".join(f"{name} is the {rule}" for name, rule in common["label_rules"].items())
            + ".",
        ),
        _weights(run),
        _machines(run),
        tag(
            "details",
            tag("summary", "The recipe (params.yaml without what may differ between machines)"),
            tag("pre", yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True)),
        ),
    )  # fmt: skip


def _weights(run: Finished) -> Markup:
    rows = [
        (stage, teacher, card["backbone"], short(card["weights_sha256"]),
         short(card["fingerprint"]), card["epoch"], f"{card['image_size']} px",
         str(card["training_version"]))
        for (stage, teacher), card in run.cards.items()
    ]  # fmt: skip
    return table(
        "Weights.",
        "The epoch is the one that was best on val. Whole hashes stand in teacher.json of each.",
        ("stage", "teacher", "backbone", "weights SHA-256", "fingerprint of the run", "epoch",
         "input", "training version"),
        rows,
        words=5,
    )  # fmt: skip


def _machines(run: Finished) -> Markup:
    rows = []
    for (stage, teacher), found in run.environments.items():
        versions = found["packages"]
        packages = ", ".join(f"{name} {versions[name]}" for name in _SHOWN if versions.get(name))
        commit = tag("span", tag("code", found["commit"] or "not known"), class_="wrap")
        place = f"{found['system']} {found['machine']}, {found['device']}, {found['dtype']}"
        if found["device"] != "cpu":
            place += "".join(
                f", {word} {found[k]}" for k, word in _COMPUTING.items() if found.get(k)
            )
        python = f"Python {found['python']}, {packages}"
        rows.append((stage, teacher, commit, wrapped(place), wrapped(python)))
    headers = ("stage", "teacher", "commit", "machine", "packages")
    note = "Of each training run; its environment.json has every package."
    return table("Code and machine.", note, headers, rows, words=5)
