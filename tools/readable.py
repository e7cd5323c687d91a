"""A model's JSON -> a table for people."""

from collections.abc import Iterator

from stages.calibrating.blocks import CHOOSING, Block
from stages.scoring.confidence import floor_cell

_COLUMNS = (("accuracy", 20), ("macro_f1", 20), ("nll", 20), ("brier", 20), ("ece", 20))
_TITLES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "nll": "NLL",
    "brier": "Brier",
    "ece": "ECE",
}
_TITLE_WIDTH = 34


def readable(found: Block) -> str:
    """What was fitted, then each block in domain and at gates, raw and scaled, with intervals."""
    lines = list(_head_lines(found))
    blocks = _in_domain(found)
    blocks |= {f"gate {name}": entry for name, entry in found["gates"].items()}
    for title, entry in blocks.items():
        lines += ["", *_block_lines(title, entry)]
    return "\n".join([*lines, *_held_out_lines(found), *_vote_lines(found["votes"])])


def _in_domain(found: Block) -> dict[str, Block]:
    """The full block: of test, else of val by folds; or of the rows of a file."""
    name = next(name for name in ("test", "rows", "val") if found.get(name))
    return {name: found[name]}


def _head_lines(found: Block) -> Iterator[str]:
    (block,) = _in_domain(found).values()
    weights = ", ".join(sha[:12] for sha in block["about"][0]["weights_sha256"])
    yield f"{found['stage']} {found['teacher']}, weights {weights}"
    for file in found.get("file", []):
        yield f"file {file['name']}, {file['precision']}, SHA-256 {file['sha256'][:12]}"
    for row in found.get("trained_on", []):
        number = f"unknown: {row['unknown']}" if row["unknown"] else row["trained_on"]
        yield f"of {row['rows']} rows, trained on (they or copies of them): {number}"
    if not found["fit"]:
        yield f"temperature {found['temperature']:.4f}, as the file says"
    for fit in found["fit"]:
        rows = f"fitted on {fit['n']} {fit['fitted_on']} rows"
        yield f"temperature {_temperature(fit, 'temperature', rows=rows)}"
        if fit["votes_temperature"] is not None:
            rows = f"fitted on {fit['votes_n']} rows with votes"
            yield f"temperature for votes {_temperature(fit, 'votes_temperature', rows=rows)}"
        refinement = fit["refinement"]
        word = "adopted" if refinement["adopted"] else "not adopted"
        yield f"bias per class: {word}, {refinement['reason']}"


def _temperature(fit: Block, name: str, *, rows: str) -> str:
    if fit[f"{name}_no_fit"] is not None:
        return f"{fit[name]:g}: no fit, {fit[f'{name}_no_fit']}"
    low, high = fit[f"{name}_95"]
    return f"{fit[name]:.4f} [{low:.3f} {high:.3f}], {rows}"


def _block_lines(title: str, entry: Block) -> Iterator[str]:
    for row in entry["left_out"]:
        if row["rows"]:
            yield f"{title}: {row['rows']} rows left out: {row['reason']}"
    if not entry["n"]:
        yield f"{title}: no rows"
        return
    yield f"{title}: {entry['n']} rows; fitted on {entry['about'][0]['fitted_on']}"
    if entry.get("in_domain"):
        yield f"{title}: {entry['in_domain']} rows are in domain: they are no other data"
    header = "".join(f"{_TITLES[name]:<{width}}" for name, width in _COLUMNS)
    yield f"  {'':<{_TITLE_WIDTH}}{header}ECE floor (95 %)"
    for row in entry["scores"]:
        yield _score_line(row["probabilities"], row)
    for key in ("per_source", "per_native_px", "row_sets"):
        for row in entry[key]:
            yield _score_line(f"{_part_name(key, row)}, n {row['n']}", row)
    yield "  F1: " + ", ".join(_class_score(row) for row in entry["per_class"])


def _class_score(row: Block) -> str:
    return f"{row['class']} {row['f1']:.3f}" if row["n"] else f"{row['class']} no rows"


def _part_name(key: str, row: Block) -> str:
    if key == "row_sets":
        return str(row["rows"])
    unit = " px" if key == "per_native_px" else ""
    return f"{row[key.removeprefix('per_')]}{unit}"


def _held_out_lines(found: Block) -> Iterator[str]:
    """Val by folds, which models are chosen by, where the full block is of test."""
    if not found.get("test") or not found["val"]["n"]:
        return
    row = found["val"]
    cells = ", ".join(f"{_TITLES[name]} {_with_interval(row, name)}" for name in CHOOSING)
    yield ""
    yield f"val, by folds: {row['n']} rows: {cells}"


def _vote_lines(votes: Block) -> Iterator[str]:
    if not votes["n"]:
        return
    yield ""
    yield f"votes of {votes['about'][0]['reported_on']}: {votes['n']} rows"
    for row in votes["scores"]:
        yield f"  {row['probabilities']:<{_TITLE_WIDTH}}KL {_with_interval(row, 'kl')}"


def _score_line(title: str, row: Block) -> str:
    cells = "".join(f"{_with_interval(row, name):<{width}}" for name, width in _COLUMNS)
    return f"  {title:<{_TITLE_WIDTH}}{cells}{floor_cell(row)}"


def _with_interval(row: Block, name: str) -> str:
    low, high = row[f"{name}_95"]
    return f"{row[name]:.3f} [{low:.3f} {high:.3f}]"
