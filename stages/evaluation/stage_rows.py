"""The manifest and a stage's filter -> the rows that its models are fitted and reported on.

In domain is what the stage's own filter admits, in val and in test alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from stages.config import Filter
from stages.evaluation.published import Manifest


@dataclass(frozen=True)
class Account:
    """Rows, and how many were left out of them for what reason."""

    rows: pd.DataFrame
    left_out: Mapping[str, int]

    def without(self, mask: pd.Series, *, reason: str) -> "Account":
        """The rows outside of the mask (N,); those inside are counted under the reason."""
        return Account(self.rows[~mask], {**self.left_out, reason: int(mask.sum())})


@dataclass(frozen=True)
class StageRows:
    """Rows to fit on, rows to report on and gates; what is fitted on has left the gates.

    `admitted` are the ids that the stage's filter lets through: a gate row among them is in domain.
    """

    val: Account
    test: Account
    gates: Mapping[str, Account]
    admitted: frozenset[str]


def stage_rows(manifest: Manifest, *, rows: Filter, stage: str) -> StageRows:
    """Choose the rows by the filter that the stage's teachers were trained with.

    Raises:
        UserError: if a name of the filter matches no row.
    """
    admitted = manifest.admitted(rows, key=f"{stage}.filter")
    val, test = (admitted[admitted["split"] == split] for split in ("val", "test"))
    return StageRows(
        val=Account(val, {}),
        test=Account(test, {}),
        gates={
            name: Account(gate, {}).without(
                gate["group"].isin(set(val["group"])),
                reason=f"the row or a copy of it is in val of {stage}, which chose its weights",
            )
            for name, gate in manifest.gates.items()
        },
        admitted=frozenset(admitted["id"]),
    )
