"""Ways to break the files of a raw dataset at random."""

import random
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import PurePosixPath

from tests.sources.row_counts import Tree

TEXT = {".csv", ".txt", ".lst", ".yaml"}
FIELDS = [
    "", " ", "-1", "0", "1", "7", "11", "1e3", "nan", "-inf", "NULL", "9" * 400, "9" * 5000, "0.5",
    "٣", "é", "e\u0301", "\u2028", "\x85", "\x00", '"', "'", ",", "\\", "..", "../x.jpg", "/", ".jpg",
    "#", "train", "a" * 3000, "\ud7ff", "\U0001f600", "[", "{", "%s",
]  # fmt: skip
FOLDERS = ["extra", "train", "test", "Train", "trian", "aligned", "origin", "1", "sad", "images"]

Files = dict[str, bytes]
Mutation = Callable[[Files, random.Random], None]


# --- mutations of text ---------------------------------------------------------------------------


def change_lines(files: Files, rng: random.Random, change: Callable[[list[str]], object]) -> None:
    """Change the lines of one text file, in place, if there is one that has lines."""
    names = sorted(name for name in files if PurePosixPath(name).suffix in TEXT and files[name])
    if not names:
        return
    name = rng.choice(names)
    with suppress(UnicodeDecodeError):
        if lines := files[name].decode().splitlines():
            change(lines)
            files[name] = "\n".join(lines).encode(errors="replace")


def drop_line(files: Files, rng: random.Random) -> None:
    change_lines(files, rng, lambda lines: lines.pop(rng.randrange(len(lines))))


def repeat_line(files: Files, rng: random.Random) -> None:
    change_lines(files, rng, lambda lines: lines.insert(rng.randrange(len(lines)), lines[-1]))


def shuffle_lines(files: Files, rng: random.Random) -> None:
    change_lines(files, rng, rng.shuffle)


def contradict_line(files: Files, rng: random.Random) -> None:
    """Repeat a line with another digit in it, perhaps that of the label."""

    def change(lines: list[str]) -> None:
        line = rng.choice(lines)
        if digits := [place for place, letter in enumerate(line) if letter.isdigit()]:
            place = rng.choice(digits[-4:])
            lines.append(f"{line[:place]}{rng.randrange(10)}{line[place + 1 :]}")

    change_lines(files, rng, change)


def change_line(files: Files, rng: random.Random, change: Callable[[str], str]) -> None:
    def at_some_place(lines: list[str]) -> None:
        place = rng.randrange(len(lines))
        lines[place] = change(lines[place])

    change_lines(files, rng, at_some_place)


def change_field(files: Files, rng: random.Random) -> None:
    """Replace, drop, repeat or raise one field."""

    def change(line: str) -> str:
        separator = "," if "," in line else " "
        fields = line.split(separator)
        place = rng.randrange(len(fields))
        field = fields[place]
        fields[place : place + 1] = rng.choice(
            [[rng.choice(FIELDS)], [], [field, field], [field.upper()]]
        )
        return separator.join(fields)

    change_line(files, rng, change)


def change_number(files: Files, rng: random.Random) -> None:
    def change(line: str) -> str:
        if not (numbers := list(re.finditer(r"[0-9]+", line))):
            return line
        number = rng.choice(numbers)
        return line[: number.start()] + str(rng.randrange(-2, 13)) + line[number.end() :]

    change_line(files, rng, change)


def garble_line(files: Files, rng: random.Random) -> None:
    def change(line: str) -> str:
        place = rng.randrange(len(line) + 1)
        return line[:place] + rng.choice(FIELDS) + line[place + rng.randrange(3) :]

    change_line(files, rng, change)


# --- mutations of files --------------------------------------------------------------------------


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


def swap_files(files: Files, rng: random.Random) -> None:
    left, right = rng.choice(sorted(files)), rng.choice(sorted(files))
    files[left], files[right] = files[right], files[left]


def place_file(files: Files, rng: random.Random, change: Callable[[str], str]) -> None:
    """Move or copy a file to where nothing lies yet."""
    old = rng.choice(sorted(files))
    new = change(old)
    blocked = any(f"{name}/".startswith(f"{new}/") or new.startswith(f"{name}/") for name in files)
    if not blocked:
        files[new] = files[old]
        if rng.random() < 0.7:
            del files[old]


def rename_file(files: Files, rng: random.Random) -> None:
    names = ["x.jpg", "é.png", "a b.jpg", "label.csv", "1_exp.npy", "no suffix", "a.JPEG", "0.txt"]
    suffixes = [".jpg", ".JPG", ".png", ".txt", ".jpeg", "", ".gif"]

    def change(name: str) -> str:
        path = PurePosixPath(name)
        changed = [path.with_name(rng.choice(names)), path.with_suffix(rng.choice(suffixes))]
        return str(rng.choice(changed))

    place_file(files, rng, change)


def move_file(files: Files, rng: random.Random) -> None:
    def change(name: str) -> str:
        parts = name.split("/")
        match rng.randrange(3):
            case 0:
                parts.insert(rng.randrange(len(parts)), rng.choice(FOLDERS))
            case 1 if len(parts) > 1:
                del parts[rng.randrange(len(parts) - 1)]
            case _:
                parts[:-1] = rng.choice(sorted(files)).split("/")[:-1]
        return "/".join(parts)

    place_file(files, rng, change)


def change_case(files: Files, rng: random.Random) -> None:
    change = rng.choice([str.upper, str.lower, str.title, str.swapcase])
    place_file(files, rng, lambda name: change(name))


def rename_folder(files: Files, rng: random.Random) -> None:
    folders = sorted({part for name in files for part in name.split("/")[:-1]})
    if not folders:
        return
    old, new = rng.choice(folders), rng.choice([*FOLDERS, *folders])
    renamed = {"/".join(new if p == old else p for p in n.split("/")): files[n] for n in files}
    files.clear()
    files.update(renamed)


MUTATIONS: list[Mutation] = [
    drop_line, repeat_line, contradict_line, shuffle_lines, change_field, change_field, change_number, change_number, change_number,
    garble_line, garble_bytes, drop_file, truncate_file, swap_files, rename_file, rename_file,
    move_file, change_case, rename_folder,
]  # fmt: skip


def mutated(tree: Tree, *, number: int, seed: int) -> Files:
    rng, files = random.Random(seed), dict(tree)
    for _ in range(number):
        rng.choice(MUTATIONS)(files, rng)
    return files
