"""A finished run and its recipe -> what the page says of data, exports, machines and limits."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stages.calibrating.score_table import Score
from stages.faces.labels import CLASSES
from stages.records.schema import SPLITS
from stages.reporting.finished import Finished
from stages.reporting.wording import STAGE_WORDS, counted, estimate, number, place_words, reasons, short, signed, wrapped

_FORMS = {"torch": "torch", "onnx": "onnx, fp32", "fp16": "fp16", "int8": "int8"}
_FEW = 30
# What decides over numbers; environment.json of each run names all packages.
_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "pandas",
    "pyarrow",
    "opencv-python",
    "opencv-python-headless",
    "simplejpeg",
    "scikit-learn",
    "scipy",
    "onnx",
    "onnxruntime",
    "dvc",
)
_COMPUTING = {"cuda": "CUDA", "cudnn": "cuDNN", "driver": "driver"}

Rows = Iterator[Sequence[object]]
Recipe = Mapping[str, Any]


def manifest_rows(run: Finished) -> Rows:
    """Yield the rows of the manifest by source and split: all, then each class."""
    table = run.counted("rows").pivot_table(
        index=["source", "split"], columns="label", values="rows", aggfunc="sum", fill_value=0
    )
    for source in table.index.unique("source"):
        for split in (name for name in SPLITS if (source, name) in table.index):
            counts = table.loc[(source, split)].reindex(list(CLASSES), fill_value=0)
            yield (source, split, counted(counts.sum()), *map(counted, counts))


def manifest_counts(run: Finished) -> dict[str, dict[str, dict[str, int]]]:
    """Return the counts of duplicates and leaks, by subject, part and name."""
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for row in run.counted("counts").itertuples(index=False):
        counts.setdefault(row.subject, {}).setdefault(row.part, {})[row.count] = int(row.value)
    return counts


def datasets(run: Finished, recipe: Recipe) -> Rows:
    """Yield each dataset with its licence, faces and rejects."""
    rejects = run.counted("rejects")
    for row in run.counted("standardized").to_dict("records"):
        source = recipe["standardize"]["sources"][row["source"]]
        reason = rejects[rejects["source"] == row["source"]].set_index("reason")["rows"]
        yield (
            row["source"],
            source["format"],
            wrapped(source["licence"] or "not declared"),
            wrapped(reasons(reason) or "none"),
            counted(row["faces"]),
            counted(row["rejects"]),
        )


def excluded(run: Finished) -> dict[str, int]:
    """Return why faces were left out of the manifest for a copy elsewhere, with their number."""
    return {reason: n for reason, n in manifest_counts(run)["leaks"]["excluded"].items() if n}


def warnings(run: Finished) -> Rows:
    """Yield the warnings of the manifest stage."""
    for row in run.warnings.to_dict("records"):
        yield (row["code"], row["where"], wrapped(row["message"]))


def files(run: Finished) -> Rows:
    """Yield each exported file with its size and accuracy, and what a variant loses."""
    for model, checks in run.parity["models"].items():
        parity, held = checks["parity"], checks["held_out"]
        yield (
            f"{model}.onnx",
            _megabytes(run, f"{model}.onnx"),
            estimate(Score(held["accuracy"], *held["accuracy_95"], held["n"])),
            "",
            "",
            f"{parity['max_abs_diff']:.1e}",
            counted(parity["rows"]),
            counted(parity["label_changes"]),
        )
        for variant, loss in checks["variants"].items():
            yield (
                f"{model}.{variant}.onnx",
                _megabytes(run, f"{model}.{variant}.onnx"),
                number(held["accuracy"] - loss["accuracy_loss"]),
                estimate(Score(loss["accuracy_loss"], *loss["accuracy_loss_95"], loss["n"])),
                signed(loss["nll_increase"]),
                f"{loss['max_abs_diff']:.1e}",
                counted(loss["n"]),
                counted(loss["label_changes"]),
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
        hashes = (short(card["weights_sha256"]), short(card["fingerprint"]))
        how = (card["epoch"], f"{card['image_size']} px", card["recipe_version"])
        yield (STAGE_WORDS[stage], teacher, card["backbone"], *hashes, *how)


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
            wrapped(environment["commit"] or "not known"),
            wrapped(", ".join(place)),
            wrapped(", ".join([f"Python {environment['python']}", *packages])),
        )


def limits(run: Finished, recipe: Recipe) -> Iterator[str]:
    """Yield what the numbers of this run do not say."""
    few = {}
    for name in run.parts("class"):
        if (n := run.score("f1", by="class", part=name).n) < _FEW:
            few[name] = n
    if few:
        yield f"Classes with fewer than {_FEW} rows of {run.rows} behind their numbers: {reasons(few)}."
    if (reason := run.fit().temperature_no_fit) is not None:
        yield f"The probabilities are not calibrated: no temperature could be fitted, {reason}."
    gates = run.places[1:]
    if not gates:
        yield "No gate: all numbers are in domain."
    for rows in gates:
        n, gate = run.num_rows(rows=rows), place_words(rows)
        in_domain = int(run.score("in_domain", rows=rows).value)
        if in_domain:
            yield (
                f"{counted(in_domain)} of the {counted(n)} rows of {gate} are in domain: of them "
                "it says nothing about other data."
            )
        if n < 10 * _FEW:
            yield f"{gate.capitalize()} rests on {counted(n)} rows."
    sources = recipe["standardize"]["sources"]
    unknown = [name for name, source in sources.items() if not source["licence"]]
    if unknown:
        yield f"No licence is declared for {', '.join(unknown)}."
    dirty = sorted(
        f"{STAGE_WORDS[stage]} {teacher}"
        for (stage, teacher), environment in run.environments.items()
        if not environment["commit"] or environment["commit"].endswith("-dirty")
    )
    if dirty:
        yield (
            "Trained with code that no commit holds (uncommitted changes): "
            f"{', '.join(dirty)}."
        )


def _megabytes(run: Finished, file: str) -> str:
    return f"{run.hashes['bytes'][file] / 1e6:.1f}"
