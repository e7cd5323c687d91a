"""The sample's files while they are drawn, and their folder on disk.

A written folder has `README.md` and `sample.json`: a digest of the files, by which the command
knows a folder that it may replace, and the planted faults for tests to count on.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from stages.runtime.errors import UserError
from stages.runtime.files import read_json, sha256_file, write_json, write_text

INDEX, README = "sample.json", "README.md"

_README = """\
# The sample

Drawn faces in the raw formats of four datasets, made by `python -m tools.sample`.
They show nobody.
The expressions are carried by geometry (brows, lids, mouth); many faces lie between two classes,
and a modelled crowd voted on them. The same command makes the same files again; a test holds them
against a fresh drawing. Do not edit: the command refuses to replace a folder that was changed.

| rows | in |
|---|---|
{rows}

## Planted faults
{num_faults} faults, the kinds that real downloads have; `sample.json` lists the same.

| fault | where | copy of |
|---|---|---|
{faults}
"""


@dataclass(frozen=True)
class Raw:
    """Files, lines of text files and faults, filled as drawing goes on."""

    files: dict[str, bytes] = field(default_factory=dict)
    lines: dict[str, list[str]] = field(default_factory=dict)
    planted: list[dict[str, str]] = field(default_factory=list)

    def add(self, path: str, data: bytes) -> None:
        """Add a file; no path is used twice."""
        assert path not in self.files, path
        self.files[path] = data

    def add_line(self, path: str, line: str) -> None:
        """Add a line at the end of a text file."""
        self.lines.setdefault(path, []).append(line)

    def plant(self, kind: str, at: str, *, of: str = "") -> None:
        """Note a fault: the file or line that is at fault and, for a copy, what it copies."""
        self.planted.append({"kind": kind, "at": at, "of": of})


def check_replaceable(folder: Path) -> None:
    """Make sure that nothing is lost when the sample replaces `folder`.

    Raises:
        UserError: if it holds anything that is not exactly a sample as written by `write_sample`.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder}: expected a folder to write to, found a file")
    if not any(folder.iterdir()):
        return
    found = _names(folder)
    refusal = f"{folder}: refused to replace a folder with files that this command did not write"
    if INDEX not in found:
        raise UserError(f"{refusal}: expected {INDEX}, found {found[:3]}; name another folder")
    try:
        expected = read_json(folder / INDEX)["content_sha256"]
    except (ValueError, KeyError, TypeError):
        expected = "none"
    if (digest := content_sha256(folder)) != expected:
        raise UserError(
            f"{refusal}, or that were changed since: expected content {expected} as in {INDEX}, "
            f"found {digest}; move them away or name another folder"
        )


def write_sample(folder: Path, raw: Raw) -> None:
    """Write every file into an empty folder; text ends its lines with a line feed everywhere."""
    texts = {path: ("\n".join(rows) + "\n").encode() for path, rows in raw.lines.items()}
    for path, data in (raw.files | texts).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    counts = {path: len(lines) for path, lines in raw.lines.items()}
    counts |= Counter(
        "/".join(path.split("/")[:2]) + "/*/*"
        for path in raw.files
        if path.startswith("affectnet_full_balanced/")
    )
    readme = _README.format(
        rows="\n".join(f"| {counts[path]} | `{path}` |" for path in sorted(counts)),
        num_faults=len(raw.planted),
        faults="\n".join("| {kind} | {at} | {of} |".format(**fault) for fault in raw.planted),
    )
    write_text(folder / README, readme)
    index = {"content_sha256": content_sha256(folder), "planted": raw.planted}
    write_json(folder / INDEX, index)


def content_sha256(folder: Path) -> str:
    """Return the SHA-256 over paths and bytes of all files but `sample.json`."""
    digest = hashlib.sha256()
    for name in _names(folder):
        if name != INDEX:
            digest.update(f"{sha256_file(folder / name)}  {name}\n".encode())
    return digest.hexdigest()


def _names(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(path.relative_to(folder).as_posix() for path in paths)
