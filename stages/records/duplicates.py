"""Copies of pictures, as a table for people. Which rows leave because of them is splits.py."""

import pandas as pd

PAIR_COLUMNS = ("id_a", "id_b", "group", "kind", "same_label", "split_a", "split_b")


def copy_pairs(rows: pd.DataFrame) -> pd.DataFrame:
    """Each picture that repeats another one's pixels, beside the first id that has them.

    `rows` come in the order of their ids; n copies of a picture make n - 1 pairs. The splits are
    those before anything is excluded. `same_label` is `true` or `false`: copies that disagree
    measure the noise of labels.
    """
    first = rows.drop_duplicates("sha256").set_index("sha256")
    again = rows[rows["sha256"].duplicated()].reset_index(drop=True)
    twin = first.loc[again["sha256"]].reset_index(drop=True)
    pairs = pd.DataFrame(
        {
            "id_a": twin["id"],
            "id_b": again["id"],
            "group": again["group"],
            "kind": "exact",
            "same_label": (twin["label"] == again["label"]).map({True: "true", False: "false"}),
            "split_a": twin["split"],
            "split_b": again["split"],
        },
        columns=list(PAIR_COLUMNS),
    )
    return pairs.sort_values(["id_a", "id_b"], ignore_index=True)
