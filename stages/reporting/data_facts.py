"""What the data are: rows by source, split and class, duplicates, warnings, rejects."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stages.config import CLASSES
from stages.records.schema import SPLITS
from stages.reporting.elements import bullets, paragraph, section, table, wrapped
from stages.reporting.finished import Finished
from stages.reporting.markup import Content, Markup
from stages.reporting.wording import counted


def data_section(run: Finished, *, recipe: Mapping[str, Any]) -> Markup:
    """Counts of the manifest, and what was found and done on the way to it."""
    return section(
        "data",
        "Data",
        table(
            "Rows of the manifest.",
            "By source, split and majority label, as they were trained and reported on.",
            ("source", "split", "all", *CLASSES),
            _counts(run),
            words=2,
        ),
        _duplicates(run),
        _rejects(run, recipe["standardize"]["sources"]),
        _excluded(run),
        _warnings(run),
    )


def _counts(run: Finished) -> Iterator[Sequence[Content]]:
    for source, splits in run.data["final"].items():
        for split in (name for name in SPLITS if name in splits):
            found = splits[split]
            yield (
                source,
                split,
                counted(sum(found.values())),
                *(counted(found[c]) for c in CLASSES),
            )


def _duplicates(run: Finished) -> Markup:
    found, leaks = run.data["duplicates"], run.data["leaks"]
    exact, near, review = found["exact"], found["near"], found["review"]
    left = sum(leaks["left"].values())
    return bullets(
        [
            f"Exact duplicates: {counted(exact['pictures'])} pictures with "
            f"{counted(exact['redundant_rows'])} redundant rows, {counted(exact['across_splits'])} "
            f"of the pictures in more than one split; labels disagree on "
            f"{counted(exact['label_conflicts'])}.",
            f"Near duplicates: {counted(near['pairs'])} pairs, {counted(near['mirrored'])} of them "
            f"mirrored, {counted(near['across_splits'])} across splits; labels disagree on "
            f"{counted(near['label_conflicts'])}. For review: "
            f"{counted(review['pairs'])} pairs more.",
            f"Groups of duplicates on both sides of a split: "
            f"{counted(leaks['found']['train_test_groups'])} of train and test, "
            f"{counted(leaks['found']['train_val_groups'])} of train and val, "
            f"{counted(leaks['found']['val_test_groups'])} of val and test were found; "
            f"{'none is' if not left else f'{counted(left)} are'} left.",
        ]
    )


def _rejects(run: Finished, sources: Mapping[str, Any]) -> Markup:
    rows = [
        (folder, sources[folder]["format"], wrapped(sources[folder]["licence"] or "not declared"),
         wrapped(_told(one["rejects"]) or "none"), counted(one["faces"]),
         counted(sum(one["rejects"].values())))
        for folder, one in run.data["standardized"].items()
    ]  # fmt: skip
    headers = ("dataset", "format", "licence", "rejected for", "faces", "rejects")
    note = "Rejects are raw rows that did not become a face; licences are as the recipe has them."
    return table("Datasets.", note, headers, rows, words=4)


def _excluded(run: Finished) -> Markup:
    found = {reason: n for reason, n in run.data["leaks"]["excluded"].items() if n}
    if not found:
        return paragraph("No face was left out of the manifest for a copy elsewhere.")
    return paragraph(
        f"Left out of the manifest for a copy elsewhere (excluded.csv): {_told(found)}."
    )


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {counted(n)}" for reason, n in counts.items())


def _warnings(run: Finished) -> Markup:
    if run.warnings.empty:
        return paragraph("The manifest stage has no warning.")
    return table(
        "Warnings of the manifest stage.",
        f"{counted(len(run.warnings))} in all (manifests/warnings.csv).",
        ("code", "where", "message"),
        [(r["code"], r["where"], wrapped(r["message"])) for r in run.warnings.to_dict("records")],
        words=3,
    )
