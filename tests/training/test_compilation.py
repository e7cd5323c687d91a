"""Compiling is tried where it can pay, falls back where it may, and leaves the model alone."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch

from stages.computing.team import ALONE, Team
from stages.runtime.errors import UserError
from stages.training import compilation
from stages.training.compilation import (
    CompilableEmbed,
    compile_for_good,
    is_worth_trying,
    take_faster,
)
from tests.training.small_engine import CPU, build_engine, final_state, fit
from tests.training.test_preflight import fly

GPU = torch.device("cuda")


@dataclass(frozen=True)
class Taken:
    step_seconds: float


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile up to its compiler proper, which takes a minute of a busy machine."""
    monkeypatch.setattr(compilation.torch, "compile", partial(torch.compile, backend="aot_eager"))


@pytest.fixture
def no_compiler() -> Iterator[None]:
    from torch._inductor import config

    torch.compiler.reset()
    with config.patch({"cpp.cxx": (None, "no-such-compiler"), "force_disable_caches": True}):
        yield


def embed() -> CompilableEmbed:
    torch.manual_seed(0)
    return CompilableEmbed(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.GELU()).forward)


@pytest.mark.usefixtures("traced")
def test_a_compiled_run_learns_the_same_and_saves_under_the_same_names(tmp_path: Path) -> None:
    fit(build_engine(tmp_path / "eager"))
    engine = build_engine(tmp_path / "compiled")
    progress = engine.resume()
    assert fly(engine, progress, compiling=True)["compiled"] is True
    engine.fit(progress)
    eager, compiled = final_state(tmp_path / "eager"), final_state(tmp_path / "compiled")
    for part in ("model", "average"):
        assert eager[part].keys() == compiled[part].keys()
        for name, tensor in eager[part].items():
            torch.testing.assert_close(compiled[part][name], tensor, rtol=1e-3, atol=1e-4)
    assert eager["progress"]["best"]["epoch"] == compiled["progress"]["best"]["epoch"]


@pytest.mark.usefixtures("no_compiler")
def test_true_without_a_compiler_stops_the_run_and_says_so() -> None:
    images = torch.ones(2, 3)
    taken = embed()
    with pytest.raises(
        UserError, match=r"machine\.compile: true, and torch\.compile cannot do it here: .*compiler"
    ):
        compile_for_good(taken, call=lambda: taken(images))


@pytest.mark.usefixtures("no_compiler")
def test_auto_without_a_compiler_goes_on_without_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    taken, eager = embed(), Taken(1.0)

    def measure() -> Taken:
        taken(torch.ones(2, 3))
        return Taken(0.5)

    assert take_faster(taken, eager=eager, measure=measure) is eager
    assert not taken.is_compiled
    assert "machine.compile: auto: not compiled: " in caplog.text


@pytest.mark.parametrize(("seconds", "is_compiled"), [(0.5, True), (2.0, False)])
def test_the_faster_way_is_taken(
    seconds: float, is_compiled: bool, caplog: pytest.LogCaptureFixture
) -> None:
    taken, eager = embed(), Taken(1.0)
    with caplog.at_level(logging.INFO):
        found = take_faster(taken, eager=eager, measure=lambda: Taken(seconds))
    assert found.step_seconds == min(1.0, seconds)
    assert taken.is_compiled is is_compiled
    assert f"{1e3 * seconds:.1f} ms a step compiled, 1000.0 ms not" in caplog.text


def test_auto_tries_it_on_one_gpu_with_hours_to_go_only() -> None:
    worth = partial(is_worth_trying, "auto", seconds_left=7200.0, device=GPU, team=ALONE)
    assert worth()
    assert not worth(device=CPU)
    assert not worth(seconds_left=60.0)
    assert not worth(team=Team(0, 2, 2))
    assert not is_worth_trying(False, seconds_left=7200.0, device=GPU, team=ALONE)
    torch.use_deterministic_algorithms(True)
    try:
        assert not worth()
    finally:
        torch.use_deterministic_algorithms(False)


def test_auto_on_a_cpu_is_the_model_as_it_is(tmp_path: Path) -> None:
    engine = build_engine(tmp_path)
    assert fly(engine, engine.resume())["compiled"] is False
    assert not engine.machinery.embed.is_compiled
