"""The training benchmark measures on any device what it would on a GPU; speed is no test's matter."""

import torch

from benchmarks import train


def test_every_figure_of_a_gpu_is_measured_on_a_cpu_too() -> None:
    small = train.Setting(
        "two_stage",
        "stageA",
        "RN18",
        image_px=32,
        face_px=32,
        num_batches=2,
        whole=train.Whole(epochs=2, rows=1000, val_rows=100),
    )
    found = train.measure(small, device=torch.device("cpu"), rounds=2)
    assert found["rounds"] == 2
    low, high = found["of_bare_step_spread"]
    assert 0 < low <= found["of_bare_step"] <= high
    assert found["of_plain_step"] > 0
    expected = 2 * (1000 / found["loop_img_s"] + 100 / found["scoring_img_s"])
    rounding_s = 0.05 + 0.005 * expected  # its own to 0.1 s, and the rates'
    assert abs(found["projected_s"] - expected) < rounding_s
    assert found["peak_gpu_gib"] is None
    assert found["checkpoint_s"] > 0


def test_the_settings_are_those_of_the_recipes() -> None:
    assert {s.name for s in train.SETTINGS["cpu"]} == {"RN18_64", "RN18_112"}
    assert {s.name for s in train.SETTINGS["cuda"]} == {"RN18_224", "B3_384"}
