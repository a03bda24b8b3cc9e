"""Straight through against interrupted and resumed: the same bits, wherever the interruption falls."""

import json
import random
import re
import shutil
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from torch import nn

import processes
from tutelage.data import TensorData
from tutelage.signals import Batch, CrossEntropy, Distillation, Outputs
from tutelage.training import Budget, Fitted, Hardware, Interrupted, Shuffled, checkpoint, source
from tutelage.weighting import AMAL, CRUST, MAOAL, Equal, Fixed, MetaOptimizer

STEPS = runs.EPOCHS * runs.BATCHES


@pytest.fixture(autouse=True)
def _every_step_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tutelage.training.checkpoint.due", lambda *_: True)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Fitted, dict]]:
    """The training without interruption, by optimiser, with the state that it ends in."""
    ends = {}
    for name, optimization in {"adamw": runs.ADAMW, "sgd": runs.SGD}.items():
        out = tmp_path_factory.mktemp(name)
        ends[name] = runs.whole_training(out, optimization), checkpoint.load(out)
    return ends


def assert_same_end(found: Fitted, out: Path, straight: tuple[Fitted, dict]) -> None:
    fitted, state = straight
    runs.same(checkpoint.load(out), state)  # weights, optimiser, weighting, signals, history, best
    runs.same(dict(found.model.state_dict()), dict(fitted.model.state_dict()))
    runs.same(found.history, fitted.history)
    runs.same(found.best, fitted.best)
    runs.same(found.weighting_history, fitted.weighting_history)
    assert [entry["step"] for entry in found.weighting_history] == list(range(0, STEPS + 1, 2))
    assert (found.steps, found.skipped) == (fitted.steps, fitted.skipped)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
@pytest.mark.parametrize("step", range(STEPS))
def test_a_crash_at_any_step(step: int, name: str, straight, tmp_path: Path) -> None:
    """The batch after ``step`` steps cannot be made; steps 3 and 6 begin an epoch, 0 is before the first checkpoint."""
    optimization = {"adamw": runs.ADAMW, "sgd": runs.SGD}[name]
    with pytest.raises(runs.PowerCut):
        runs.whole_training(tmp_path, optimization, runs.Jitter(at=step))
    assert_same_end(runs.whole_training(tmp_path, optimization), tmp_path, straight[name])


def test_a_crash_at_every_step(straight, tmp_path: Path) -> None:
    for _ in range(STEPS - 1):  # each call takes one step
        with pytest.raises(runs.PowerCut):
            runs.whole_training(tmp_path, jitter=runs.Jitter(at=1))
    assert_same_end(runs.whole_training(tmp_path), tmp_path, straight["adamw"])


@pytest.mark.parametrize("step", [2, 4, 7])
def test_a_crash_after_a_coreset_was_chosen(step: int, tmp_path: Path) -> None:
    """What a weighting has chosen before an epoch holds to its end, also where the model has changed since."""

    def training(out: Path | None, jitter: runs.Jitter | None = None) -> Fitted:
        weighting = CRUST(runs.N, fraction=0.4, radius=None, start=1)
        return runs.whole_training(out, jitter=jitter, weighting=weighting, held_out=None)

    straight = training(None)
    with pytest.raises(runs.PowerCut):
        training(tmp_path, runs.Jitter(at=step))
    runs.same(dict(training(tmp_path).model.state_dict()), dict(straight.model.state_dict()))
    weights = checkpoint.load(tmp_path)["weighting"]["table.rows"]
    assert 0 < int((weights > 0).sum()) < runs.N


@pytest.mark.parametrize(("seconds", "saved"), [(0.0, STEPS), (1e9, 1)])
def test_the_seconds_between_checkpoints_are_a_setting(seconds: float, saved: int, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.undo()
    save, calls = checkpoint.save, []
    monkeypatch.setattr(checkpoint, "save", lambda *arguments: calls.append(save(*arguments)))
    runs.whole_training(tmp_path, hardware=Hardware(checkpoint_seconds=seconds))
    assert len(calls) == saved


def test_without_checkpoints_and_with_few_it_is_the_same_training(straight, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.undo()
    assert_same_end(runs.whole_training(tmp_path), tmp_path, straight["adamw"])
    alone = runs.whole_training(None)
    runs.same(dict(alone.model.state_dict()), dict(straight["adamw"][0].model.state_dict()))


def test_a_training_that_has_ended_is_not_repeated(straight, tmp_path: Path) -> None:
    runs.whole_training(tmp_path)
    untouched = runs.Jitter(at=0)  # would fail at the first batch
    assert_same_end(runs.whole_training(tmp_path, jitter=untouched), tmp_path, straight["adamw"])


def test_the_callers_random_numbers_are_not_touched() -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    runs.whole_training(None)
    assert torch.equal(torch.rand(3), expected)


def test_the_end_is_not_a_matter_of_the_callers_random_numbers(straight) -> None:
    torch.manual_seed(12)
    runs.same(runs.whole_training(None).history, straight["adamw"][0].history)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_cleanly(number: signal.Signals, straight, tmp_path: Path) -> None:
    before = signal.signal(number, signal.default_int_handler)  # what runs the tests may ignore hang-ups
    try:
        for step in (0, 1, 0, 2, 1):  # the first step, mid-epoch, an epoch's last step and what follows
            with pytest.raises(Interrupted, match="run it again to go on"):
                runs.whole_training(tmp_path, jitter=runs.Jitter(at=step, happens=lambda: signal.raise_signal(number)))
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
    assert_same_end(runs.whole_training(tmp_path), tmp_path, straight["adamw"])
    assert [p.name for p in tmp_path.glob(".*")] == []


def test_a_request_to_stop_during_the_last_evaluation_is_heard(straight, tmp_path: Path, monkeypatch: Any) -> None:
    """What follows the training must not begin."""
    from tutelage.training.loop import Loop

    evaluate, evaluated = Loop.evaluate, []

    def asked(run: Any, bar: Any) -> None:
        evaluated.append(run.step)
        if len(evaluated) == runs.EPOCHS:
            signal.raise_signal(signal.SIGTERM)
        evaluate(run, bar)

    monkeypatch.setattr(Loop, "evaluate", asked)
    with pytest.raises(Interrupted) as stopped:
        runs.whole_training(tmp_path)
    assert f"stopped at step {evaluated[-1]} of {evaluated[-1]}" in str(stopped.value)
    assert_same_end(runs.whole_training(tmp_path), tmp_path, straight["adamw"])
    assert len(evaluated) == runs.EPOCHS


def test_a_hangup_that_is_ignored_stays_ignored(straight, tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        jitter = runs.Jitter(at=1, happens=lambda: signal.raise_signal(signal.SIGHUP))
        assert_same_end(runs.whole_training(tmp_path, jitter=jitter), tmp_path, straight["adamw"])
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_stop_without_a_folder_says_that_nothing_is_kept() -> None:
    with pytest.raises(Interrupted, match="nothing is kept"):
        runs.whole_training(None, jitter=runs.Jitter(at=1, happens=lambda: signal.raise_signal(signal.SIGTERM)))


def slow_training(out: Path) -> None:
    runs.every_step_is_saved()
    try:
        runs.whole_training(out, jitter=runs.Jitter(seconds=0.03))
    except Interrupted:
        raise SystemExit(75) from None


def stamp(out: Path) -> int:
    path = out / checkpoint.CURRENT
    return path.stat().st_mtime_ns if path.exists() else 0


def wait_for_a_checkpoint(out: Path, after: int) -> None:
    deadline = time.monotonic() + 60
    while stamp(out) <= after:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_killed_three_times_at_random_moments(straight, tmp_path: Path) -> None:
    dice = random.Random(6)
    for _ in range(3):
        before = stamp(tmp_path)
        process = processes.started(slow_training, tmp_path)
        wait_for_a_checkpoint(tmp_path, before)
        time.sleep(dice.uniform(0, 0.06))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    assert_same_end(runs.whole_training(tmp_path), tmp_path, straight["adamw"])
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert sum(line["event"] == "resumed" for line in lines) == 3


def test_terminated_from_outside(straight, tmp_path: Path) -> None:
    process = processes.started(slow_training, tmp_path)
    wait_for_a_checkpoint(tmp_path, 0)
    process.terminate()
    process.join()
    assert process.exitcode == 75
    state = checkpoint.load(tmp_path)
    assert state is not None
    assert 0 < state["standing"]["step"] < STEPS
    assert_same_end(runs.whole_training(tmp_path), tmp_path, straight["adamw"])


def other_accuracy(outputs: Outputs, batch: Batch) -> float:
    return runs.accuracy(outputs, batch)


def with_pixel_changed(size: int, seed: int = 1) -> TensorData:
    """The same examples but for one number of the last one."""
    data = runs.points(size, seed)
    data.tensors["input"][-1, -1] += 1
    return data


def with_label_changed() -> TensorData:
    data = runs.points()
    data.tensors["label"][-1] = (data.tensors["label"][-1] + 1) % runs.C
    return data


def frozen() -> nn.Module:
    model = runs.network()
    model[0].requires_grad_(False)
    return model


SAID = Distillation(runs.network(9), temperature=1.0)
CHANGES: dict[str, list[dict[str, Any]]] = {
    "seed": [{"seed": 6}],
    "train.examples": [{"train": runs.points(23)}],
    "train.content": [{"train": with_pixel_changed(runs.N)}, {"train": with_label_changed()}],
    "held_out": [{"held_out": with_pixel_changed(10, 3)}, {"held_out": runs.points(11, 3)}],
    "val": [{"val": with_pixel_changed(12, 4)}],
    "sampler": [{"sampler": lambda epoch: torch.arange(runs.N)}, {"sampler": Shuffled(runs.N, 9)}],
    "signals": [
        {"signals": [CrossEntropy(), CrossEntropy(name="echo too")]},
        {"signals": [CrossEntropy(smoothing=0.1), runs.Echo()]},
        {"signals": [CrossEntropy(), runs.Echo(), SAID]},
    ],
    "weighting": [{"weighting": Equal()}, {"weighting": Fixed([1.0, 0.5])}],
    "budget": [{"budget": Budget(steps=9)}],
    "optimization.optimizer": [{"optimization": runs.SGD}],
    "optimization.lr": [{"optimization": replace(runs.ADAMW, lr=0.03)}],
    "model.shapes": [{"model": nn.Sequential(nn.Linear(2, 7), nn.ReLU(), nn.Linear(7, runs.C))}],
    "model.frozen": [{"model": frozen()}],
    "augment": [{"augment": None}, {"augment": partial(torch.add, other=0.1)}],
    "select_by": [{"select_by": other_accuracy}],
    "adapt_every": [{"adapt_every": 3}],
    "held_out_batch_size": [{"held_out_batch_size": 4}],
    "precision": [{"hardware": Hardware(precision="bf16")}],
    "heads": [{"heads": ("4",)}],
}


@pytest.mark.parametrize(("name", "changed"), [(name, each) for name, several in CHANGES.items() for each in several])
def test_another_call_does_not_take_the_checkpoint(name: str, changed: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(runs.PowerCut):
        runs.whole_training(tmp_path, jitter=runs.Jitter(at=2))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=rf"made with {re.escape(name)}[\w. ]*=.*, this call has .*delete the folder"):
        runs.whole_training(tmp_path, **changed)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("budgets", [(Budget(epochs=2), Budget(epochs=3)), (Budget(steps=4), Budget(steps=STEPS))])
def test_a_finished_budget_is_extended(budgets: tuple[Budget, Budget], tmp_path: Path) -> None:
    """From the last weights, not from the selected ones."""
    constant = replace(runs.ADAMW, schedule="constant", warmup=0.0)
    less, more = budgets
    whole = runs.whole_training(tmp_path / "straight", constant, budget=more)
    first = runs.whole_training(tmp_path / "extended", constant, budget=less)
    assert first.steps < STEPS
    found = runs.whole_training(tmp_path / "extended", constant, budget=more)
    states = [checkpoint.load(tmp_path / name) for name in ("extended", "straight")]
    runs.same(*[{key: state[key] for key in ("model", "optimizer", "weighting", "signals")} for state in states])
    assert found.steps == STEPS
    assert first.history[-1] in found.history  # the evaluation of its end stays
    assert whole.history[-1]["val"] == found.history[-1]["val"]
    with pytest.raises(ValueError, match="made with budget"):  # and not shortened
        runs.whole_training(tmp_path / "extended", constant, budget=less)


def test_a_budget_that_the_learning_rates_depend_on_is_not_extended(tmp_path: Path) -> None:
    runs.whole_training(tmp_path)
    with pytest.raises(
        ValueError, match=r"budget\.epochs=3, this call has 4 \(a larger one goes on where schedule='const"
    ):
        runs.whole_training(tmp_path, budget=Budget(epochs=4))


def test_other_weights_and_another_temperature_are_another_training(tmp_path: Path) -> None:
    """A finished training of the labels alone is not the answer to one of the teacher alone."""

    def training(weights: list[float], temperature: float, teacher: int = 9) -> Fitted:
        signals = [CrossEntropy(), Distillation(runs.network(teacher), temperature=temperature)]
        return runs.whole_training(tmp_path, signals=signals, weighting=Fixed(weights), held_out=None)

    training([1.0, 0.0], 1.0)
    with pytest.raises(ValueError, match=r"made with weighting\.weights\.0=1\.0, this call has 0\.0;"):
        training([0.0, 1.0], 1.0)
    with pytest.raises(ValueError, match=r"made with signals\.1\.temperature=1\.0, this call has 8\.0;"):
        training([1.0, 0.0], 8.0)
    with pytest.raises(ValueError, match=r"made with signals\.1\.teacher\.state="):
        training([1.0, 0.0], 1.0, teacher=10)
    assert training([1.0, 0.0], 1.0).steps == STEPS


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"lr": 0.1}, "lr"),
        ({"init": 1.5}, "init"),
        ({"strategy": "finite_difference"}, "strategy"),
        ({"meta_optimizer": MetaOptimizer(lr=0.1)}, "meta_optimizer"),
    ],
)
def test_a_weighting_with_another_argument_is_another_training(
    changed: dict[str, Any], key: str, tmp_path: Path
) -> None:
    kind = {"meta_optimizer": MAOAL}.get(key, AMAL)

    def training(**options: Any) -> Fitted:
        model = runs.network()
        weighting = MAOAL(model, 2, **options) if kind is MAOAL else AMAL(num_examples=runs.N, num_signals=2, **options)
        return runs.whole_training(
            tmp_path, model=model, weighting=weighting, signals=[CrossEntropy(), SAID], budget=Budget(steps=1)
        )

    training()
    with pytest.raises(ValueError, match=rf"made with weighting\.{key}"):
        training(**changed)


def test_another_code_does_not_take_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.whole_training(tmp_path)
    monkeypatch.setattr(source, "version", lambda: "0.0.1+feed")
    with pytest.raises(ValueError, match=r"made with code='0.*\+.*', this call has '0.0.1\+feed'"):
        runs.whole_training(tmp_path)


def test_workers_may_change(straight, tmp_path: Path) -> None:
    with pytest.raises(runs.PowerCut):
        runs.whole_training(tmp_path, jitter=runs.Jitter(at=2))
    found = runs.whole_training(tmp_path, hardware=Hardware(workers=1))
    assert_same_end(found, tmp_path, straight["adamw"])


def test_the_same_training_in_another_folder(straight, tmp_path: Path) -> None:
    with pytest.raises(runs.PowerCut):
        runs.whole_training(tmp_path / "here", jitter=runs.Jitter(at=4))
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert_same_end(runs.whole_training(tmp_path / "there"), tmp_path / "there", straight["adamw"])


def test_a_budget_of_steps_ends_within_an_epoch(tmp_path: Path) -> None:
    budget = Budget(steps=7)
    whole = runs.whole_training(tmp_path / "a", budget=budget)
    assert (whole.steps, [entry["step"] for entry in whole.history]) == (7, [3, 6, 7])
    with pytest.raises(runs.PowerCut):
        runs.whole_training(tmp_path / "b", jitter=runs.Jitter(at=5), budget=budget)
    runs.whole_training(tmp_path / "b", budget=budget)
    runs.same(checkpoint.load(tmp_path / "b"), checkpoint.load(tmp_path / "a"))
