"""A small dataset in every layout that is read, and what becomes of each of its rows."""

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
    """Files of a small dataset, its params section, and what becomes of its rows, sorted.

    Each line of the `table` is a row, the head aside.
    """

    source: Source
    files: Tree
    rows: list[str]
    table: str

    def count_rows(self, files: Tree) -> int:
        return len(list(read_source(in_memory(files), name="it", source=self.source)))


def _pictures(*names: str) -> dict[str, bytes]:
    """Small files: a picture of 128 px in one colour each."""
    colours = {name: tuple(hashlib.sha256(name.encode()).digest()[:3]) for name in names}
    return {name: encode_png(np.full((128, 128, 3), c, np.uint8)) for name, c in colours.items()}


def _lines(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _case(form: str, files: Tree, others: list[str], *, table="", head=(), lines=()) -> LayoutCase:
    """A dataset with one table of these lines, and `files` whose rows become the `others`."""
    tables = {table: _lines(*head, *(line for line, _ in lines))} if table else {}
    rows = sorted([*(became for _, became in lines), *others])
    return LayoutCase(source_of(form), {**files, **tables}, rows, table)


_NO_WINNER, _CONTEMPT = "5,5" + ",0" * 8, "0,0,0,0,0,0,0,9,1,0"
_VOTES = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
_PIXELS = [" ".join([str(value)] * 48**2) for value in (7, 8, 9, 10)]
_USAGES = ["Training", "Training", "PublicTest", "PrivateTest"]
_PAIR = {
    "fer2013.csv": _lines(
        "emotion,Usage,pixels",
        *(f"{code},{usage},{_PIXELS[code]}" for code, usage in enumerate(_USAGES)),
    ),
    "fer2013new.csv": _lines(
        f"Usage,Image name,{_VOTES}",
        *(f"{usage},fer000000{n}.png,{HAPPY}" for n, usage in enumerate(_USAGES)),
    ),
}
_OF_PAIR = [
    f"it/row000000{n} Happy {split}" for n, split in enumerate(("train", "train", "val", "test"))
]
_RAF_BASIC = ["Surprise", "Fear", "Disgust", "Happy", "Sad", "Angry", "Neutral"]
_RAF_COMPOUND = [*["Happy"] * 2, *["Sad"] * 4, *["Fear"] * 2, *["Angry"] * 2, "Disgust"]
_PLACE = "Manually_Annotated_Images"
_AFFECTNET_PICTURES = [f"1/{stem}.jpg" for stem in "abcefg"] + ["2/ç.jpg", "2/d.png", "2/x.jpg"]
_IN_FOLDERS = _pictures(
    "train/anger/1.png",
    "train/Happy/1.jpg",
    "train/01_Happiness/deep/été.jpg",
    "train/contempt/1.jpg",
    "train/lonely.jpg",
    "valid/suprise/2.b.jpg",
    "test/Neutrality/3.jpg",
    # 4 is Sad in FER2013's csv and Neutral where a copy numbers its folders by the alphabet.
    "test/4/5.jpg",
) | {"readme.txt": b"x", "test/Neutrality/notes.txt": b"whatever its name; the decoder decides"}
_OF_FOLDERS = [
    "it/train/anger/1.png Angry train",
    "it/train/Happy/1 Happy train",
    "it/train/01_Happiness/deep/été Happy train",
    "not_a_class",
    "label_missing",
    "it/valid/suprise/2.b Surprise val",
    "it/test/Neutrality/3 Neutral test",
    "it/test/Neutrality/notes.txt Neutral test",
    "label_invalid",
]

# What becomes of a row: `<id> <label> <split>` of a face, or a reason.
LAYOUTS = {
    "ferplus": _case(
        "ferplus",
        {
            **_pictures(*(f"FER2013Train/fer{stem}.png" for stem in "abcdefg")),
            **_pictures("FER2013Test/fer9.png"),
            "FER2013Test/label.csv": _lines(f"fer9.png,{WHOLE},{HAPPY}"),
        },
        ["it/fer9 Happy test", "label_missing"],
        table="FER2013Train/label.csv",
        lines=[
            (f" fera.png ,{WHOLE}, {HAPPY}", "it/fera Happy train"),
            (f"fera.png,{WHOLE},{HAPPY}", "row_repeated"),
            (f"gone.png,{WHOLE},{HAPPY}", "image_missing"),
            (f"ferb.png,{WHOLE},{_CONTEMPT}", "not_a_class"),
            (f"ferc.png,{WHOLE},{_NO_WINNER}", "no_majority"),
            (f"ferd.png,{WHOLE},5,5", "row_malformed"),
            (f"fere.png,{WHOLE},5,5,0,x,0,0,0,0,0,0", "row_malformed"),
            (f'ferf.png,"(10, 10, 20, 20)",{HAPPY}', "row_malformed"),
        ],
    ),
    "ferplus_csv": _case("ferplus", _PAIR, _OF_PAIR),
    "fer2013": _case(
        "fer2013",
        {},
        [],
        table="icml_face_data.csv",
        head=["emotion, Usage, pixels"],
        lines=[
            (f"0, Training, {_PIXELS[0]}", "it/row0000000 Angry train"),
            (f"1, PublicTest, {_PIXELS[1]}", "it/row0000001 Disgust val"),
            (f"6, PrivateTest, {_PIXELS[2]}", "it/row0000002 Neutral test"),
            (f"7,Training,{_PIXELS[0]}", "label_invalid"),
            ("0,Training,1 2 3", "image_unreadable"),
            (f"0,Testing,{_PIXELS[0]}", "row_malformed"),
            ("0,Training", "row_malformed"),
        ],
    ),
    "fer2013_folders": _case("fer2013", _IN_FOLDERS, _OF_FOLDERS),
    "rafdb": _case(
        "rafdb_basic",
        _pictures(
            *(f"Image/aligned/train_{n}é_aligned.jpg" for n in range(1, 10)),
            "Image/aligned/aligned/test_1_aligned.jpg",
            "Image/original/train_1é.jpg",  # no row where aligned pictures are
        ),
        ["label_missing"],
        table="EmoLabel/list_patition_label.txt",
        lines=[
            *(
                (f"train_{n}é.jpg {n}", f"it/train_{n}é {label} train")
                for n, label in enumerate(_RAF_BASIC, start=1)
            ),
            ("test_1.jpg\t4", "it/test_1 Happy test"),
            ("test_1.jpg 4", "row_repeated"),
            ("train_2.jpg", "row_malformed"),
            ("train_8é.jpg 8", "label_invalid"),
            ("tarin_4.jpg 1", "row_malformed"),
            ("train_5.jpg 1", "image_missing"),
        ],
    ),
    # Kaggle's folders give the same ids as the list.
    "rafdb_kaggle": _case(
        "rafdb_basic",
        {
            **_pictures(*(f"DATASET/train/{n}/train_0{n}_aligned.jpg" for n in (4, 7))),
            **_pictures("DATASET/test/8/test_01_aligned.jpg"),
            "train_labels.csv": b"image",
        },
        ["it/train_04 Happy train", "it/train_07 Neutral train", "label_invalid"],
    ),
    "rafdb_compound": _case(
        "rafdb_compound_mapped",
        _pictures(*(f"Image/original/test_{n}.jpg" for n in range(1, 12))),
        [],
        table="list_partition_label.txt",
        lines=[
            (f"test_{n}.jpg {n}", f"it/test_{n} {label} test")
            for n, label in enumerate(_RAF_COMPOUND, start=1)
        ],
    ),
    "rafml": _case(
        "rafml_argmax",
        {
            **_pictures(*(f"Image/aligned/{n}_aligned.jpg" for n in range(1, 9))),
            "partition_label.txt": _lines(
                *("1.jpg 0", "1.jpg 0", "3.jpg 0", "3.jpg 1", "4.JPG 1", "5.jpg 1", "6.jpg 2"),
                *("9.jpg 0", "8.jpg 0"),
            ),
        },
        # Of the partition: again, the other split, no shares, no split. Then a picture.
        ["row_repeated", "label_contradictory", "label_missing", "row_malformed", "label_missing"],
        table="EmoLabel/distribution.txt",
        lines=[
            ("1.jpg 0.1 0.2 0.3 0.05 0.15 0.2", "it/1 Disgust train"),
            ("2.jpg 1 0 0 0 0 0", "row_malformed"),  # no partition
            ("3.jpg 1 0 0 0 0 0", "label_contradictory"),
            ("4.jpg\t0\t0\t0\t0\t40\t60", "it/4 Angry test"),
            ("4.jpg\t0\t0\t0\t0\t40\t60", "row_repeated"),
            ("9.jpg 1 0 0 0 0 0", "image_missing"),
            ("8.jpg 0.4 0.4 0.2 0 0 0", "no_majority"),
            *(
                (f"8.jpg {wrong}", "row_malformed")
                for wrong in ("0 0 0 0 0 0", "1.1 -0.1 0 0 0 0", "1e30 0 0 0 0 1", "1 0 0 0 0")
            ),
        ],
    ),
    "affectnet": _case(
        "affectnet",
        {
            **_pictures(*(f"{_PLACE}/{name}" for name in _AFFECTNET_PICTURES)),
            "validation.csv": _lines("2/d.png,5,6,50,60,1;2,3,0.1,0.2"),
        },
        ["it/2/d.png Surprise val", "label_missing"],
        table="lists/training.csv",
        head=[AFFECTNET.upper()],
        lines=[
            ("1/a.jpg,1, 2,30,40,1;2;3;4,1,0.1,0.2", "it/1/a Happy train"),
            ("1/b.jpg,NULL,NULL,NULL,NULL,,8,,", "not_a_class"),
            ("1/gone.jpg,1,2,3,4,,10,,", "not_a_class"),
            ("1/gone.jpg,1,2,3,4,,1,,", "image_missing"),
            ("1/c.jpg,1,2,3,4,,11,,", "label_invalid"),
            ("2\\ç.jpg,NULL,null,,nan,NULL,6,-2,-2", "box_missing"),
            ("1/e.jpg,1,NULL,3,4,,1,,", "row_malformed"),
            ("1/f.jpg,1,2,3,4,,1,,,1", "row_malformed"),
            ("1/g.jpg,1,2,3", "row_malformed"),
            (",1,2,3,4,,1,,", "row_malformed"),
        ],
    ),
    "affectnet_npy": _case(
        "affectnet",
        {
            **_pictures(*(f"train_set/images/{n}.jpg" for n in (0, 4, 7, 9, "x"))),
            **_pictures(*(f"val_set/images/{n}.jpg" for n in (6, 11))),
            **{f"train_set/annotations/{n}_exp.npy": npy(str(n)) for n in (0, 3, 4, 7, "x")},
            **{f"val_set/annotations/{n}_exp.npy": npy(str(n)) for n in (6, 11)},
            "train_set/annotations/0_val.npy": npy("0.5"),
        },
        [
            *("it/train/0 Neutral train", "it/train/4 Fear train", "it/val/6 Angry val"),
            *("not_a_class", "label_missing", "label_invalid", "image_missing", "row_malformed"),
        ],
    ),
    "affectnet_yolo": _case(
        "affectnet_yolo",
        {
            "data.yaml": b"train: ../train/images\nnames: ['Anger', 'Contempt', 'happy', 'dog']\n",
            **_pictures(*(f"train/images/{stem}.jpg" for stem in ("ñ", "alone", "empty", "latin"))),
            **_pictures("train/images/ñ.png", "valid/images/deep/c.jpg", "test/images/d.jpg"),
            "train/labels/empty.txt": b" \n\n",
            "train/labels/latin.txt": "é".encode("latin-1"),
            "train/labels/lost.txt": _lines("0 .5 .5 .2 .2", "0 .5 .5 .2 .2"),
            "train/labels/lost_and_empty.txt": b"",
            "valid/labels/deep/c.txt": _lines("2 0.5 0.5 0.3 0.4"),
            "labels/valid/deep/c.txt": _lines("2 0.5 0.5 0.3 0.4"),
            "test/labels/d.txt": _lines("0 1.5 -1 1 0"),  # left to the crop
            "train/labels/Classes.txt": _lines("Anger", "Contempt"),
            "train/labels/a.cache": b"\0",
            "train/labels.jpg": b"x",
        },
        [
            *("it/val/deep/c#0 Happy val", "it/test/d#0 Angry test"),
            *("row_repeated", "row_repeated"),  # ñ.png and the other c.txt
            *("label_missing", "label_missing"),  # alone and empty
            *("row_malformed", "image_missing", "image_missing", "image_missing"),
        ],
        table="train/labels/ñ.txt",
        lines=[
            ("0 0.5 0.5 0.25 0.5", "it/train/ñ#0 Angry train"),
            (" 2\t0.2 0.2 0.1 0.1", "it/train/ñ#1 Happy train"),
            ("1 0.5 0.5 0.2 0.2", "not_a_class"),
            ("3 0.5 0.5 0.2 0.2", "label_invalid"),
            ("Anger 0.5 0.5 0.2 0.2", "label_invalid"),
            ("0 0.5 0.5 0.2", "row_malformed"),
            ("0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2", "row_malformed"),
            ("0 1.7e308 0.5 1.7e308 0.2", "row_malformed"),
        ],
    ),
    "folder7": _case("folder7", _IN_FOLDERS, _OF_FOLDERS),
    "expw": _case(
        "expw",
        _pictures(*(f"image/origin/{name}.jpg" for name in ("party 1", "fête", "unnamed", "x/c"))),
        ["photo_unlisted"],
        table="label.lst",
        lines=[
            ("party 1.jpg 0 10 20 60 70 60.0 3", "it_hq/party 1#0 Happy None"),
            ("party 1.jpg 1  10 80 120 70\t59.99 0", "it_lq/party 1#1 Angry None"),
            ("party 1.jpg 1 10 80 120 70 59.99 0", "box_repeated"),  # the line again: by rule
            ("party 1.jpg 7 10 80 120 70 59.99 0", "box_repeated"),  # under another number: by rule
            ("party 1.jpg 1 9 9 30 40 59.99 0", "row_repeated"),  # another face: a fault
            ("fête.jpg 0 1 2 30 40 99 6", "it_hq/fête#0 Neutral None"),
            ("c.jpg 0 1 2 30 40 10 7", "label_invalid"),
            (f"c.jpg 2 5 5 30 {'4' * 5000} 1.0 1", "row_malformed"),
            ("gone.jpg 0 5 5 30 40 50.0 1", "image_missing"),
            ("one", "row_malformed"),
        ],
    ),
}
