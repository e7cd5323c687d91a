"""The unpack door behind the real standardize and manifest doors."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from small_project import small_params, write_params
from torchvision.datasets import ImageFolder

from stages import manifest, standardize
from stages.config import CLASSES
from stages.faces.shards import Face, ShardWriter, read_faces
from tools import unpack

IMAGES = {"train": 3, "val": 1, "test": 1}
SOURCES = {
    "toy": {"format": "folder7", "path": "toy"},
    "expw": {"format": "expw", "path": "expw.zip"},
}


def picture(rng: np.random.Generator, *, suffix: str) -> bytes:
    """Six by six blots, unlike those of any other picture."""
    blots = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    done, data = cv2.imencode(suffix, cv2.resize(blots, (64, 64), interpolation=cv2.INTER_CUBIC))
    assert done
    return data.tobytes()


def write_raw(raw: Path) -> None:
    rng = np.random.default_rng(0)
    for split, number in IMAGES.items():
        for label in CLASSES:
            (raw / "toy" / split / label).mkdir(parents=True)
            for k in range(number):
                # A suffix that lies, as downloaded files have it.
                path = raw / "toy" / split / label / f"{label} {split} {k}.jpg"
                path.write_bytes(picture(rng, suffix=".png" if k else ".jpg"))
    with zipfile.ZipFile(raw / "expw.zip", "w") as archive:
        for n in range(6):
            archive.writestr(f"origin/p{n}.jpg", picture(rng, suffix=".jpg"))
        lines = [f"p{n}.jpg 0 10 10 50 50 {90 if n % 2 else 10} {n}" for n in range(6)]
        archive.writestr("label.lst", "\n".join(lines))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after standardize and manifest; no test writes into it."""
    folder = tmp_path_factory.mktemp("project")
    write_raw(folder / "raw")
    params = small_params()
    params["standardize"]["sources"] = SOURCES
    params["manifest"] |= {
        "source_groups": {"expw_full": ["expw_hq", "expw_lq"]},
        "views": {"toy_train": {"include_sources": ["toy"], "splits": ["train"]}},
    }
    write_params(folder, params)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert standardize.main([]) == 0
        assert manifest.main([]) == 0
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished project as the current folder."""
    for name in ("standardized", "manifests"):
        shutil.copytree(finished / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_image_folder_reads_seven_classes_and_every_row(project: Path) -> None:
    assert unpack.main(["toy", "out"]) == 0
    for split, number in IMAGES.items():
        dataset = ImageFolder(str(project / "out" / split))
        assert dataset.classes == sorted(CLASSES)
        assert len(dataset) == number * len(CLASSES)
        assert all(image.size == (64, 64) for image, _ in dataset)


def test_files_hold_the_raw_bytes_under_the_split_and_class_of_the_raw_file(
    finished: Path, project: Path
) -> None:
    assert unpack.main(["toy", "out"]) == 0
    raw = {
        f"{path.parts[-3]}/{path.parts[-2]}": {
            p.read_bytes() for p in path.parent.iterdir()
        }
        for path in (finished / "raw" / "toy").glob("*/*/*")
    }  # fmt: skip
    out = project / "out"
    for place, contents in raw.items():
        assert {path.read_bytes() for path in (out / place).iterdir()} == contents
    assert len(raw) == 21
    assert files(out) - {"index.csv"} == set(pd.read_csv(out / "index.csv")["file"])
    # The suffix is the bytes', not that of the raw name.
    assert (out / "train/Sad/train_Sad_Sad train 0.jpg").exists()
    assert (out / "train/Sad/train_Sad_Sad train 1.png").exists()


@pytest.mark.parametrize(
    ("name", "count"), [("expw_full", 6), ("expw_hq", 3), ("toy_train", 21), ("toy", 35)]
)
def test_a_source_a_group_or_a_view(
    project: Path, name: str, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert unpack.main([name, "out"]) == 0
    index = pd.read_csv(project / "out" / "index.csv")
    rows = pd.read_csv(project / "manifests" / "classification_manifest.csv").set_index("id")
    assert len(index) == count
    assert index["file"].map(lambda file: (project / "out" / file).is_file()).all()
    kept = index.set_index("id")[["source", "split", "label"]]
    pd.testing.assert_frame_equal(kept, rows.loc[kept.index, ["source", "split", "label"]])
    assert f"out: {count} images of {name}: " in caplog.text


def test_crops_are_what_the_shards_hold(project: Path) -> None:
    assert unpack.main(["expw_full", "out"]) == 0
    images = read_faces(project / "standardized", ("id", "image")).set_index("id")["image"]
    index = pd.read_csv(project / "out" / "index.csv").set_index("id")["file"]
    for id_, file in index.items():
        assert (project / "out" / file).read_bytes() == images[id_]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("expw_ful", "no source, source group or view 'expw_ful'; known: ["),
        ("expw_ful", "did you mean 'expw_full'?"),
        ("excluded", "no source, source group or view 'excluded'"),
    ],
)
def test_incident_D3_an_unknown_name_is_refused_with_the_known_ones(
    project: Path, name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert unpack.main([name, "out"]) == 2
    assert message in capsys.readouterr().err
    assert not (project / "out").exists()


def rewrite(project: Path, change: Callable[[Face], Face | None]) -> None:
    """Write the shards of `toy` again, each face changed or left out."""
    folder = project / "standardized" / "toy"
    table = pd.read_feather(folder / "faces-00000.arrow")
    shutil.rmtree(folder)
    folder.mkdir()
    with ShardWriter(folder, shard_mb=1) as writer:
        for row in table.to_dict("records"):
            if (face := change(Face(**row))) is not None:
                writer.add(face)


def test_incident_D7_rows_without_their_image_are_one_error_before_anything_is_written(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(project, lambda face: None if "/test/" in face.id else face)
    before = files(project)
    assert unpack.main(["toy", "out"]) == 2
    message = capsys.readouterr().err
    assert "7 of 35 manifest rows have no image: toy/test/Angry/Angry test 0, toy/" in message
    assert message.count("toy/test/") == 5
    assert files(project) == before
    assert not (project / "out").exists()


def test_pictures_that_changed_since_the_manifest_are_refused(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(face: Face) -> Face:
        return Face(**{**vars(face), "sha256": "0" * 64}) if "/test/" in face.id else face

    rewrite(project, change)
    assert unpack.main(["toy", "out"]) == 2
    message = capsys.readouterr().err
    assert "7 of 35 manifest rows have another picture than when the manifest was made" in message
    assert not (project / "out").exists()
    assert unpack.main(["expw_full", "out"]) == 0


def test_out_may_be_empty_but_not_filled(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "out").mkdir()
    assert unpack.main(["expw_hq", "out"]) == 0
    before = files(project)
    assert unpack.main(["toy", "out"]) == 2
    assert "error: out: expected a new or an empty folder, found " in capsys.readouterr().err
    assert files(project) == before


def test_a_changed_manifest_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = project / "manifests" / "classification_manifest.csv"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert unpack.main(["toy", "out"]) == 2
    assert "classification_manifest.csv: changed since" in capsys.readouterr().err


def test_without_a_manifest_the_door_says_what_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert unpack.main(["toy", "out"]) == 2
    assert "dvc repro manifest" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_help_answers(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        unpack.main(["--help"])
    assert end.value.code == 0
    assert "python -m tools.unpack [-h] SOURCE OUT" in capsys.readouterr().out
