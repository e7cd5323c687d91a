"""How many raw rows a tree of each layout has.

The rows are counted from the files alone, by the words of docs/formats.md and not by the adapters'
code.
"""

import csv
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePosixPath

Tree = Mapping[str, bytes]
Keys = dict[str, list[str]]
PICTURE = re.compile(r"\.(bmp|gif|jpe?g|pgm|png|ppm|tiff?|webp)$", re.IGNORECASE)
FERPLUS_FOLDERS = ("FER2013Train", "FER2013Valid", "FER2013Test")
SPLIT = re.compile(r"^\s*(train|val|valid|validation|test)\s*$", re.IGNORECASE)


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
