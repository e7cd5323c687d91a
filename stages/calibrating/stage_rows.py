"""The manifest and a stage's filter -> the rows that its models are fitted and reported on.

In domain is what the stage's own filter admits, in val and in test alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from stages.calibrating.published import Manifest
from stages.config import Filter


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
    """Rows to fit on, rows to report on and gates; what chose or fitted the model left the gates.

    `admitted` are the ids that the stage's filter lets through: a gate row among them is in domain.
    """

    val: Account
    test: Account
    gates: Mapping[str, Account]
    admitted: frozenset[str]


def stage_rows(
    manifest: Manifest, *, rows: Filter, stage: str, started_from: Mapping[str, Filter]
) -> StageRows:
    """Choose the rows by the filter that the stage's teachers were trained with.

    `started_from` are the stages whose weights they started from, with the filters of those: what
    chose these weights leaves the gates too.

    Raises:
        UserError: if a name of the filter matches no row.
    """
    admitted = manifest.admitted(rows, key=f"{stage}.filter")
    val, test = (admitted[admitted["split"] == split] for split in ("val", "test"))
    chosen_by = {f"val of {stage}, which chose its weights": set(val["group"])}
    for earlier, its_rows in started_from.items():
        reason = f"val of {earlier}, which chose the weights that {stage} started from"
        chosen_by[reason] = _val_groups(manifest, its_rows, stage=earlier)
    return StageRows(
        val=Account(val, {}),
        test=Account(test, {}),
        gates={name: _gate(gate, chosen_by) for name, gate in manifest.gates.items()},
        admitted=frozenset(admitted["id"]),
    )


def _val_groups(manifest: Manifest, rows: Filter, *, stage: str) -> set[str]:
    admitted = manifest.admitted(rows, key=f"{stage}.filter")
    return set(admitted.loc[admitted["split"] == "val", "group"])


def _gate(rows: pd.DataFrame, chosen_by: Mapping[str, set[str]]) -> Account:
    account = Account(rows, {})
    for place, groups in chosen_by.items():
        among = account.rows["group"].isin(groups)
        account = account.without(among, reason=f"the row or a copy of it is in {place}")
    return account
