"""The check of a GPU runs whole on a CPU, keeps what it has, and names what is missing."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu
from benchmarks.command import Finding
from benchmarks.gpu import Part, Report
from stages.runtime.files import read_json


def test_a_tiny_check_on_a_cpu_has_all_parts_and_all_claims_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Up to the compiler proper, which takes a minute of a busy machine.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    options = ["--device", "cpu", "--tiny", "--minutes", "60"]
    assert gpu.main(["--out", str(tmp_path), *options]) == 0
    parts = read_json(tmp_path / "gpu.json")["parts"]
    text = (tmp_path / "gpu.md").read_text("utf-8")
    assert {name: part["status"] for name, part in parts.items()} == dict.fromkeys(parts, "done")
    numbers_of_claims = {name: len(part["holds"]) for name, part in parts.items()}
    assert numbers_of_claims == {
        "device": 3,
        "rates_RN18": 0,
        "rates_B3": 0,
        "compile_RN18": 0,
        "batches_RN18": 0,
        "resume": 3,
        "faults": 2,
        "scoring": 1,
        "export": 1,
        "batches_B3": 0,
        "compile_B3": 0,
    }
    assert all(all(part["holds"].values()) for part in parts.values())
    assert all(f"| {name} | {part['proves']} |" in text for name, part in parts.items())
    assert parts["resume"]["figures"]["killed_at_step"] >= 20
    assert parts["resume"]["figures"]["files_compared"] > 5
    assert parts["rates_RN18"]["figures"]["of_bare_step"] > 0
    # Autocast would not have published these logits.
    scoring = parts["scoring"]["figures"]
    assert scoring["published_from_cpu"] < 1e-4 < scoring["autocast_from_float32"]


def test_a_check_that_is_cut_keeps_its_parts_and_names_what_it_left_out(tmp_path: Path) -> None:
    def fail() -> Finding:
        raise ValueError("no such thing")

    def cut() -> Finding:
        raise KeyboardInterrupt

    def finds(**holds: bool) -> Any:
        return lambda: Finding(holds, {"rate": 3, "difference": float("nan")})

    parts = [
        Part("good", "it works", 0.0, finds(right=True)),
        Part("wrong", "it is right", 0.0, finds(claimed=False)),
        Part("broken", "it ends well", 0.0, fail),
        Part("long", "it fits", 1e9, finds()),
        Part("cut", "it goes on", 0.0, cut),
    ]
    report = Report(tmp_path, {"device": "x"})
    with pytest.raises(KeyboardInterrupt):
        gpu.run_parts(parts, report, deadline=time.monotonic() + 600)
    found = read_json(tmp_path / "gpu.json")
    assert found["about"] == {"device": "x"}
    statuses = {name: part["status"] for name, part in found["parts"].items()}
    assert statuses == {"good": "done", "wrong": "done", "broken": "failed", "long": "skipped"}
    assert found["parts"]["good"]["figures"] == {"rate": 3, "difference": "NaN"}
    lines = (tmp_path / "gpu.md").read_text("utf-8").splitlines()
    assert any(s.startswith("| wrong | it is right | does not hold: claimed |") for s in lines)
    assert "- error: ValueError: no such thing" in lines
    assert "| long | it fits | skipped | 0.0 |" in lines
    good = Report(tmp_path, {})
    gpu.run_parts([parts[0], parts[3]], good, deadline=time.monotonic() + 600)
    assert (good.is_good, report.is_good) == (True, False)


def test_all_that_is_not_installed_is_named_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "NEEDED", ("torch", "absent_one", "absent.two"))
    assert gpu.main(["--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "error: not installed: absent_one, absent.two\n"
    assert not (tmp_path / "out").exists()
