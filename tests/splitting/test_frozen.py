import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shipped import shipped
from small_faces import small_face, write_faces

from stages.config import Duplicates, Manifest, View
from stages.records.schema import SHARE_COLUMNS, read_manifest
from stages.runtime.errors import UserError
from stages.runtime.files import sha256_file
from stages.splitting.frozen import freeze, manifest_rows, publish, read_all_faces
from stages.splitting.splits import share_no_group
from stages.survey.counts import REASONS
from tests.splitting.conftest import NEAR, PICTURE

SHARES = shipped(Manifest, val_share=0.3, test_share=0.3)
VIEWS = shipped(
    Manifest,
    source_groups={"mine": ("zz",)},
    views={"gates": View(gate=True, splits=("test",)), "train": View(splits=("train",))},
)
PAIR_HEADER = "id_a,id_b,group,kind,mirrored,correlation,same_label,split_a,split_b"
WARNINGS = pd.DataFrame({"code": ["few_rows"], "where": ["zz test"], "message": ["too few, I say"]})
searched = settings(suppress_health_check=[HealthCheck.too_slow], max_examples=25)

splits = st.sampled_from(["train", "test", None])
any_row = st.tuples(st.sampled_from("stu"), st.integers(0, 9), st.integers(0, 12), splits)
specs = st.lists(any_row, max_size=20)


def several(drawn: list[Any], *, prefix: str = "", photo: str = "p") -> list[dict[str, Any]]:
    return [
        {"id": f"{prefix}{source}/{i:02d}", "sha256": f"{pixel:064x}", "split": split}
        | {"photo": photo.format(prefix + source) + str(number)}
        for i, (source, number, pixel, split) in enumerate(drawn)
    ]


def test_rows_are_in_the_order_of_their_ids_with_shares_and_confidence(faces) -> None:
    votes = [np.array([1, 0, 0, 2, 0, 0, 0], "float32"), np.zeros(7, "float32")]
    hq = {"id": "expw_hq/b/b.jpg#1", "votes": votes[0], "confidence": 0.7}
    rows = manifest_rows(faces([{"id": "expw_lq/c.jpg#2", "votes": votes[1]}, hq, {"id": "a/a"}]))
    assert rows["source"].to_list() == ["a", "expw_hq", "expw_lq"]
    shares = rows[list(SHARE_COLUMNS)].to_numpy()
    assert np.isnan(shares[[0, 2]]).all()
    assert shares[1].tolist() == [0.333333, 0, 0, 0.666667, 0, 0, 0]
    # As the detector wrote it; float32 would give 0.699999988.
    assert rows["confidence"].fillna(-1).to_list() == [-1, 0.7, -1]
    twice = faces([{"id": "s/a"}, {"id": "s/b"}, {"id": "s/a", "photo": "other"}])
    with pytest.raises(UserError, match=r"expected each id once, got 1 ids .* \['s/a'\]"):
        manifest_rows(twice)


def test_faces_are_held_against_the_indexes(tmp_path: Path) -> None:
    write_faces(tmp_path / "standardized/s", [small_face("s/a")])
    assert read_all_faces(tmp_path / "standardized")["id"].to_list() == ["s/a"]
    path = tmp_path / "standardized/s/index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"faces": 2}))
    with pytest.raises(UserError, match=r"expected \{'s': 2\}, got 1"):
        read_all_faces(tmp_path / "standardized")


@given(specs, st.randoms())
@searched
def test_rows_and_excluded_part_the_faces(faces, one_of_each_class, drawn, random) -> None:
    every = [*several(drawn), *one_of_each_class]
    frozen = freeze(faces(every), section=shipped(Manifest), seed=1)
    kept, left = frozen.rows["id"].to_list(), frozen.excluded["id"].to_list()
    assert sorted([*kept, *left]) == sorted(face["id"] for face in every)
    assert kept == sorted(kept)
    assert share_no_group(frozen.rows)
    assert set(frozen.excluded["reason"]) <= set(REASONS)
    random.shuffle(every)
    again = freeze(faces(every), section=shipped(Manifest), seed=1)
    for name in ("rows", "excluded", "duplicates"):
        assert getattr(again, name).equals(getattr(frozen, name))


@given(specs, specs)
@searched
def test_a_source_that_is_added_changes_no_split(faces, one_of_each_class, old, new) -> None:
    """Its rows share pictures with the others: those may leave for a twin, but none changes side."""
    before = [*several(old, prefix="m", photo="{}/p"), *one_of_each_class]
    first = freeze(faces(before), section=SHARES, seed=1)
    added = several(new, prefix="a", photo="{}/p")
    second = freeze(faces([*before, *added]), section=SHARES, seed=1)
    splits = [frozen.drawn.set_index("id")["split"] for frozen in (first, second)]
    assert splits[1].loc[splits[0].index].equals(splits[0])
    gone = set(first.rows["id"]) - set(second.rows["id"])
    assert gone <= set(second.excluded["id"])


@pytest.mark.parametrize(
    ("policy", "split_b", "excluded"),
    [
        ("drop_from_train", "test", [["s/1", "near_twin_in_test", "s/2"]]),
        ("drop_from_train", "train", []),
        ("keep_one", "train", [["s/2", "copy_of_kept", "s/1"]]),
        ("report_only", "test", []),
    ],
)
def test_near_twins_leave_by_policy(faces, one_of_each_class, policy, split_b, excluded) -> None:
    section = shipped(Manifest, duplicates=shipped(Duplicates, policy=policy))
    twins = [
        {"id": "s/1", "split": "train", "thumbnail": PICTURE},
        {"id": "s/2", "split": split_b, "thumbnail": NEAR},
    ]
    frozen = freeze(faces([*one_of_each_class, *twins]), section=section, seed=1)
    assert frozen.excluded[["id", "reason", "detail"]].to_numpy().tolist() == excluded
    twin = frozen.drawn.set_index("id").loc["s/2"]
    beside = "train" if split_b == "test" else ""
    assert (twin["official"], twin["twin_splits"], twin["group"]) == (split_b, beside, "s/1")


def test_a_class_whose_only_train_row_leaves_is_named(faces, one_of_each_class) -> None:
    every = [face | {"sha256": face["id"]} for face in one_of_each_class]
    every[2] |= {"sha256": "zz/test"}
    expected = r"params.yaml: manifest: expected train rows .* \['Fear'\].* \{'twin_in_test': 1\}"
    with pytest.raises(UserError, match=expected):
        freeze(faces(every), section=shipped(Manifest), seed=1)


@pytest.mark.parametrize("names", [["Excluded"], ["mine", "Mine"]])
def test_view_names_that_would_share_a_file(faces, one_of_each_class, names: list[str]) -> None:
    section = shipped(Manifest, views=dict.fromkeys(names, View()))
    expected = rf"manifest\.views\.{names[-1]}: expected a name of its own"
    with pytest.raises(UserError, match=expected):
        freeze(faces(one_of_each_class), section=section, seed=1)


def test_the_folder(faces, one_of_each_class, tmp_path: Path) -> None:
    copy = {"id": "s/1", "split": "train", "sha256": "0" * 64}
    build = faces([*one_of_each_class, copy, copy | {"id": "s/2", "split": "test"}])
    frozen = freeze(build, section=VIEWS, seed=1)
    (tmp_path / "stale.csv").touch()
    entries = publish(tmp_path, frozen, warnings=WARNINGS, section=VIEWS)
    index = json.loads((tmp_path / "index.json").read_text())
    assert index == {"source_groups": {"mine": ["zz"]}, "files": entries}
    assert {path.name for path in tmp_path.iterdir()} == {*entries, "index.json"}
    assert set(frozen.views["gates"]["split"]) == {"test"}
    for name, entry in entries.items():
        rows, digest = len(pd.read_csv(tmp_path / name)), sha256_file(tmp_path / name)
        assert entry == {"sha256": digest, "rows": rows, "gate": name == "gates.csv"}
    written = read_manifest(tmp_path / "classification_manifest.csv")
    pd.testing.assert_frame_equal(written, frozen.rows)
    assert list(entries)[:3] == ["classification_manifest.csv", "gates.csv", "train.csv"]
    assert {name: (tmp_path / name).read_text() for name in list(entries)[3:]} == {
        "excluded.csv": "id,source,label,split,reason,detail\ns/1,s,Happy,train,twin_in_test,s/2\n",
        "duplicates.csv": f"{PAIR_HEADER}\ns/1,s/2,s/1,exact,false,1.0,true,train,test\n",
        "review.csv": f"{PAIR_HEADER}\n",
        "warnings.csv": 'code,where,message\nfew_rows,zz test,"too few, I say"\n',
    }
