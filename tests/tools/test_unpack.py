"""The unpack door behind the real doors, and names of files that every system takes."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_faces import small_face, write_faces
from small_project import IMAGES
from torchvision.datasets import ImageFolder

from stages.config import CLASSES
from stages.faces.shards import read_faces
from stages.runtime.errors import UserError
from stages.runtime.files import read_json, write_json
from tools import unpack as door
from tools.unpacking import MAX_STEM_BYTES, file_stems, require_vacant, suffix_of, unpack


@pytest.fixture
def project(prepared: Callable[..., Path]) -> Path:
    """The small project after manifest, with source groups, as the current folder."""
    folder = prepared()
    index = read_json(folder / "manifests" / "index.json")
    index["source_groups"] = {"all": ["toy"], "lost": ["toy", "xx"]}
    write_json(folder / "manifests" / "index.json", index)
    return folder


@pytest.fixture
def refusal(project: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """A function that unpacks in vain and returns the message; no file is written."""

    def run(name: str) -> str:
        before = sorted(project.rglob("*"))
        assert door.main([name, "out"]) == 2
        assert sorted(project.rglob("*")) == before
        return capsys.readouterr().err

    return run


def test_image_folder_reads_the_raw_bytes_of_every_row_in_seven_classes(project: Path) -> None:
    (project / "out").mkdir()
    assert door.main(["toy", "out"]) == 0
    for split, number in IMAGES.items():
        dataset = ImageFolder(str(project / "out" / split))
        assert dataset.classes == sorted(CLASSES)
        assert len(dataset) == number * len(CLASSES)
    assert (project / "out/train/Sad/train_Sad_train0.png.png").exists()
    index = pd.read_csv(project / "out" / "index.csv")
    assert index.columns.tolist() == ["file", "id", "source", "split", "label", "sha256"]
    rows = pd.read_csv(project / "manifests" / "classification_manifest.csv").set_index("id")
    kept = index.set_index("id")[["source", "split", "label"]]
    pd.testing.assert_frame_equal(kept, rows.loc[kept.index, ["source", "split", "label"]])
    for row in index.itertuples():
        data = (project / "out" / row.file).read_bytes()
        assert data == (project / "raw" / row.id).read_bytes()
        assert hashlib.sha256(data).hexdigest() == row.sha256


@pytest.mark.parametrize(
    ("name", "count"), [("all", 140), ("toy_train", 70), ("classification_manifest", 140)]
)
def test_a_source_a_group_or_a_view(project: Path, caplog, name: str, count: int) -> None:
    caplog.set_level("INFO")
    assert door.main([name, "out"]) == 0
    assert f"out: {count} images of {name}: " in caplog.text
    assert len(list((project / "out").glob("*/*/*"))) == count


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("toy_trai", "no source, source group or view 'toy_trai'; known: ["),
        ("toy_trai", "did you mean 'toy_train'?"),
        ("excluded", "no source, source group or view 'excluded'"),
        ("lost", "source group 'lost': no rows of ['xx']; known: ['toy']"),
        ("toy_train", "'toy_train' names 140 rows of toy and a view of 70, not the same"),
    ],
)
def test_incident_D3_an_unknown_name_is_refused_with_the_known_ones(
    project: Path, refusal, name: str, expected: str
) -> None:
    index = read_json(project / "manifests" / "index.json")
    index["source_groups"]["toy_train"] = ["toy"]
    write_json(project / "manifests" / "index.json", index)
    assert expected in refusal(name)


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ("/train/", "70 of 140 manifest rows have no image: toy/test/Angry/test0.png, toy/"),
        ("/", "140 of 140 manifest rows have another picture than when the manifest was made"),
    ],
)
def test_incident_D7_rows_without_their_image_are_one_error_before_anything_is_written(
    project: Path, refusal, kept: str, expected: str
) -> None:
    folder = project / "standardized" / "toy"
    ids = read_faces(project / "standardized", ["id"])["id"]
    shutil.rmtree(folder)
    write_faces(folder, [small_face(id_) for id_ in ids if kept in id_])
    assert expected in refusal("toy")


def test_a_view_that_changed_since_it_was_written_is_refused(project: Path, refusal) -> None:
    view = project / "manifests" / "toy_train.csv"
    view.write_bytes(b"".join(view.read_bytes().splitlines(keepends=True)[:-1]))
    assert "manifests/toy_train.csv: changed since" in refusal("toy_train")
    view.unlink()
    assert "toy_train.csv: no such file" in refusal("toy_train")


def test_only_a_new_or_an_empty_folder_is_vacant(project: Path, refusal) -> None:
    require_vacant(project / "new" / "deep")
    (project / "out").touch()
    assert "error: out: expected a new or an empty folder, got something else" in refusal("toy")
    (project / "out").unlink()
    (project / "out" / "mine").mkdir(parents=True)
    assert "error: out: expected a new or an empty folder, found mine" in refusal("toy")


# --- folders and names, without a project --------------------------------------------------------


def placed(*ids: str) -> pd.DataFrame:
    """Rows that all go into one folder."""
    return pd.DataFrame({"id": ids, "split": "train", "label": "Sad", "source": "s"})


def test_what_image_folder_refuses_or_passes_over_is_told(tmp_path: Path, caplog) -> None:
    images = [memoryview(b"GIF89a"), memoryview(b"????"), memoryview(b"GIF87a")]
    unpack(tmp_path / "out", placed("s/1", "s/2", "s/3"), images=images)
    assert "passes over files of these suffixes: {'.gif': 2, '.image': 1}" in caplog.text
    assert "train: no images of Angry, Disgust, Fear, Happy, Surprise, Neutral;" in caplog.text
    assert len(list((tmp_path / "out" / "train").iterdir())) == 7


def test_an_error_on_the_way_leaves_what_lay_there(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def images(*, fails: bool) -> Iterator[memoryview]:
        yield memoryview(b"BM1")
        if fails:
            raise OSError("disk full")
        out.mkdir()
        (out / "mine.txt").write_text("precious")

    with pytest.raises(OSError, match="disk full"):
        unpack(out, placed("s/1"), images=images(fails=True))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match=r"expected a new or an empty folder, found mine\.txt"):
        unpack(out, placed("s/1"), images=images(fails=False))
    assert list(tmp_path.rglob("*")) == [out, out / "mine.txt"]


DEVICES = ["con", "NUL", "Aux", "prn", "com1", "LPT9", "con.2", "nul .x", "com²"]


def test_a_plain_id_is_its_own_file_name_and_what_a_system_reserves_is_replaced() -> None:
    stems = {"ferplus/fer0000000": "fer0000000", "expw_hq/photo#0": "photo#0", "r/ürün 1": "ürün 1"}
    stems |= {"x/a.b": "a.b", "s/a/b": "a_b", 's/a<b>c:d"e|f?g*h\\i': "a_b_c_d_e_f_g_h_i"}
    stems |= {
        "s/.hidden": "hidden",
        "s/dots...": "dots",
        "s/...": "_",
        "s": "_",
        "s/com10": "com10",
    }
    for id_, stem in (stems | {f"s/{name}": f"_{name}" for name in DEVICES}).items():
        assert file_stems(placed(id_)) == [stem]


def test_names_that_would_be_equal_or_are_too_long_get_a_hash_of_their_id() -> None:
    ids = ["s/a/b", "s/a_b", "s/A_B", *(f"s/{'ä' * 80}{n}" for n in range(2))]
    digests = [hashlib.sha256(id_.encode()).hexdigest()[:8] for id_ in ids]
    stems = file_stems(placed(*ids, "s/other"))
    assert stems[:3] == [f"a_b-{digests[0]}", f"a_b-{digests[1]}", f"A_B-{digests[2]}"]
    assert [stem.split("-")[1] for stem in stems[3:5]] == digests[3:]
    assert all(len(stem.encode()) <= MAX_STEM_BYTES for stem in stems)
    assert file_stems(placed("s/other", *ids[::-1])) == stems[::-1]
    # In two folders they stay as they are.
    assert file_stems(placed("a/1", "b/1").assign(label=["Sad", "Happy"])) == ["1", "1"]


letters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
texts = st.text(letters, max_size=60) | st.sampled_from(DEVICES) | st.text('aA_/.:* -é\u0301e"')


@given(st.lists(texts, unique=True, max_size=8))
def test_names_hold_on_every_system_and_differ(texts: list[str]) -> None:
    stems = file_stems(placed(*(f"s/{text}" for text in texts)))
    assert len({stem.casefold() for stem in stems}) == len(texts)
    for stem in stems:
        assert stem
        assert not set(stem) & {*'<>:"/\\|?*', *map(chr, range(32))}
        assert stem == stem.strip(" .")
        assert len(stem.encode()) <= 255
        devices = {"con", "prn", "aux", "nul", "com1", "lpt9"}
        assert stem.split(".")[0].rstrip().lower() not in devices


def test_the_suffix_is_what_the_bytes_say() -> None:
    heads = {
        b"\xff\xd8\xff\xe0": ".jpg",
        b"\x89PNG\r\n\x1a\n": ".png",
        b"MM\0*": ".tif",
        b"": ".image",
    }
    heads |= {b"RIFF\x10\0\0\0WEBPVP8 ": ".webp", b"RIFF\x10\0\0\0WAVEfmt ": ".image"}
    assert {head: suffix_of(memoryview(head)) for head in heads} == heads
