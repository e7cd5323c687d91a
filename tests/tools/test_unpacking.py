"""Names of files that every system takes, folders that are whole, and rows that are the right ones."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shipped import shipped

from stages.config import Manifest, View
from stages.runtime.errors import UserError
from stages.splitting.frozen import freeze, publish
from tools.unpacking import (
    MAX_STEM_BYTES,
    file_stems,
    require_vacant,
    rows_named,
    suffix_of,
    unpack,
)  # fmt: skip

ROOT = Path(__file__).parents[2]
DEVICES = ["con", "NUL", "Aux", "prn", "com1", "LPT9", "con.2", "nul .x", "com²"]
RESERVED = '<>:"/\\|?*'


def placed(*ids: str) -> pd.DataFrame:
    """Rows that all go into one folder."""
    return pd.DataFrame({"id": ids, "split": "train", "label": "Sad", "source": "s"})


def hash_of(id_: str) -> str:
    return hashlib.sha256(id_.encode()).hexdigest()[:8]


# --- names ---------------------------------------------------------------------------------------


def test_a_plain_id_is_its_own_file_name() -> None:
    ids = ["ferplus/fer0000000", "expw_hq/photo#0", "r/ürün 1", "x/a.b"]
    assert file_stems(placed(*ids)) == ["fer0000000", "photo#0", "ürün 1", "a.b"]


@pytest.mark.parametrize(
    ("id_", "stem"),
    [
        ("s/train/sad/1", "train_sad_1"),
        ('s/a<b>c:d"e|f?g*h\\i', "a_b_c_d_e_f_g_h_i"),
        ("s/.hidden", "hidden"),
        ("s/dots...", "dots"),
        ("s/space ", "space"),
        ("s/...", "_"),
        ("s/", "_"),
        ("s", "_"),
        *((f"s/{name}", f"_{name}") for name in DEVICES),
        ("s/console", "console"),
        ("s/com10", "com10"),
    ],
)
def test_what_a_system_reserves_is_replaced(id_: str, stem: str) -> None:
    assert file_stems(placed(id_)) == [stem]


def test_names_that_would_be_equal_get_a_hash_of_their_id_all_of_them() -> None:
    ids = ["s/a/b", "s/a_b", "s/A_B", "s/other"]
    expected = [f"a_b-{hash_of(ids[0])}", f"a_b-{hash_of(ids[1])}", f"A_B-{hash_of(ids[2])}"]
    assert file_stems(placed(*ids)) == [*expected, "other"]
    assert file_stems(placed(*ids[::-1])) == ["other", *expected[::-1]]
    # In two folders they stay as they are.
    assert file_stems(placed("a/1", "b/1").assign(label=["Sad", "Happy"])) == ["1", "1"]


def test_a_long_name_is_cut_within_its_bytes_and_tells_its_id() -> None:
    ids = [f"s/{'ä' * 80}{n}" for n in range(2)]
    stems = file_stems(placed(*ids))
    assert all(len(stem.encode()) <= MAX_STEM_BYTES for stem in stems)
    assert [stem.split("-")[1] for stem in stems] == [hash_of(id_) for id_ in ids]


@given(
    st.lists(
        st.one_of(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60),
            st.sampled_from(DEVICES),
            st.text('aA_/.:* -é\u0301e"', max_size=5),
        ),
        unique=True,
        max_size=8,
    )
)
def test_names_hold_on_every_system_and_differ(texts: list[str]) -> None:
    stems = file_stems(placed(*(f"s/{text}" for text in texts)))
    assert len({stem.casefold() for stem in stems}) == len(texts)
    for stem in stems:
        assert stem
        assert not set(stem) & {*RESERVED, *map(chr, range(32))}
        assert stem == stem.strip(" .")
        assert len(stem.encode()) <= 255
        devices = {"con", "prn", "aux", "nul", "com1", "lpt9"}
        assert stem.split(".")[0].rstrip().lower() not in devices


@pytest.mark.parametrize(
    ("head", "suffix"),
    [
        (b"\xff\xd8\xff\xe0", ".jpg"),
        (b"\x89PNG\r\n\x1a\n", ".png"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", ".webp"),
        (b"RIFF\x10\0\0\0WAVEfmt ", ".image"),
        (b"GIF89a", ".gif"),
        (b"BM\x10", ".bmp"),
        (b"II*\0", ".tif"),
        (b"MM\0*", ".tif"),
        (b"P5 2 2", ".pgm"),
        (b"P6 2 2", ".ppm"),
        (b"", ".image"),
    ],
)
def test_the_suffix_is_what_the_bytes_say(head: bytes, suffix: str) -> None:
    assert suffix_of(head) == suffix
    assert suffix_of(memoryview(head + b"....")) == suffix or len(head) < 3


# --- folders -------------------------------------------------------------------------------------


def three_rows(rows) -> pd.DataFrame:
    return rows(
        [{"id": "s/1"}, {"id": "s/2", "label": "Fear"}, {"id": "s/3", "split": "val"}]
    )  # fmt: skip


def png(number: int) -> memoryview:
    return memoryview(b"\x89PNG\r\n\x1a\n" + bytes([number]))


def test_every_file_stands_in_the_index_with_its_own_hash(rows, tmp_path: Path) -> None:
    unpack(tmp_path / "out", three_rows(rows), images=map(png, range(3)))
    index = pd.read_csv(tmp_path / "out" / "index.csv")
    assert index.columns.tolist() == ["file", "id", "source", "split", "label", "sha256"]
    assert index["file"].tolist() == ["train/Happy/1.png", "train/Fear/2.png", "val/Happy/3.png"]
    assert index["id"].tolist() == ["s/1", "s/2", "s/3"]
    for number, (file, sha256) in enumerate(zip(index["file"], index["sha256"], strict=True)):
        data = (tmp_path / "out" / file).read_bytes()
        assert data == bytes(png(number))
        assert hashlib.sha256(data).hexdigest() == sha256


def test_each_split_has_all_class_folders_and_empty_ones_are_told(
    rows, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unpack(tmp_path / "out", three_rows(rows), images=map(png, range(3)))
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["index.csv", "train", "val"]
    assert len(list((tmp_path / "out").glob("*/*/"))) == 14
    assert "train: no images of Angry, Disgust, Sad, Surprise, Neutral;" in caplog.text
    assert "suffixes" not in caplog.text


def test_files_that_image_folder_passes_over_are_counted(
    rows, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = [memoryview(b"GIF89a"), memoryview(b"????"), memoryview(b"GIF87a")]
    unpack(tmp_path / "out", three_rows(rows), images=images)
    assert "passes over files of these suffixes: {'.gif': 2, '.image': 1}" in caplog.text


def test_an_error_on_the_way_leaves_nothing(rows, tmp_path: Path) -> None:
    def broken():
        yield png(0)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        unpack(tmp_path / "out", three_rows(rows), images=broken())
    assert list(tmp_path.iterdir()) == []


def test_what_came_to_lie_there_meanwhile_is_not_deleted(rows, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def images():
        yield from map(png, range(3))
        out.mkdir()
        (out / "mine.txt").write_text("precious")

    with pytest.raises(UserError, match=r"expected a new or an empty folder, found mine\.txt"):
        unpack(out, three_rows(rows), images=images())
    assert (out / "mine.txt").read_text() == "precious"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_kill_leaves_no_folder_of_that_name(tmp_path: Path) -> None:
    script = """
import sys, time
from pathlib import Path
import pandas as pd
from tools.unpacking import unpack
rows = pd.DataFrame({"id": ["s/1", "s/2"], "split": "train", "label": "Sad", "source": "s"})
def images():
    yield memoryview(b"BM1")
    print("one", flush=True)
    time.sleep(60)
unpack(Path(sys.argv[1]), rows, images=images())
"""
    command = [sys.executable, "-c", script, str(tmp_path / "out")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"one\n"
        os.kill(process.pid, signal.SIGKILL)
    assert list(tmp_path.rglob("*.bmp"))
    assert not (tmp_path / "out").exists()


def test_only_a_new_or_an_empty_folder_is_vacant(tmp_path: Path) -> None:
    require_vacant(tmp_path / "new" / "deep")
    (tmp_path / "empty").mkdir()
    require_vacant(tmp_path / "empty")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="got something else"):
        require_vacant(tmp_path / "file")
    with pytest.raises(UserError, match="expected a new or an empty folder, found "):
        require_vacant(tmp_path)


# --- rows ----------------------------------------------------------------------------------------


@pytest.fixture
def manifests(faces, one_of_each_class, tmp_path: Path) -> Path:
    """Source `zz` (9 rows), source `yy` (1 row), groups, and views, two of them called as others."""
    section = shipped(
        Manifest,
        source_groups={"both": ("yy", "zz"), "lost": ("zz", "xx")},
        views={
            "tests": View(splits=("test",), include_sources=("zz",)),
            "yy": View(include_sources=("yy",)),
            "zz": View(include_sources=("zz",), splits=("train",)),
        },
        val_share=0.0,
        test_share=0.0,
    )
    specs = [*one_of_each_class, {"id": "yy/1", "split": "train"}]
    frozen = freeze(faces(specs), section=section, seed=1)
    publish(tmp_path / "manifests", frozen, warnings=pd.DataFrame(), section=section)
    return tmp_path / "manifests"


@pytest.mark.parametrize(
    ("name", "count"), [("both", 10), ("yy", 1), ("tests", 1), ("classification_manifest", 10)]
)
def test_a_name_is_a_source_a_group_or_a_view(manifests: Path, name: str, count: int) -> None:
    assert len(rows_named(manifests, name)) == count


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tets", r"no source, source group or view 'tets'; known: \['both', 'classification_mani"),
        ("tets", r"did you mean 'tests'\?"),
        ("duplicates", "no source, source group or view 'duplicates'"),
        ("lost", r"source group 'lost': no rows of \['xx'\]; known: \['yy', 'zz'\]"),
        ("zz", r"'zz' names 9 rows of zz and a view of 7, not the same"),
    ],
)
def test_a_name_that_is_wrong_or_means_two_things_is_refused(
    manifests: Path, name: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        rows_named(manifests, name)


def test_a_view_that_was_changed_or_lost_is_refused(manifests: Path) -> None:
    path = manifests / "tests.csv"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(UserError, match=r"manifests/tests\.csv: changed since it was written"):
        rows_named(manifests, "tests")
    path.unlink()
    with pytest.raises(UserError, match=r"tests\.csv: no such file"):
        rows_named(manifests, "tests")
