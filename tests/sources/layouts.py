"""A small dataset in every layout that is read, and how many raw rows a tree of it has.

The rows are counted here from the files alone, by the words of docs/formats.md and not by the
adapters' code.
"""

import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from shipped import shipped

from stages.config import (
    AffectnetSource,
    AffectnetYoloSource,
    ExpwSource,
    Fer2013Source,
    FerplusSource,
    Folder7Source,
    RafdbCompoundSource,
    RafdbSource,
    RafmlSource,
    Source,
)

Tree = Mapping[str, bytes]
Keys = dict[str, list[str]]
PICTURE = re.compile(r"\.(bmp|gif|jpe?g|pgm|png|ppm|tiff?|webp)$", re.IGNORECASE)
FERPLUS_FOLDERS = ("FER2013Train", "FER2013Valid", "FER2013Test")
SPLIT = re.compile(r"^\s*(train|val|valid|validation|test)\s*$", re.IGNORECASE)


@dataclass(frozen=True)
class LayoutCase:
    """Files of a small dataset, its params section, and the count of the raw rows in such files."""

    source: Source
    files: Tree
    count_rows: Callable[[Tree], int]


# --- counting ------------------------------------------------------------------------------------


def lines_of(content: bytes) -> list[str]:
    lines = re.split(r"\r\n|\r|\n", content.decode("utf-8-sig"))
    return [line.strip() for line in lines if line.strip()]


def table_of(content: bytes) -> list[list[str]]:
    rows = [[field.strip() for field in next(csv.reader([line]))] for line in lines_of(content)]
    return [fields for fields in rows if any(fields)]


def visible(tree: Tree) -> list[str]:
    return [name for name in tree if not any(part[0] == "." for part in name.split("/"))]


def the(tree: Tree, ending: str) -> bytes | None:
    found = [n for n in visible(tree) if f"/{n}".lower().endswith(f"/{ending}".lower())]
    return tree[found[0]] if found else None


def pictures_in(tree: Tree, folder: str) -> set[str]:
    """File names of the pictures below a folder."""
    return {
        PurePosixPath(name).name
        for name in visible(tree)
        if PICTURE.search(name) and f"/{folder}/".lower() in f"/{name}".lower()
    }


def unnamed(pictures: set[str], names: list[str]) -> int:
    """How many pictures no name means, spelt so or, where that is clear, letter case aside."""
    left = set(pictures)
    for name in (unicodedata.normalize("NFC", name) for name in names):
        alike = {picture for picture in pictures if picture.lower() == name.lower()}
        left -= {name} if name in pictures else alike if len(alike) == 1 else set()
    return len(left)


def in_split_folders(tree: Tree) -> int:
    return sum(any(map(SPLIT.match, name.split("/")[:-1])) for name in visible(tree))


def in_ferplus_folders(tree: Tree) -> int:
    pictured = any(pictures_in(tree, folder) for folder in FERPLUS_FOLDERS)
    if not pictured and the(tree, "fer2013.csv") and the(tree, "fer2013new.csv"):
        return in_pixel_table(tree)
    total = 0
    for folder in FERPLUS_FOLDERS:
        table = the(tree, f"{folder}/label.csv")
        names = [fields[0] for fields in table_of(table)] if table is not None else []
        total += len(names) + unnamed(pictures_in(tree, folder), names)
    return total


def in_pixel_table(tree: Tree) -> int:
    table = the(tree, "fer2013.csv")
    return len(table_of(table)) - 1 if table is not None else in_split_folders(tree)


def in_raf_list(tree: Tree) -> int:
    table = the(tree, "list_patition_label.txt")
    if table is None:
        return in_split_folders(tree)
    names = [line.rsplit(None, 1)[0] for line in lines_of(table)]
    return len(names) + unnamed(*raf_pictures(tree, names))


def raf_pictures(tree: Tree, names: list[str]) -> tuple[set[str], list[str]]:
    aligned = pictures_in(tree, "aligned")
    paths = [PurePosixPath(name) for name in names]
    if not aligned:
        return pictures_in(tree, "original"), [path.name for path in paths]
    return aligned, [f"{path.stem}_aligned{path.suffix}" for path in paths]


def in_rafml_lists(tree: Tree) -> int:
    shares, partition = the(tree, "distribution.txt"), the(tree, "partition_label.txt")
    assert shares is not None
    assert partition is not None
    names = [line.rsplit(None, 6)[0] for line in lines_of(shares)]
    parts = [line.rsplit(None, 1) for line in lines_of(partition)]
    placed = {part[0].lower() for part in parts if len(part) == 2 and is_zero_or_one(part[1])}
    joined = placed & {name.lower() for name in names}
    every = [*names, *(part[0] for part in parts)]
    return len(every) - len(joined) + unnamed(*raf_pictures(tree, every))


def is_zero_or_one(text: str) -> bool:
    try:
        return float(text) in {0, 1} and "_" not in text
    except ValueError:
        return False


def in_expw_list(tree: Tree) -> int:
    table = the(tree, "label.lst")
    assert table is not None
    names = [line.rsplit(None, 7)[0] for line in lines_of(table)]
    return len(names) + unnamed(pictures_in(tree, "origin"), names)


def in_affectnet_tables(tree: Tree) -> int:
    tables = [table for t in ("training.csv", "validation.csv") if (table := the(tree, t))]
    rows = [fields for table in tables for fields in affectnet_rows(table)]
    pictures = [name for name in visible(tree) if PICTURE.search(name)]
    found, folders, tops = set(), set(), set()
    for path in {
        unicodedata.normalize("NFC", row[0].replace("\\", "/")).strip("/") for row in rows
    }:
        folders.add(path.lower().rpartition("/")[0])
        alike = [n for n in visible(tree) if f"/{n}".lower().endswith(f"/{path.lower()}") and path]
        same = [name for name in alike if f"/{name}".endswith(f"/{path}")] or alike
        if len(same) == 1:
            found |= set(same)
            tops |= {name.lower()[: -len(path)].strip("/") for name in same}
    watched = {f"{top}/{folder}".strip("/") for top in tops for folder in folders}
    other = [n for n in pictures if n not in found and n.lower().rpartition("/")[0] in watched]
    return len(rows) + len(other)


def affectnet_rows(table: bytes) -> list[list[str]]:
    rows = table_of(table)
    header = {"subdirectory_filepath", "face_x", "expression"} & {f.lower() for f in rows[0]}
    return rows[1:] if header else rows


def pair_keys(tree: Tree, splits: list[str], labels: str, ending: str) -> tuple[Keys, Keys]:
    """Members of a paired layout by split and name: the pictures, and the label files."""
    pictures: Keys = {}
    label_files: Keys = {}
    for name in sorted(visible(tree)):
        parts = name.split("/")
        folders = [part.strip().lower() for part in parts[:-1]]
        for n in reversed(range(len(folders) - 1)):
            split = next((f for f in folders[n : n + 2] if f in splits), None)
            kind = next((f for f in folders[n : n + 2] if f in {"images", labels}), None)
            if split and kind:
                key = f"{split[:2]}/{'/'.join(parts[n + 2 :])}"
                if kind == "images" and PICTURE.search(name):
                    pictures.setdefault(PICTURE.sub("", key), []).append(name)
                elif kind == labels and name.lower().endswith(ending):
                    label_files.setdefault(key[: -len(ending)], []).append(name)
                break
    return pictures, label_files


def in_pairs(pictures: Keys, label_files: Keys) -> int:
    """Pictures and label files, those of one name counted once."""
    both = pictures.keys() & label_files.keys()
    left = [Counter(key.lower() for key in keys.keys() - both) for keys in (pictures, label_files)]
    alike = [key for key in left[0] if left[0][key] == left[1][key] == 1]
    members = [*pictures.values(), *label_files.values()]
    return sum(map(len, members)) - len(both) - len(alike)


def in_affectnet_pairs(tree: Tree) -> int:
    return in_pairs(*pair_keys(tree, ["train_set", "val_set"], "annotations", "_exp.npy"))


def in_yolo_pairs(tree: Tree) -> int:
    files = {name: tree[name] for name in tree if not f"/{name}".lower().endswith("/classes.txt")}
    pictures, label_files = pair_keys(files, ["train", "val", "valid", "test"], "labels", ".txt")
    # A line is a row; of two files of one name the second is none of its lines.
    more = sum(max(0, num_lines(tree[names[0]]) - 1) for names in label_files.values())
    return in_pairs(pictures, label_files) + more


def num_lines(content: bytes) -> int:
    try:
        return len(lines_of(content))
    except UnicodeDecodeError:
        return 1


# --- datasets ------------------------------------------------------------------------------------


def _table(*rows: str) -> bytes:
    return "".join(f"{row}\n" for row in rows).encode()


def _pictures(*names: str) -> dict[str, bytes]:
    return {name: f"picture {name}".encode() for name in names}


def _npy(value: str) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(value))
    return file.getvalue()


_HAPPY, _CONTEMPT = "1,8,0,0,0,0,0,0,1,0", "0,0,0,0,0,0,0,9,1,0"
_WHOLE = '"(0, 0, 48, 48)"'
_VOTES = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
_PIXELS = [" ".join([str(value)] * 48**2) for value in (7, 8, 9, 10)]
_USAGES = ["Training", "Training", "PublicTest", "PrivateTest"]
_FER2013 = _table(
    "emotion,pixels,Usage",
    *(f"{code},{_PIXELS[code]},{usage}" for code, usage in enumerate(_USAGES)),
)

_FERPLUS = (
    _pictures(*(f"FER2013Train/fer000000{n}.png" for n in range(4)))
    | _pictures("FER2013Valid/fer0000008.png", "FER2013Test/fer0000009.png")
    | {
        "FER2013Train/label.csv": _table(
            *(f"fer000000{n}.png,{_WHOLE},{_HAPPY}" for n in range(3)),
            f"fer0000003.png,{_WHOLE},{_CONTEMPT}",
        ),
        "FER2013Valid/label.csv": _table(f"fer0000008.png,{_WHOLE},{_HAPPY}"),
        "FER2013Test/label.csv": _table(f"fer0000009.png,{_WHOLE},{_HAPPY}"),
    }
)
_FERPLUS_CSV = {
    "fer2013.csv": _FER2013,
    "fer2013new.csv": _table(
        f"Usage,Image name,{_VOTES}",
        *(f"{usage},fer000000{n}.png,{_HAPPY}" for n, usage in enumerate(_USAGES)),
    ),
}
_RAF_NAMES = [
    "train_00001", "train_00002", "train_00003", "train_00004é", "test_0001", "test_0002",
]  # fmt: skip
_RAFDB = _pictures(*(f"Image/aligned/{name}_aligned.jpg" for name in _RAF_NAMES)) | {
    "EmoLabel/list_patition_label.txt": _table(
        *(f"{name}.jpg {code}" for code, name in enumerate(_RAF_NAMES, start=1))
    ),
}
_RAFDB_COMPOUND = _pictures(*(f"Image/original/{name}.jpg" for name in _RAF_NAMES)) | {
    "EmoLabel/list_patition_label.txt": _table(
        *(f"{name}.jpg {code}" for code, name in enumerate(_RAF_NAMES, start=6))
    ),
}
_RAFDB_KAGGLE = _pictures(
    "DATASET/train/1/train_00001_aligned.jpg",
    "DATASET/train/4/train_00002_aligned.jpg",
    "DATASET/train/7/train_00003_aligned.jpg",
    "DATASET/test/5/test_0001_aligned.jpg",
    "DATASET/test/6/test_0002_aligned.jpg",
)
_RAFML = _pictures(*(f"Image/aligned/000{n}_aligned.jpg" for n in range(1, 6))) | {
    "EmoLabel/distribution.txt": _table(
        "0001.jpg 0.5 0.3 0.2 0 0 0",
        "0002.jpg 0 0.1 0.2 0.3 0.4 0",
        "0003.jpg 0.4 0.4 0.2 0 0 0",
        "0004.jpg 0 0 0 0 0.25 0.75",
        "0005.jpg 1 0 0 0 0 0",
    ),
    "EmoLabel/partition_label.txt": _table(
        *(f"000{n}.jpg {int(n > 3)}" for n in range(1, 6)),
    ),
}
_AFFECTNET = _pictures(
    "Manually_Annotated_Images/1/a.jpg",
    "Manually_Annotated_Images/1/b.jpg",
    "Manually_Annotated_Images/2/ç.jpg",
    "Manually_Annotated_Images/2/d.jpg",
    "Manually_Annotated_Images/2/unnamed.jpg",
) | {
    "training.csv": _table(
        "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal",
        "1/a.jpg,1,2,30,40,1;2;3;4,0,0.1,0.2",
        "1/b.jpg,1,2,30,40,1;2;3;4,7,0.1,0.2",
        "2/ç.jpg,NULL,NULL,NULL,NULL,NULL,6,-2,-2",
    ),
    "validation.csv": _table("2/d.jpg,5,6,50,60,1;2,3,0.1,0.2"),
}
_AFFECTNET_NPY = {
    f"{folder}/{name}": content
    for folder, codes in {"train_set": ["0", "4", "7"], "val_set": ["6", "1"]}.items()
    for number, code in enumerate(codes)
    for name, content in {
        f"images/{number}.jpg": b"picture",
        f"annotations/{number}_exp.npy": _npy(code),
        f"annotations/{number}_val.npy": _npy("0.5"),
    }.items()
}
_YOLO = _pictures(
    "train/images/a.jpg",
    "train/images/b.jpg",
    "train/images/ñ.jpg",
    "valid/images/c.jpg",
    "test/images/d.jpg",
) | {
    "data.yaml": b"nc: 8\nnames:\n- anger\n- contempt\n- disgust\n- fear\n- happy\n- neutral\n- sad\n- surprise\n",
    "train/labels/a.txt": _table("0 0.5 0.5 0.2 0.2", "4 0.2 0.2 0.1 0.1"),
    "train/labels/b.txt": _table("1 0.5 0.5 1 1"),
    "train/labels/ñ.txt": _table("7 0.5 0.5 1 1"),
    "valid/labels/c.txt": _table("5 0.5 0.5 0.3 0.4"),
    "train/labels/classes.txt": _table("Anger", "Contempt"),
    "test/labels/d.txt": _table("6 0.4 0.5 0.3 0.4"),
}
_FOLDER7 = _pictures(
    "train/anger/1.jpg",
    "train/Happy/1.jpg",
    "train/Happy/deep/été.jpg",
    "train/contempt/1.jpg",
    "valid/suprise/2.jpg",
    "test/neutral/3.jpg",
)
_NUMBERED = _pictures(
    "train/0/1.jpg", "train/1/1.jpg", "val/0/2.jpg", "val/sad/2.jpg", "test/1/3.jpg"
)
_EXPW = _pictures("origin/party 1.jpg", "origin/fête.jpg", "origin/c.jpg", "origin/unnamed.jpg") | {
    "label.lst": _table(
        "party 1.jpg 0 10 20 60 70 60.0 3",
        "party 1.jpg 1 10 80 120 70 59.5 0",
        "party 1.jpg 1 10 80 120 70 59.5 0",
        "fête.jpg 0 1 2 30 40 99 6",
        "c.jpg 0 1 2 30 40 10 5",
    )
}

# As Microsoft gives it, with FER2013 put beside it.
_FERPLUS_REPOSITORY = _FERPLUS_CSV | {
    name: table for name, table in _FERPLUS.items() if name.endswith("label.csv")
}

LAYOUTS = {
    "ferplus": LayoutCase(
        shipped(FerplusSource, format="ferplus", path="x"), _FERPLUS, in_ferplus_folders
    ),
    "ferplus_csv": LayoutCase(
        shipped(FerplusSource, format="ferplus", path="x"), _FERPLUS_CSV, in_pixel_table
    ),
    "ferplus_repository": LayoutCase(
        shipped(FerplusSource, format="ferplus", path="x"), _FERPLUS_REPOSITORY, in_ferplus_folders
    ),
    "fer2013": LayoutCase(
        Fer2013Source(format="fer2013", path="x"), {"fer2013.csv": _FER2013}, in_pixel_table
    ),
    "fer2013_folders": LayoutCase(
        Fer2013Source(format="fer2013", path="x"), _FOLDER7, in_split_folders
    ),
    "rafdb": LayoutCase(RafdbSource(format="rafdb_basic", path="x"), _RAFDB, in_raf_list),
    "rafdb_kaggle": LayoutCase(
        RafdbSource(format="rafdb_basic", path="x"), _RAFDB_KAGGLE, in_raf_list
    ),
    "rafdb_compound": LayoutCase(
        RafdbCompoundSource(format="rafdb_compound_mapped", path="x"), _RAFDB_COMPOUND, in_raf_list
    ),
    "rafml": LayoutCase(RafmlSource(format="rafml_argmax", path="x"), _RAFML, in_rafml_lists),
    "affectnet": LayoutCase(
        AffectnetSource(format="affectnet", path="x"), _AFFECTNET, in_affectnet_tables
    ),
    "affectnet_npy": LayoutCase(
        AffectnetSource(format="affectnet", path="x"), _AFFECTNET_NPY, in_affectnet_pairs
    ),
    "affectnet_yolo": LayoutCase(
        AffectnetYoloSource(format="affectnet_yolo", path="x"), _YOLO, in_yolo_pairs
    ),
    "folder7": LayoutCase(Folder7Source(format="folder7", path="x"), _FOLDER7, in_split_folders),
    "folder7_numbered": LayoutCase(
        Folder7Source(format="folder7", path="x", class_folders={"0": "Angry", "1": "Fear"}),
        _NUMBERED,
        in_split_folders,
    ),
    "expw": LayoutCase(
        ExpwSource(format="expw", path="x", hq_confidence=60.0), _EXPW, in_expw_list
    ),
}
