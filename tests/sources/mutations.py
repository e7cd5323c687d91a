"""Ways to break the files of a raw dataset at random."""

import random
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import PurePosixPath

TEXT = {".csv", ".txt", ".lst", ".yaml"}
FIELDS = [
    "", " ", "-1", "0", "1", "7", "11", "1e3", "nan", "-inf", "NULL", "9" * 400, "9" * 5000, "0.5",
    "٣", "é", "e\u0301", "\u2028", "\x85", "\x00", '"', "'", ",", "\\", "..", "../x.jpg", "/", ".jpg",
    "#", "train", "a" * 3000, "\ud7ff", "\U0001f600", "[", "{", "%s",
]  # fmt: skip
FOLDERS = ["extra", "train", "test", "Train", "trian", "aligned", "origin", "1", "sad", "images"]
NAMES = ["x.jpg", "é.png", "a b.jpg", "label.csv", "1_exp.npy", "no suffix", "a.JPEG", "0.txt"]

Files = dict[str, bytes]
Mutation = Callable[[Files, random.Random], None]
Change = Callable[[str, random.Random], str]


def another_field(line: str, rng: random.Random) -> str:
    """Replace, drop, repeat or raise one field."""
    separator = "," if "," in line else " "
    fields = line.split(separator)
    place = rng.randrange(len(fields))
    field = fields[place]
    changed = [[rng.choice(FIELDS)], [], [field, field], [field.upper()]]
    fields[place : place + 1] = rng.choice(changed)
    return separator.join(fields)


def another_number(line: str, rng: random.Random) -> str:
    if not (numbers := list(re.finditer(r"[0-9]+", line))):
        return line
    number = rng.choice(numbers)
    return line[: number.start()] + str(rng.randrange(-2, 13)) + line[number.end() :]


def change_line(files: Files, rng: random.Random, *, change: Change, added: bool = False) -> None:
    """Change a line of one text file, if there is one that has lines, or add the changed line."""
    names = sorted(name for name in files if PurePosixPath(name).suffix in TEXT and files[name])
    if not names:
        return
    name = rng.choice(names)
    with suppress(UnicodeDecodeError):
        if lines := files[name].decode().splitlines():
            place = rng.randrange(len(lines))
            lines[place : place + 1] = [lines[place]] * added + [change(lines[place], rng)]
            files[name] = "\n".join(lines).encode(errors="replace")


change_number = partial(change_line, change=another_number)


def garble_bytes(files: Files, rng: random.Random) -> None:
    name = rng.choice(sorted(files))
    content = bytearray(files[name] or b"x")
    content[rng.randrange(len(content))] = rng.randrange(256)
    files[name] = bytes(content)


def drop_file(files: Files, rng: random.Random) -> None:
    if len(files) > 1:
        del files[rng.choice(sorted(files))]


def truncate_file(files: Files, rng: random.Random) -> None:
    name = rng.choice(sorted(files))
    files[name] = files[name][: rng.choice([0, rng.randrange(len(files[name]) + 1)])]


def move_file(files: Files, rng: random.Random) -> None:
    """Move or copy a file to another name or folder, where nothing lies yet."""
    old = rng.choice(sorted(files))
    path = PurePosixPath(old)
    places = [
        path.with_name(rng.choice(NAMES)),
        path.with_suffix(PurePosixPath(rng.choice(NAMES)).suffix),
        rng.choice([str.upper, str.lower, str.title, str.swapcase])(old),
        path.parent / rng.choice(FOLDERS) / path.name,
        rng.choice(FOLDERS) / path,
        PurePosixPath(rng.choice(sorted(files))).parent / path.name,
    ]
    new = str(rng.choice(places))
    blocked = any(f"{name}/".startswith(f"{new}/") or new.startswith(f"{name}/") for name in files)
    if not blocked:
        files[new] = files[old]
        if rng.random() < 0.7:
            del files[old]


def rename_folder(files: Files, rng: random.Random) -> None:
    folders = sorted({part for name in files for part in name.split("/")[:-1]})
    if not folders:
        return
    old, new = rng.choice(folders), rng.choice([*FOLDERS, *folders])
    renamed = {"/".join(new if p == old else p for p in n.split("/")): files[n] for n in files}
    files.clear()
    files.update(renamed)


# What becomes of a line, and whether the line itself stays beside it.
OF_LINES: list[tuple[Change, bool]] = [
    (lambda *_: "", False),
    (lambda line, _: line, True),
    *[(another_field, False)] * 2,
    *[(another_number, False)] * 2,
    (another_number, True),
]
MUTATIONS: list[Mutation] = [
    *(partial(change_line, change=change, added=added) for change, added in OF_LINES),
    *(garble_bytes, drop_file, truncate_file, rename_folder),
    *[move_file] * 3,
]


def mutated(tree: Mapping[str, bytes], *, number: int, seed: int) -> Files:
    rng, files = random.Random(seed), dict(tree)
    for _ in range(number):
        rng.choice(MUTATIONS)(files, rng)
    return files
