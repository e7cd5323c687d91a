"""What was exported: files, what their variants lose, how fast they are, soft labels."""

from collections.abc import Iterator, Sequence

from stages.reporting.elements import paragraph, section, table
from stages.reporting.finished import Block, Finished
from stages.reporting.markup import Content, Markup
from stages.reporting.wording import counted, estimate, number, signed

SOFT_LABELS = "soft_labels"
VARIANTS = ("fp16", "int8")

_FORMS = ("torch", "onnx", *VARIANTS)
_CALLED = {"onnx": "onnx, fp32"}


def exports_section(run: Finished) -> Markup:
    """The files of models/export/ as export has measured them."""
    models = {name: one for name, one in run.exported.items() if name != SOFT_LABELS}
    setting = next(iter(models.values()))["latency_setting"][0]
    held = next(iter(models.values()))["held_out"]
    return section(
        "export",
        "Export",
        paragraph(
            "models/export/model_card.md and docs/exports.md say how to use the files."
        ),
        table(
            "Files.",
            f"Accuracy on {counted(held['n'])} rows of {held['split']} of all sources that no "
            "teacher was trained on, majority labels; losses against the fp32 file, below 0 is a "
            "gain. Differences are of probabilities: of fp32 to torch on the parity rows (their n "
            "beside it), of a variant to fp32.",
            ("file", "MB", "accuracy", "loss of accuracy", "NLL increase",
             "largest difference", "n", "changed classes"),
            [row for name, one in models.items() for row in _files(name, one)],
        ),
        table(
            "Speed on the CPU.",
            f"Medians on {setting['threads']} threads, taken in turns in one run "
            f"({setting['repeats_batch_1']} and {setting['repeats_batch_32']} repeats for "
            f"{next(iter(models))}); share of torch: below 1 is faster.",
            ("model", "form", "ms, batch 1", "share of torch", "ms, batch 32", "share of torch",
             "images/s, batch 1", "images/s, batch 32"),
            [row for name, one in models.items() for row in _speeds(name, one)],
            words=2,
        ),
        _soft_labels(run),
    )  # fmt: skip


def _files(name: str, one: Block) -> Iterator[Sequence[Content]]:
    held = one["held_out"]
    yield (
        f"{name}.onnx", _megabytes(one), estimate(held["accuracy"], held["accuracy_95"]), "", "",
        f"{one['max_abs_diff']:.1e}", counted(one["n"]), counted(one["top_class_changes"]),
    )  # fmt: skip
    for variant in VARIANTS:
        if variant in one:
            loss = one[variant]
            yield (
                f"{name}.{variant}.onnx", _megabytes(loss),
                number(held["accuracy"] - loss["accuracy_loss"]),
                estimate(loss["accuracy_loss"], loss["accuracy_loss_95"]),
                signed(loss["nll_increase"]), f"{loss['max_abs_diff']:.1e}", counted(loss["n"]),
                counted(loss["top_class_changes"]),
            )  # fmt: skip


def _speeds(name: str, one: Block) -> Iterator[Sequence[Content]]:
    taken, rate = one["latency_ms"], one["images_per_s"]
    for form in _FORMS:
        if f"{form}_batch_1" in taken:
            cells: list[Content] = []
            for batch in (1, 32):
                key = f"batch_{batch}"
                milliseconds = taken[f"{form}_{key}"]
                cells += [f"{milliseconds:.2f}", f"{milliseconds / taken[f'torch_{key}']:.2f}"]
            rates = (f"{rate[f'{form}_batch_{batch}']:,.0f}" for batch in (1, 32))
            yield (name, _CALLED.get(form, form), *cells, *rates)


def _soft_labels(run: Finished) -> Markup:
    labels, about = run.exported[SOFT_LABELS], run.hashes[SOFT_LABELS]
    warning = " Nearly one-hot: a student learns little more than from the labels."
    return paragraph(
        f"Soft labels: {counted(labels['n'])} rows of the view {about['view']}; mean top "
        f"probability {number(labels['mean_top_probability'])} calibrated, "
        f"{number(labels['mean_top_probability_distilled'])} at the distillation temperature "
        f"{labels['distillation_temperature']:g} of the recipe (set, not fitted); the most "
        f"probable class is the majority label on {number(labels['label_agreement'])} of them, "
        f"rows that the teachers learnt from included.{warning if labels['nearly_one_hot'] else ''}"
    )


def _megabytes(one: Block) -> str:
    return f"{one['bytes'] / 1e6:.1f}"
