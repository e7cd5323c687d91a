"""A finished run and its recipe -> what the page says of data, exports, machines and limits."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from stages.calibrating.score_table import Score
from stages.records.schema import SPLITS
from stages.reporting.finished import Finished
from stages.reporting.wording import (
    STAGE_WORDS,
    counted,
    estimate,
    number,
    reasons,
    short,
    signed,
)

_FORMS = {"torch": "torch", "onnx": "onnx, fp32", "fp16": "fp16", "int8": "int8"}
# What decides over numbers; environment.json of each run names all packages.
_PACKAGES = (
    *("torch", "torchvision", "timm", "numpy", "pandas", "pyarrow"),
    *("opencv-python", "opencv-python-headless", "simplejpeg", "scikit-learn", "scipy"),
    *("onnx", "onnxruntime", "dvc"),
)
_COMPUTING = {"cuda": "CUDA", "cudnn": "cuDNN", "driver": "driver"}

Rows = Iterator[Sequence[object]]
Recipe = Mapping[str, Any]


def manifest_rows(run: Finished) -> Rows:
    """Yield the rows of the manifest by source and split: all, then each class."""
    table = run.plotted("manifest", "rows").pivot_table(
        index=["source", "split"], columns="label", values="rows", aggfunc="sum", fill_value=0
    )
    for source in table.index.unique("source"):
        for split in (name for name in SPLITS if (source, name) in table.index):
            counts = table.loc[(source, split)].reindex(list(run.calibration.classes), fill_value=0)
            yield (source, split, counted(counts.sum()), *map(counted, counts))


def manifest_counts(run: Finished) -> dict[str, dict[str, dict[str, int]]]:
    """Return the counts of duplicates and leaks, by subject, part and name."""
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for row in run.plotted("manifest", "counts").to_dict("records"):
        part = counts.setdefault(row["subject"], {}).setdefault(row["part"], {})
        part[row["count"]] = int(row["value"])
    return counts


def datasets(run: Finished, recipe: Recipe) -> Rows:
    """Yield each dataset with its licence, faces and rejects."""
    rejects = run.plotted("manifest", "rejects")
    for row in run.plotted("manifest", "standardized").to_dict("records"):
        source = recipe["standardize"]["sources"][row["source"]]
        reason = rejects[rejects["source"] == row["source"]].set_index("reason")["rows"]
        yield (
            row["source"],
            source["format"],
            source["licence"] or "not declared",
            reasons(reason) or "none",
            counted(row["faces"]),
            counted(row["rejects"]),
        )


def excluded(run: Finished) -> dict[str, int]:
    """Return why faces were left out of the manifest for a copy elsewhere, with their number."""
    return {reason: n for reason, n in manifest_counts(run)["leaks"]["excluded"].items() if n}


def files(run: Finished) -> Rows:
    """Yield each exported file with its size and accuracy, and what a variant loses."""
    for model, checks in run.parity["models"].items():
        held = checks["held_out"]
        for form, check in ({"": checks["parity"]} | checks["variants"]).items():
            file = ".".join(filter(None, (model, form, "onnx")))
            scores: list[object] = [_with_ends(held, "accuracy"), "", ""]
            if form:
                accuracy = number(held["accuracy"] - check["accuracy_loss"])
                scores = [accuracy, _with_ends(check, "accuracy_loss")]
                scores.append(signed(check["nll_increase"]))
            yield (
                file,
                f"{run.hashes['bytes'][file] / 1e6:.1f}",
                *scores,
                f"{check['max_abs_diff']:.1e}",
                counted(check["n"] if form else check["rows"]),
                counted(check["label_changes"]),
            )


def speeds(run: Finished) -> Rows:
    """Yield milliseconds and images a second of each form of each model, beside torch's."""
    for model, speed in run.latency["models"].items():
        times, rates = speed["milliseconds"], speed["images_per_s"]
        for form, called in _FORMS.items():
            if f"{form}_batch_1" not in times:
                continue
            cells = []
            for batch in ("batch_1", "batch_32"):
                time = times[f"{form}_{batch}"]
                cells += [f"{time:.2f}", f"{time / times[f'torch_{batch}']:.2f}"]
            cells += [f"{rates[f'{form}_{batch}']:,.0f}" for batch in ("batch_1", "batch_32")]
            yield (model, called, *cells)


def weights(run: Finished) -> Rows:
    """Yield what names the weights of each teacher."""
    for (stage, teacher), card in run.cards.items():
        hashes = (short(card.weights_sha256), short(card.fingerprint))
        how = (card.epoch, f"{card.image_size} px", card.training_version)
        yield (STAGE_WORDS[stage], teacher, card.backbone, *hashes, *how)


def machines(run: Finished) -> Rows:
    """Yield code, machine and packages of each training run."""
    for (stage, teacher), environment in run.environments.items():
        place = [f"{environment['system']} {environment['machine']}", environment["device"]]
        place.append(environment["dtype"])
        if environment["device"] != "cpu":
            computing = _COMPUTING.items()
            place += [f"{word} {environment[k]}" for k, word in computing if environment.get(k)]
        versions = environment["packages"]
        packages = [f"{name} {versions[name]}" for name in _PACKAGES if versions.get(name)]
        yield (
            STAGE_WORDS[stage],
            teacher,
            environment["commit"] or "not known",
            ", ".join(place),
            ", ".join([f"Python {environment['python']}", *packages]),
        )


def scarce_classes(run: Finished, *, few: int) -> dict[str, int]:
    """Return the classes with fewer than `few` in-domain rows behind their numbers."""
    n = {name: run.score("f1", by="class", part=name).n for name in run.parts("class")}
    return {name: count for name, count in n.items() if count < few}


def uncommitted(run: Finished) -> list[str]:
    """Return the teachers that were trained with code that no commit holds."""
    return sorted(
        f"{STAGE_WORDS[stage]} {teacher}"
        for (stage, teacher), environment in run.environments.items()
        if not environment["commit"] or environment["commit"].endswith("-dirty")
    )


def _with_ends(check: Mapping[str, Any], name: str) -> Markup:
    low, high = check[f"{name}_95"]
    return estimate(Score(check[name], low, high, check["n"]))
