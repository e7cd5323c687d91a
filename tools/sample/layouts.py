"""The four datasets of the sample, each laid out as its real namesake is after the download.

`PLANS` says how many faces of each class are drawn: moderately unequal, as in real life. A hard
label sometimes names another class than was drawn.
"""

import numpy as np

from stages.config import CLASSES
from stages.faces.decode import BoxPx
from stages.runtime.seed import generator
from stages.sources import rafdb
from tools.sample import moods, pictures
from tools.sample.folder import Raw
from tools.sample.moods import ANSWERS
from tools.sample.pen import Image
from tools.sample.pictures import PictureStyle

SEED = 20250101

PLANS = {
    ("ferplus", "Train"): (50, 40, 42, 72, 52, 56, 72),
    ("ferplus", "Valid"): (26, 23, 24, 36, 27, 29, 35),
    ("ferplus", "Test"): (17, 14, 15, 25, 18, 19, 26),
    ("rafdb_basic", "train"): (32, 27, 29, 58, 38, 35, 52),
    ("rafdb_basic", "test"): (10, 8, 9, 17, 12, 11, 15),
    ("affectnet_full_balanced", "train"): (27, 25, 26, 30, 28, 27, 31),
    ("affectnet_full_balanced", "test"): (7, 6, 7, 8, 7, 8, 9),
    ("expw", ""): (26, 21, 20, 44, 28, 25, 46),
}
FERPLUS_COLUMNS = (
    "Neutral", "Happy", "Surprise", "Sad", "Angry", "Disgust", "Fear", "Contempt", "Unknown", "NF",
)  # fmt: skip
RAFDB_CODES = {name: code for code, name in rafdb.CODES["rafdb_basic"].items()}
AFFECTNET_FOLDERS = {name: name for name in CLASSES} | {"Angry": "Anger", "Contempt": "Contempt"}
RAFDB_LIST = "rafdb_basic/EmoLabel/list_patition_label.txt"
EXPW_LIST = "expw/label.lst"

# The numbers at which the real splits begin, which leaves room for more rows in each.
FERPLUS_STARTS = {"Train": 0, "Valid": 28638, "Test": 32220}
# Rows that no class gets: contempt, unknown, not a face, and votes without a majority.
_FERPLUS_OTHERS = {"Train": (5, 4, 2, 4), "Valid": (2, 2, 1, 2), "Test": (2, 2, 1, 2)}
_UNKNOWN, _TORN = moods.Mood("Sad", "Fear", 0.5, 0.6), moods.Mood("Angry", "Disgust", 0.5, 0.8)
_TORN_VOTES = np.array([4, 4, 0, 0, 0, 0, 2, 0, 0, 0])  # in the order of ANSWERS
_AFFECTNET_CONTEMPT = {"train": 5, "test": 2}

_FERPLUS = PictureStyle(side_px=48, factor=8, span=(2.3, 2.6), turn=0.8, max_blur=1, max_noise=10)
_RAFDB = PictureStyle(side_px=100, factor=4, span=(2.3, 2.6), turn=0.7, max_blur=1, max_noise=6)
_AFFECTNET = PictureStyle(side_px=224, factor=2, span=(2.4, 2.9), turn=0.9, max_blur=8, max_noise=4)


def lay_out_ferplus(raw: Raw) -> None:
    """`FER2013Train|Valid|Test/` with 48 px grey PNGs and `label.csv` of ten votes."""
    for split in FERPLUS_STARTS:
        for number, answer in enumerate(_ferplus_answers(split)):
            rng = generator(SEED, "ferplus", split, number)
            grey, votes = _ferplus_row(answer, rng)
            add_ferplus_row(raw, split, data=pictures.encode_png(grey), votes=votes)


def lay_out_rafdb(raw: Raw) -> None:
    """`Image/aligned/*_aligned.jpg` of 100 px and the list of codes."""
    for split in ("train", "test"):
        for number, main in enumerate(_shuffled("rafdb_basic", split), start=1):
            rng = generator(SEED, "rafdb_basic", split, number)
            mood = moods.draw_mood(main, rng=rng)
            label = moods.name_class(mood, voters=40, rng=rng)
            data = pictures.encode_jpeg(pictures.draw_portrait(mood, framing=_RAFDB, rng=rng))
            name = f"{split}_{number:05d}"
            raw.add(f"rafdb_basic/Image/aligned/{name}_aligned.jpg", data)
            raw.add_line(RAFDB_LIST, f"{name}.jpg {RAFDB_CODES[label]}")


def lay_out_affectnet(raw: Raw) -> None:
    """`{train,test}/<class>/*.jpg` of 224 px; there is no official val."""
    for split, num_contempt in _AFFECTNET_CONTEMPT.items():
        mains = _shuffled("affectnet_full_balanced", split)
        for number, main in enumerate([*mains, *["Contempt"] * num_contempt]):
            rng = generator(SEED, "affectnet_full_balanced", split, number)
            mood = moods.draw_mood(main, rng=rng)
            label = main if main == "Contempt" else moods.name_class(mood, voters=3, rng=rng)
            data = pictures.encode_jpeg(pictures.draw_portrait(mood, framing=_AFFECTNET, rng=rng))
            raw.add(affectnet_path(split, label, name=f"{split}_{number:04d}"), data)


def lay_out_expw(raw: Raw) -> None:
    """`origin/*.jpg` with one to four faces, and `label.lst` with the boxes."""
    mains = _shuffled("expw", "")
    number = 0
    while mains:
        number += 1
        rng = generator(SEED, "expw", number)
        num_faces = int(rng.integers(1, 5))
        shown = [moods.draw_mood(main, rng=rng) for main in mains[:num_faces]]
        mains = mains[num_faces:]
        image, boxes = pictures.draw_photo(shown, rng=rng)
        name = f"photo_{number:04d}.jpg"
        raw.add(f"expw/origin/{name}", pictures.encode_jpeg(image))
        for face_id, (mood, box) in enumerate(zip(shown, boxes, strict=True)):
            label = moods.name_class(mood, voters=2, rng=rng)
            # The larger the face, the surer is the detector.
            score = 40 + 0.35 * (box.right - box.left) + float(rng.uniform(-28, 28))
            confidence = min(99.0, max(5.0, score))
            raw.add_line(EXPW_LIST, expw_line(name, face_id, box, confidence, label=label))


def add_ferplus_row(raw: Raw, split: str, *, data: bytes, votes: moods.Votes) -> str:
    """Add a picture and its row at the end of a split; returns the picture's path."""
    table = f"ferplus/FER2013{split}/label.csv"
    number = FERPLUS_STARTS[split] + len(raw.lines.get(table, ()))
    name = f"fer{number:07d}.png"
    counts = ",".join(str(votes[ANSWERS.index(column)]) for column in FERPLUS_COLUMNS)
    raw.add(path := f"ferplus/FER2013{split}/{name}", data)
    raw.add_line(table, f'{name},"(0, 0, 48, 48)",{counts}')
    return path


def affectnet_path(split: str, label: str, *, name: str) -> str:
    """Where a picture of a class lies."""
    return f"affectnet_full_balanced/{split}/{AFFECTNET_FOLDERS[label]}/{name}.jpg"


def expw_line(photo: str, face_id: int, box: BoxPx, confidence: float, *, label: str) -> str:
    """`image face_id top left right bottom confidence label`."""
    edges = f"{box.top} {box.left} {box.right} {box.bottom}"
    return f"{photo} {face_id} {edges} {confidence:.4f} {CLASSES.index(label)}"


def _shuffled(source: str, split: str) -> list[str]:
    mains = np.repeat(CLASSES, PLANS[source, split]).tolist()
    order = generator(SEED, source, split, "order").permutation(len(mains))
    return [mains[place] for place in order]


def _ferplus_answers(split: str) -> list[str]:
    others = np.repeat(["Contempt", "Unknown", "NF", "torn"], _FERPLUS_OTHERS[split]).tolist()
    answers = _shuffled("ferplus", split) + others
    order = generator(SEED, "ferplus", split, "all").permutation(len(answers))
    return [answers[place] for place in order]


def _ferplus_row(answer: str, rng: np.random.Generator) -> tuple[Image, moods.Votes]:
    """A grey picture and ten votes: by the crowd model for a class, by decree for the others."""
    if answer == "NF":
        nobody = pictures.draw_background(_FERPLUS.side_px, _FERPLUS.side_px, rng=rng)
        return pictures.to_grey(nobody), moods.draw_clear_votes(answer, rng=rng)
    mood = {"Unknown": _UNKNOWN, "torn": _TORN}.get(answer) or moods.draw_mood(answer, rng=rng)
    portrait = pictures.draw_portrait(mood, framing=_FERPLUS, rng=rng)
    grey = pictures.to_grey(pictures.soften(portrait, passes=25 if answer == "Unknown" else 0))
    if answer in CLASSES:
        return grey, moods.draw_votes(moods.crowd_shares(mood), voters=10, rng=rng)
    return grey, _TORN_VOTES if answer == "torn" else moods.draw_clear_votes(answer, rng=rng)


LAYOUTS = (lay_out_ferplus, lay_out_rafdb, lay_out_affectnet, lay_out_expw)
