"""The sample's folder on disk: what is in it, and whether it may be replaced.

In: a `Raw`, the planted faults, a folder. Out: the files, `README.md`, and `sample.json`: a digest
of the files, and the faults for tests to count on.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from stages.runtime.errors import UserError
from stages.runtime.files import read_json, write_json, write_text
from tools.sample.planting import Planted
from tools.sample.raw import Raw

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


def check_replaceable(folder: Path) -> None:
    """Make sure that nothing is lost when the sample replaces `folder`.

    Raises:
        UserError: if it holds anything that is not exactly a sample as written by `write_sample`.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder}: expected a folder to write to, found a file")
    found = sorted(path.relative_to(folder).as_posix() for path in _files(folder))
    if not found and not any(folder.iterdir()):
        return
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


def write_sample(folder: Path, raw: Raw, *, planted: Sequence[Planted]) -> None:
    """Write every file into an empty folder."""
    for path, data in raw.contents().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    write_text(folder / README, _describe(raw, planted))
    faults = [asdict(fault) for fault in planted]
    write_json(folder / INDEX, {"content_sha256": content_sha256(folder), "planted": faults})


def content_sha256(folder: Path) -> str:
    """SHA-256 over paths and bytes of all files but `sample.json`."""
    digest = hashlib.sha256()
    for path in sorted(_files(folder), key=lambda path: path.relative_to(folder).as_posix()):
        name = path.relative_to(folder).as_posix()
        if name != INDEX:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{content}  {name}\n".encode())
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def _describe(raw: Raw, planted: Sequence[Planted]) -> str:
    counts = {path: len(lines) for path, lines in raw.lines.items()}
    counts |= Counter(
        "/".join(path.split("/")[:2]) + "/*/*"
        for path in raw.files
        if path.startswith("affectnet_full_balanced/")
    )
    return _README.format(
        rows="\n".join(f"| {counts[path]} | `{path}` |" for path in sorted(counts)),
        num_faults=len(planted),
        faults="\n".join(f"| {fault.kind} | {fault.at} | {fault.of} |" for fault in planted),
    )
