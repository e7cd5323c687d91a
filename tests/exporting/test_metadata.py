from pathlib import Path

from small_faces import small_face, write_faces

from stages.calibrating.calibration import Calibration
from stages.config import CLASSES
from stages.exporting.metadata import Cut, describe, read_cut
from stages.modeling.weights import TeacherCard
from tests.exporting.tiny import make_card

CUT = Cut(0.3, 512, {"none": 5, "box": 2, "aligned": 0})


def test_the_origin_of_every_teacher_is_named(card: TeacherCard) -> None:
    other = make_card("B3", weights_sha256="c" * 64)
    calibration = Calibration((0.7, 0.3), 1.4)
    meta = describe([card, other], calibration=calibration, cut=CUT, opset=18)
    assert meta["weights"] == {"RN18": 0.7, "B3": 0.3}
    assert meta["weights_sha256"] == {"RN18": "b" * 64, "B3": "c" * 64}
    assert meta["teachers"] == {"RN18": "test_resnet", "B3": "test_efficientnet"}
    assert meta["stage"] == "stageB"
    assert meta["manifest_sha256"] == "a" * 64
    assert meta["recipe_version"] == 1


def test_incident_X1_classes_calibration_and_shapes_are_stated(card: TeacherCard) -> None:
    bias = (0.1, 0.0, 0.0, 0.0, 0.0, 0.0, -0.1)
    calibration = Calibration((1.0,), 1.4, class_bias=bias)
    meta = describe([card], calibration=calibration, cut=CUT, opset=20)
    assert meta["class_order"] == list(CLASSES)
    assert (meta["temperature"], meta["class_bias"], meta["opset"]) == (1.4, list(bias), 20)
    assert meta["temperature_no_fit"] is None
    lacking = Calibration((1.0,), 1.0, temperature_no_fit="all right")
    said = describe([card], calibration=lacking, cut=CUT, opset=20)
    assert said["temperature_no_fit"] == "all right"
    assert meta["input"] == {"image": "float32 (N, 3, 32, 32), any N, preprocessed"}
    assert meta["preprocess"]["clahe"]["clip_limit"] == 2.0


def test_how_faces_were_cut_is_counted_over_all_sources(tmp_path: Path) -> None:
    write_faces(tmp_path / "a", [small_face("a/1", crop="box"), small_face("a/2")])
    write_faces(tmp_path / "b", [small_face("b/1", crop="aligned")])
    cut = read_cut(tmp_path, margin=0.2, max_side_px=300)
    assert cut == Cut(0.2, 300, {"none": 1, "box": 1, "aligned": 1})
    meta = describe([make_card()], calibration=Calibration((1.0,), 1.0), cut=cut, opset=18)
    face = meta["preprocess"]["face"]
    assert (face["crop_margin"], face["max_side_px"]) == (0.2, 300)
    assert face["levelled"]["max_angle"] == 45


def test_faces_that_were_never_levelled_are_not_to_be_levelled(card: TeacherCard) -> None:
    meta = describe([card], calibration=Calibration((1.0,), 1.0), cut=CUT, opset=18)
    assert meta["preprocess"]["face"]["levelled"] is None
