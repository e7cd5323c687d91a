"""Runs in `.work` as a table for people."""

from collections.abc import Sequence

from tools.runs import Kept

_COLUMNS = (
    "stage", "teacher", "fingerprint", "state", "epoch", "size", "last write", "held by",
)  # fmt: skip


def table(kept: Sequence[Kept]) -> str:
    """One line each, columns aligned, and the sum."""
    rows = [_COLUMNS, *(_cells(one) for one in kept)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(_COLUMNS))]
    right = {_COLUMNS.index("size"), _COLUMNS.index("last write")}
    lines = [
        "  ".join(
            cell.rjust(width) if k in right else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    total = readable_size(sum(one.num_bytes for one in kept))
    return "\n".join([*lines, f"{len(kept)} in .work: {total}"])


def readable_size(num_bytes: int) -> str:
    """As `1.2 GB`."""
    for unit, power in (("GB", 9), ("MB", 6), ("kB", 3)):
        if num_bytes >= 10**power:
            return f"{num_bytes / 10**power:.1f} {unit}"
    return f"{num_bytes} B"


def _cells(one: Kept) -> tuple[str, ...]:
    return (
        one.stage,
        one.teacher,
        one.fingerprint,
        one.state,
        one.epoch,
        readable_size(one.num_bytes),
        _readable_age(one.age_days),
        one.holder,
    )


def _readable_age(days: float) -> str:
    minutes = days * 24 * 60
    if minutes < 120:
        return f"{minutes:.0f} min ago"
    return f"{minutes / 60:.0f} h ago" if days < 2 else f"{days:.0f} days ago"
