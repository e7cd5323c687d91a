"""A public package that you fetched -> weights/<name>.safetensors, which a recipe can name.

    python -m tools.weights mobilenetv1_100_vggface2 vladmandic-human-3.3.6.tgz

In: the package as it was downloaded, or unpacked as a folder. mobilenetv1_100_vggface2 also takes
--faces, a standardized/ folder: best the faces that it will learn from. Out: the file, and the keys
to write in params.yaml. Nothing is fetched; the commands that fetch the packages are below.
docs/weights.md has sizes and licences.
"""

import argparse
from functools import partial
from pathlib import Path

from stages.runtime.door import run_door


def work(name: str, package: Path, faces: Path, overwrite: bool) -> None:
    """Read the package, convert it, write the file and print what it is good for."""
    from tools.known_weights import KNOWN, read_package, recipe

    known, out = KNOWN[name], Path("weights", f"{name}.safetensors")
    if out.exists() and not overwrite:
        from stages.runtime.errors import UserError

        raise UserError(f"{out.as_posix()}: exists; --overwrite replaces it")
    files = read_package(package, known)

    from safetensors.torch import save

    from stages.runtime.files import sha256_file, write_bytes
    from tools.conversion import convert_mobilenet, convert_torch, give_statistics, read_images

    if known.kind == "torch":
        state = convert_torch(known, files)
    else:
        images = read_images(faces, known)
        backbone = convert_mobilenet(known, files)
        difference = give_statistics(backbone, images)
        print(
            f"batch norm has statistics of {len(images)} faces; no feature changed by more than "
            f"{difference:.1e}"
        )
        state = backbone.state_dict()
    write_bytes(out, save({key: tensor.contiguous() for key, tensor in state.items()}))
    print(f"wrote {out.as_posix()}, SHA-256 {sha256_file(out)}\n\nin params.yaml:")
    print(f"{recipe(name, known)}\n\nimage_size: {known.sizes}\nlicence: {known.origin}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the name of the weights, the package, the faces and `--overwrite`."""
    from tools.known_weights import KNOWN

    width = max(map(len, KNOWN))
    lines = [f"  {name:{width}}  {package.fetch}" for name, package in KNOWN.items()]
    parser.epilog = "\n".join(["packages and how to fetch them:", *lines])
    parser.add_argument("name", choices=KNOWN, metavar="NAME", help=f"one of {', '.join(KNOWN)}")
    parser.add_argument("package", type=Path, metavar="PACKAGE", help="the file that was fetched")
    faces = "faces for the statistics of batch norm (mobilenetv1_100_vggface2 only)"
    parser.add_argument("--faces", type=Path, default=Path("standardized"), help=faces)
    parser.add_argument("--overwrite", action="store_true", help="replace the file")


main = partial(run_door, work, __doc__, arguments=add_arguments)

if __name__ == "__main__":
    raise SystemExit(main())
