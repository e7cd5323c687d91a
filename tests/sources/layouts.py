"""A small dataset in every layout that is read, and what becomes of its rows."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stages.config import Source
from stages.faces.decode import encode_png
from stages.sources.formats import read_source
from tests.sources.conftest import AFFECTNET, HAPPY, WHOLE, in_memory, npy, source_of

Tree = Mapping[str, bytes]


@dataclass(frozen=True)
class LayoutCase:
    """Files of a small dataset, its params section, and its rows: faces and reasons in order."""

    source: Source
    files: Tree
    rows: str

    def count_rows(self, files: Tree) -> int:
        return len(list(read_source(in_memory(files), name="it", source=self.source)))


def _table(*rows: str) -> bytes:
    return "".join(f"{row}\n" for row in rows).encode()


def _pictures(*names: str) -> dict[str, bytes]:
    """Small files: a picture of 128 px in one colour each."""
    colours = {name: tuple(hashlib.sha256(name.encode()).digest()[:3]) for name in names}
    return {name: encode_png(np.full((128, 128, 3), c, np.uint8)) for name, c in colours.items()}


_CONTEMPT = "0,0,0,0,0,0,0,9,1,0"
_VOTES = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
_PIXELS = [" ".join([str(value)] * 48**2) for value in (7, 8, 9, 10)]
_USAGES = ["Training", "Training", "PublicTest", "PrivateTest"]
_PIXEL_ROWS = [f"{code},{usage},{_PIXELS[code]}" for code, usage in enumerate(_USAGES)]
_FERPLUS = _pictures(
    *(f"FER2013Train/fer000000{n}.png" for n in range(3)), "FER2013Test/fer0000009.png"
) | {
    "FER2013Train/label.csv": _table(
        f"fer0000000.png,{WHOLE},{HAPPY}",
        f"fer0000001.png,{WHOLE},{_CONTEMPT}",
        f" fer0000002.png ,{WHOLE}, {HAPPY}",
    ),
    "FER2013Test/label.csv": _table(f"fer0000009.png,{WHOLE},{HAPPY}"),
}
_FERPLUS_CSV = {
    "fer2013.csv": _table("emotion,Usage,pixels", *_PIXEL_ROWS),
    "fer2013new.csv": _table(
        f"Usage,Image name,{_VOTES}",
        *(f"{usage},fer000000{n}.png,{HAPPY}" for n, usage in enumerate(_USAGES)),
    ),
}
# As Microsoft gives it, with FER2013 put beside it.
_FERPLUS_REPOSITORY = _FERPLUS_CSV | {
    name: table for name, table in _FERPLUS.items() if name.endswith("label.csv")
}
_OF_PAIR = (
    "it/row0000000 Happy train; it/row0000001 Happy train; it/row0000002 Happy val; "
    "it/row0000003 Happy test"
)
_FER2013 = {
    "icml_face_data.csv": _table(
        "emotion, Usage, pixels", *(r.replace(",", ", ") for r in _PIXEL_ROWS)
    )
}
_BASIC = ["Surprise", "Fear", "Disgust", "Happy", "Sad", "Angry", "Neutral"]
_COMPOUND = [*["Happy"] * 2, *["Sad"] * 4, *["Fear"] * 2, *["Angry"] * 2, "Disgust"]
_RAFDB = _pictures(
    *(f"Image/aligned/train_{n}é_aligned.jpg" for n in range(1, 8)),
    "Image/aligned/aligned/test_1_aligned.jpg",
    "Image/original/train_1é.jpg",  # no row where aligned pictures are
) | {
    "EmoLabel/list_patition_label.txt": _table(
        *(f"train_{n}é.jpg {n}" for n in range(1, 8)), "test_1.jpg\t4"
    )
}
_RAFDB_COMPOUND = _pictures(*(f"Image/original/test_{n}.jpg" for n in range(1, 12))) | {
    "list_partition_label.txt": _table(*(f"test_{n}.jpg {n}" for n in range(1, 12)))
}
# Kaggle's folders give the same ids as the list.
_RAFDB_KAGGLE = _pictures(
    "DATASET/train/4/train_00001_aligned.jpg",
    "DATASET/train/7/train_00003_aligned.jpg",
    "DATASET/test/8/test_0001_aligned.jpg",
) | {"train_labels.csv": b"image"}
_RAFML = _pictures(*(f"Image/aligned/000{n}_aligned.jpg" for n in range(1, 4))) | {
    "EmoLabel/distribution.txt": _table(
        "0001.jpg 0.1 0.2 0.3 0.05 0.15 0.2",
        "0002.jpg\t0\t0\t0\t0\t40\t60",
        "0003.jpg 0.4 0.4 0.2 0 0 0",
    ),
    "EmoLabel/partition_label.txt": _table("0003.jpg 0", "0002.jpg 1", "0001.jpg 0"),
}
_PLACE = "Manually_Annotated_Images"
_AFFECTNET = _pictures(
    *(f"{_PLACE}/{name}" for name in ("1/a.jpg", "1/b.jpg", "2/ç.jpg", "2/d.png", "2/x.jpg"))
) | {
    "lists/training.csv": _table(
        AFFECTNET.upper(),
        "1/a.jpg,1, 2,30,40,1;2;3;4,1,0.1,0.2",
        "1/b.jpg,1,2,30,40,1;2;3;4,7,0.1,0.2",
        "2\\ç.jpg,NULL,NULL,NULL,NULL,NULL,6,-2,-2",
    ),
    "validation.csv": _table("2/d.png,5,6,50,60,1;2,3,0.1,0.2"),
}
_AFFECTNET_NPY = {
    f"{folder}/{name}": content
    for folder, codes in {"train_set": ["0", "4", "7"], "val_set": ["6", "1"]}.items()
    for number, code in enumerate(codes)
    for name, content in {
        **_pictures(f"images/{number}.jpg"),
        f"annotations/{number}_exp.npy": npy(code),
        f"annotations/{number}_val.npy": npy("0.5"),
    }.items()
}
_YOLO = _pictures(
    *(f"train/images/{stem}.jpg" for stem in "abñ"), "valid/images/deep/c.jpg", "test/images/d.jpg"
) | {
    "data.yaml": b"nc: 8\nnames:\n- anger\n- contempt\n- disgust\n- fear\n- happy\n- neutral\n- sad\n- surprise\n",
    "train/labels/a.txt": _table("0 0.5 0.5 0.25 0.5", " 4\t0.2 0.2 0.1 0.1"),
    "train/labels/b.txt": _table("1 0.5 0.5 1 1"),
    "train/labels/ñ.txt": _table("7 0.5 0.5 1 1"),
    "valid/labels/deep/c.txt": _table("5 0.5 0.5 0.3 0.4"),
    "train/labels/Classes.txt": _table("Anger", "Contempt"),
    "train/labels/a.cache": b"\0",
    "test/labels/d.txt": _table("6 1.5 -1 1 0"),  # left to the crop
}
_FOLDER7 = _pictures(
    "train/anger/1.png",
    "train/Happy/1.jpg",
    "train/Happy/deep/été.jpg",
    "train/contempt/1.jpg",
    "valid/suprise/2.b.jpg",
    "test/neutral/3.jpg",
    # 4 is Sad in FER2013's csv and Neutral where a copy numbers its folders by the alphabet.
    "test/4/5.jpg",
) | {"readme.txt": b"x"}
_OF_FOLDERS = (
    "label_invalid; it/test/neutral/3 Neutral test; it/train/Happy/1 Happy train; "
    "it/train/Happy/deep/été Happy train; it/train/anger/1.png Angry train; not_a_class; "
    "it/valid/suprise/2.b Surprise val"
)
_NUMBERED = _pictures("train/0/1.jpg", "train/1/1.jpg", "val/0/2.jpg", "val/sad/2.jpg")
_EXPW = _pictures(
    *(f"image/origin/{name}" for name in ("party 1.jpg", "fête.jpg", "x/c.png", "unnamed.jpg"))
) | {
    "label.lst": _table(
        "party 1.jpg 0 10 20 60 70 60.0 3",
        "party 1.jpg 1  10 80 120 70\t59.99 0",
        "party 1.jpg 1 10 80 120 70 59.99 0",
        "fête.jpg 0 1 2 30 40 99 6",
        "c.png 0 1 2 30 40 10 5",
    )
}

LAYOUTS = {
    "ferplus": LayoutCase(
        source_of("ferplus"),
        _FERPLUS,
        "it/fer0000000 Happy train; not_a_class; it/fer0000002 Happy train; "
        "it/fer0000009 Happy test",
    ),
    "ferplus_csv": LayoutCase(source_of("ferplus"), _FERPLUS_CSV, _OF_PAIR),
    "ferplus_repository": LayoutCase(source_of("ferplus"), _FERPLUS_REPOSITORY, _OF_PAIR),
    "fer2013": LayoutCase(
        source_of("fer2013"),
        _FER2013,
        "it/row0000000 Angry train; it/row0000001 Disgust train; it/row0000002 Fear val; "
        "it/row0000003 Happy test",
    ),
    "fer2013_folders": LayoutCase(source_of("fer2013"), _FOLDER7, _OF_FOLDERS),
    "rafdb": LayoutCase(
        source_of("rafdb_basic"),
        _RAFDB,
        "; ".join(f"it/train_{n}é {label} train" for n, label in enumerate(_BASIC, start=1))
        + "; it/test_1 Happy test",
    ),
    "rafdb_kaggle": LayoutCase(
        source_of("rafdb_basic"),
        _RAFDB_KAGGLE,
        "label_invalid; it/train_00001 Happy train; it/train_00003 Neutral train",
    ),
    "rafdb_compound": LayoutCase(
        source_of("rafdb_compound_mapped"),
        _RAFDB_COMPOUND,
        "; ".join(f"it/test_{n} {label} test" for n, label in enumerate(_COMPOUND, start=1)),
    ),
    "rafml": LayoutCase(
        source_of("rafml_argmax"),
        _RAFML,
        "it/0001 Disgust train; it/0002 Angry test; no_majority",
    ),
    "affectnet": LayoutCase(
        source_of("affectnet"),
        _AFFECTNET,
        "it/1/a Happy train; not_a_class; box_missing; it/2/d.png Surprise val; label_missing",
    ),
    "affectnet_npy": LayoutCase(
        source_of("affectnet"),
        _AFFECTNET_NPY,
        "it/train/0 Neutral train; it/train/1 Fear train; not_a_class; it/val/0 Angry val; "
        "it/val/1 Happy val",
    ),
    "affectnet_yolo": LayoutCase(
        source_of("affectnet_yolo"),
        _YOLO,
        "it/test/d#0 Sad test; it/train/a#0 Angry train; it/train/a#1 Happy train; not_a_class; "
        "it/train/ñ#0 Surprise train; it/val/deep/c#0 Neutral val",
    ),
    "folder7": LayoutCase(source_of("folder7"), _FOLDER7, _OF_FOLDERS),
    "folder7_numbered": LayoutCase(
        source_of("folder7", class_folders={"0": "Angry", "1": "Fear"}),
        _NUMBERED,
        "it/train/0/1 Angry train; it/train/1/1 Fear train; it/val/0/2 Angry val; "
        "it/val/sad/2 Sad val",
    ),
    "expw": LayoutCase(
        source_of("expw"),
        _EXPW,
        "it_hq/party 1#0 Happy None; it_lq/party 1#1 Angry None; box_repeated; "
        "it_hq/fête#0 Neutral None; it_lq/c.png#0 Surprise None; photo_unlisted",
    ),
}
