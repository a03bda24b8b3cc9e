"""What is said at the start of a run: its trainings with the steps that they then take, and how long by measured steps."""

import re
from functools import partial
from pathlib import Path

import pytest
import torch
from benchmarks.faults.smallest import SMALLEST
from torch import Tensor, nn

from tutelage import recipes
from tutelage.data import TensorData
from tutelage.recipes import forecast as module
from tutelage.recipes.forecast import Training, forecast, steps_of
from tutelage.training import Budget, Log


def points(size: int = 5) -> TensorData:
    return TensorData(input=torch.randn(size, 3), label=torch.zeros(size, dtype=torch.int64))


def test_each_model_is_measured_once_on_a_whole_batch_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made, seen = [], []

    class Watched(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            seen.append(tuple(input.shape))
            return super().forward(input)

    def make(width: int) -> nn.Module:
        made.append(width)
        return Watched(3, width)

    took = [5.0, 0.75, 0.5, 0.6, 5.0, 0.25, 0.3, 0.4]  # of four steps of each model the fastest but the first counts
    clock = iter([time for each in took for time in (0.0, each)])
    monkeypatch.setattr(module.time, "perf_counter", partial(next, clock))
    trainings = [Training(name, width, partial(make, width), 100) for name, width in (("a", 2), ("b", 4), ("c", 2))]
    data, state = points(), torch.get_rng_state()
    told = forecast(trainings, data, batch_size=8, augment=lambda input: input + 1)
    assert made == [2, 4]
    assert seen == [(8, 3)] * 8
    assert torch.equal(torch.get_rng_state(), state)
    assert told.startswith(
        "3 trainings: a (100 steps), b (100 steps), c (100 steps). By the time of a step they take about 2 min"
    )


def test_short_ones_are_told_in_seconds() -> None:
    told = forecast([Training("a", 1, partial(nn.Linear, 3, 2), 100, 0.5)], points(), 2)
    assert "about 50 s" in told
    told = forecast([Training("a", 1, partial(nn.Linear, 3, 2), 1)], points(), 2)
    assert told.startswith("1 training: a (1 steps). By the time of a step they take about 1 s")


@pytest.mark.parametrize("name", ["auxiliary", "denoise", "distill", "moderation", "multilabel"])
def test_the_steps_that_are_told_are_those_that_are_taken(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    taken = []
    whole = Log.progress

    def progress(self: Log, total: int, done: int, name: str) -> object:
        taken.append(total)
        return whole(self, total, done, name)

    monkeypatch.setattr(Log, "progress", progress)
    task, settings = SMALLEST[name]()
    recipes.run(name, task, settings, tmp_path / "run")
    said = next(line for line in capfd.readouterr().err.splitlines() if " trainings: " in line)
    told = [int(steps.replace(",", "")) for steps in re.findall(r"\(([\d,]+) steps\)", said)]
    assert int(said.split(" trainings")[0]) == len(told)
    if name == "denoise":
        taken = taken[len(told) :]  # each candidate was trained twice for a few steps, to tell the time of one
    assert sorted(told) == sorted(taken)


def test_steps_of_a_budget() -> None:
    assert steps_of(Budget(epochs=3), 17, 8) == 9
    assert steps_of(Budget(steps=5), 17, 8) == 5
