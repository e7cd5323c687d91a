"""A small dataset in every layout that is read."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stages.config import Source
from stages.faces.decode import encode_png
from tests.sources import row_counts
from tests.sources.conftest import AFFECTNET, npy, source_of
from tests.sources.row_counts import Tree


@dataclass(frozen=True)
class LayoutCase:
    """Files of a small dataset, its params section, and the count of the raw rows in such files."""

    source: Source
    files: Tree
    count_rows: Callable[[Tree], int]


def _table(*rows: str) -> bytes:
    return "".join(f"{row}\n" for row in rows).encode()


def _picture(name: str) -> bytes:
    """A small file: a picture of 128 px in one colour."""
    colour = tuple(hashlib.sha256(name.encode()).digest()[:3])
    return encode_png(np.full((128, 128, 3), colour, np.uint8))


def _pictures(*names: str) -> dict[str, bytes]:
    return {name: _picture(name) for name in names}


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
        AFFECTNET,
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
        f"images/{number}.jpg": _picture(f"{folder}/{number}"),
        f"annotations/{number}_exp.npy": npy(code),
        f"annotations/{number}_val.npy": npy("0.5"),
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

_FERPLUS_SOURCE, _FOLDERS = source_of("ferplus"), source_of("folder7")
_CLASS_FOLDERS = source_of("folder7", class_folders={"0": "Angry", "1": "Fear"})
LAYOUTS = {
    name: LayoutCase(source, files, count_rows)
    for name, source, files, count_rows in [
        ("ferplus", _FERPLUS_SOURCE, _FERPLUS, row_counts.in_ferplus_folders),
        ("ferplus_csv", _FERPLUS_SOURCE, _FERPLUS_CSV, row_counts.in_pixel_table),
        ("ferplus_repository", _FERPLUS_SOURCE, _FERPLUS_REPOSITORY, row_counts.in_ferplus_folders),
        ("fer2013", source_of("fer2013"), {"fer2013.csv": _FER2013}, row_counts.in_pixel_table),
        ("fer2013_folders", source_of("fer2013"), _FOLDER7, row_counts.in_split_folders),
        ("rafdb", source_of("rafdb_basic"), _RAFDB, row_counts.in_raf_list),
        ("rafdb_kaggle", source_of("rafdb_basic"), _RAFDB_KAGGLE, row_counts.in_raf_list),
        (
            "rafdb_compound",
            source_of("rafdb_compound_mapped"),
            _RAFDB_COMPOUND,
            row_counts.in_raf_list,
        ),
        ("rafml", source_of("rafml_argmax"), _RAFML, row_counts.in_rafml_lists),
        ("affectnet", source_of("affectnet"), _AFFECTNET, row_counts.in_affectnet_tables),
        ("affectnet_npy", source_of("affectnet"), _AFFECTNET_NPY, row_counts.in_affectnet_pairs),
        ("affectnet_yolo", source_of("affectnet_yolo"), _YOLO, row_counts.in_yolo_pairs),
        ("folder7", _FOLDERS, _FOLDER7, row_counts.in_split_folders),
        ("folder7_numbered", _CLASS_FOLDERS, _NUMBERED, row_counts.in_split_folders),
        ("expw", source_of("expw"), _EXPW, row_counts.in_expw_list),
    ]
}
