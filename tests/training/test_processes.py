"""environment.json names what began a run, and what later processes computed with instead."""

from pathlib import Path

import pytest

from stages.runtime.files import read_json, write_json
from stages.training.processes import ENVIRONMENT_FILE, record_process


def test_only_what_changed_since_the_process_before_is_recorded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    steps = [(0, "cpu"), (5, "cpu"), (9, "H100"), (12, "H100"), (20, "cpu")]
    for step, device in steps:
        record_process(tmp_path, step=step, computing={"device": device, "dtype": "torch.float32"})
    recorded = read_json(tmp_path / ENVIRONMENT_FILE)
    assert (recorded["device"], recorded["dtype"]) == ("cpu", "torch.float32")
    later = [(process["step"], process["device"]) for process in recorded["later_processes"]]
    assert later == [(9, "H100"), (20, "cpu")]
    assert "dtype" not in recorded["later_processes"][0]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 2
    assert "at step 9: device cpu -> H100;" in warnings[0]


def test_another_package_is_recorded_without_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record_process(tmp_path, step=0, computing={"device": "cpu", "dtype": "torch.float32"})
    recorded = read_json(tmp_path / ENVIRONMENT_FILE)
    del recorded["later_processes"]  # as an earlier version wrote it
    write_json(tmp_path / ENVIRONMENT_FILE, recorded | {"python": "3.9.0"})
    record_process(tmp_path, step=3, computing={"device": "cpu", "dtype": "torch.float32"})
    (later,) = read_json(tmp_path / ENVIRONMENT_FILE)["later_processes"]
    assert later.keys() == {"start", "step", "python"}
    assert caplog.text == ""


def test_of_later_packages_those_are_recorded_that_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = [
        {"torch": "2.11", "timm": "1.0"},
        {"torch": "2.12", "timm": "1.0"},
        {"torch": "2.12", "timm": "1.0"},
        {"torch": "2.12", "new": "3"},
        {"torch": "2.12", "new": "3"},
    ]
    for step, packages in enumerate(installed):
        known = {"python": "3.11", "packages": packages}
        monkeypatch.setattr("stages.training.processes.environment", known.copy)
        record_process(tmp_path, step=step, computing={})
    recorded = read_json(tmp_path / ENVIRONMENT_FILE)
    assert recorded["packages"] == installed[0]
    assert [(one["step"], one["packages"]) for one in recorded["later_processes"]] == [
        (1, {"torch": "2.12"}),
        (3, {"new": "3", "timm": None}),
    ]


def test_a_run_that_has_done_no_step_begins_anew(tmp_path: Path) -> None:
    for device in ("cpu", "H100"):
        record_process(tmp_path, step=0, computing={"device": device, "dtype": "torch.float32"})
    recorded = read_json(tmp_path / ENVIRONMENT_FILE)
    assert (recorded["device"], recorded["later_processes"]) == ("H100", [])
