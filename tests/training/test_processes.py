"""Two processes against one with the same global batches, over gloo, as torchrun would start them."""

import json
import signal
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from torch import Tensor, nn

import processes
from tutelage.data import TensorData
from tutelage.distributed import end_step, rank_world
from tutelage.signals import CrossEntropy, Signal
from tutelage.training import Budget, Fitted, Hardware, Interrupted, Optimization, Plan, Shuffled, fit, predict
from tutelage.training.batches import own_places
from tutelage.weighting import AMAL, Equal, Partition, Weighting
from tutelage.weighting.fixed import FixedByModule

N, WORLD, SIZE = 23, 2, 4  # 12 even and 11 odd places: each epoch leaves one out
STEPLY = {
    "adamw": Optimization(lr=0.05, batch_size=WORLD * SIZE),
    "sgd": Optimization(optimizer="sgd", lr=0.3, batch_size=WORLD * SIZE),
}


def spoilt(*rows: int, dtype: torch.dtype = torch.float64) -> TensorData:
    data = runs.points(N)
    data.tensors["input"] = data.tensors["input"].to(dtype)
    data.tensors["input"][list(rows)] = torch.nan
    return data


def plain_network(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(2, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, runs.C)).double()


def normalised_network(seed: int) -> nn.Module:
    """A convolution too, so that an example has several values a channel."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        line = nn.Sequential(nn.Unflatten(1, (1, 2)), nn.Conv1d(1, 4, 1), nn.BatchNorm1d(4, momentum=0.3), nn.Flatten())
        rest = nn.Sequential(nn.Tanh(), nn.Linear(8, 8), nn.BatchNorm1d(8, affine=False), nn.Linear(8, runs.C))
        return nn.Sequential(line, rest).double()


class Cursed(CrossEntropy):
    """Not finite for some labels: the model runs once more in the process that meets one."""

    def forward(self, outputs: Any, batch: Any) -> Tensor:
        return super().forward(outputs, batch) / (batch["index"] % 6 != 0)


class Moody(runs.Moody):
    def __init__(self) -> None:
        super().__init__(N)


def in_one_order(epoch: int) -> Tensor:
    """For one process: what the processes' batches hold together, one after another."""
    places = Shuffled(N, 7)(epoch)
    shares = [own_places(places, runs.points(N), rank, WORLD).split(SIZE) for rank in range(WORLD)]
    return torch.cat([torch.cat(together) for together in zip(*shares, strict=True)])


class Torn(FixedByModule):
    """A backward pass for each parameter, through one forward pass."""

    def __init__(self) -> None:
        partition = Partition.of(normalised_network(0), "parameter", heads=[])
        super().__init__([[0.25 * place for place in range(len(partition))]], partition)


def amal() -> Weighting:
    return AMAL(N, 2)


ALONE = "no input of one process is finite"
CASES: dict[str, tuple[TensorData, Callable[[], Signal], Callable[[], Weighting], str]] = {
    "adamw": (spoilt(), CrossEntropy, Equal, "adamw"),
    "sgd": (spoilt(), CrossEntropy, Equal, "sgd"),
    "some inputs are not finite": (spoilt(0, 2, 7, 8, 9), CrossEntropy, Equal, "sgd"),
    ALONE: (spoilt(*range(0, N, 2)), CrossEntropy, Equal, "sgd"),
    "some losses are not finite": (spoilt(), Cursed, Equal, "sgd"),
    "weights by example": (spoilt(), CrossEntropy, Moody, "sgd"),
}


NORMALISED: dict[str, tuple[TensorData, Callable[[], Signal], Callable[[], Weighting], str]] = {
    "batch normalisation": (spoilt(), CrossEntropy, Equal, "sgd"),
    "batch normalisation, some inputs are not finite": (spoilt(0, 2, 7, 8, 9), CrossEntropy, Equal, "sgd"),
    "batch normalisation, some losses are not finite": (spoilt(), Cursed, Equal, "sgd"),
    "batch normalisation, several backward passes": (spoilt(), CrossEntropy, Torn, "sgd"),
}
"""By the batches of both processes."""
LEARNED = "batch normalisation, weights that are learned"


def train(name: str, seed: int, one: bool) -> tuple[Fitted, Weighting]:
    data, supervise, weigh, optimizer = {**CASES, **NORMALISED, LEARNED: (spoilt(), CrossEntropy, amal, "sgd")}[name]
    weighting = weigh()
    fitted = fit(
        plain_network(seed) if name in CASES else normalised_network(seed),
        data,
        signals=[supervise(), CrossEntropy(smoothing=0.2, name="smooth")]
        if name in (*NORMALISED, LEARNED)
        else [supervise()],
        weighting=weighting,
        held_out=data,
        plan=Plan(
            Budget(epochs=3),
            STEPLY[optimizer],
            adapt_every=2 if name == LEARNED else 1_000,  # never within these steps
            hardware=Hardware(sync_batchnorm=name not in CASES),
            name="probe",
            sampler=in_one_order if one else Shuffled(N, 7),
            seed=7,
        ),
    )
    return fitted, weighting


class Told(CrossEntropy):
    """Counts how often it was told of each example before an epoch."""

    def __init__(self) -> None:
        super().__init__(name="told")
        self.register_buffer("told_N", torch.zeros(N))

    told_N: Tensor

    def begin_epoch(self, epoch: int, predict_fn: Any) -> None:
        index, outputs = predict_fn(augmented=True)
        assert len(index) == len(outputs)
        self.told_N[index] += 1


def with_statistics(rank: int, out: Path, jitter: runs.Jitter) -> dict[str, Any]:
    """Batch normalisation, dropout, augmentation and selection, from other weights in each process."""
    told = Told()
    fitted = runs.whole_training(
        out,
        name="probe",
        jitter=jitter,
        model=runs.network(rank),
        train=spoilt(3, 4, 5, 6, dtype=torch.float32),
        weighting=Equal(),
        signals=[CrossEntropy(), told],
        optimization=STEPLY["adamw"],
    )
    shared = {"state": fitted.model.state_dict(), "history": fitted.history, "best": fitted.best}
    return {"shared": shared, "skipped": fitted.skipped, "told": told.told_N}


def everything(rank: int, out: Path) -> None:
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "probe: .* were left out")
    mistaken(rank, out)
    exchanged(rank)
    torch.save(tracked(rank), out / f"tracked-{rank}.pt")
    torch.save(answers(shared=True), out / f"answers-{rank}.pt")
    for name in (*CASES, *NORMALISED, LEARNED):
        fitted, weighting = train(name, seed=rank, one=False)
        if isinstance(weighting, Moody):
            torch.save(weighting.seen_N, out / f"seen-{rank}.pt")
        torch.save((fitted.model.state_dict(), fitted.steps, fitted.skipped, fitted.history), out / f"{name}-{rank}.pt")

    runs.every_step_is_saved()
    torch.save(with_statistics(rank, out / "a", runs.Jitter()), out / f"straight-{rank}.pt")
    for stopped in (1, 0):  # a signal that reaches one process stops both
        jitter = runs.Jitter(at=2, happens=lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(Interrupted):
            with_statistics(rank, out / "b", jitter if rank == stopped else runs.Jitter())
    torch.save(with_statistics(rank, out / "b", runs.Jitter()), out / f"resumed-{rank}.pt")


def tracked(rank: int) -> tuple[list[int], int]:
    """Return the steps that a tracker heard of, and how many processes are together when it has finished."""
    recorder = runs.Recorder()
    plan = Plan(optimization=STEPLY["sgd"], budget=Budget(epochs=1), hardware=Hardware(trackers=(recorder,)))
    fit(plain_network(rank), spoilt(), signals=[CrossEntropy()], plan=plan)
    return [step for step, _ in recorder.logged], rank_world()[1]


def exchanged(rank: int) -> None:
    """A step's end: means of gradients, the first process's buffers whatever their types, and what anybody asks for."""
    model = nn.Linear(2, 1)
    model.unheard = nn.Parameter(torch.zeros(3))
    gradients = torch.tensor([[[1.0, 2.0]], [[3.0, 6.0]]])
    model.weight.grad = gradients[rank].clone()
    model.bias.grad = torch.tensor([8.0]) if rank else None
    state = [
        torch.tensor(0.1 + rank),
        torch.tensor(2**40 + rank),
        torch.tensor([True, rank > 0]),
        torch.ones(2).double() / 3,
    ]
    state.append(torch.full((2,), torch.nan if rank else 5.0))
    assert end_step(model, state, False, rank == 1) == [False, True]
    assert model.weight.grad.tolist() == [[2.0, 4.0]]
    assert model.bias.grad.tolist() == [4.0]
    assert model.unheard.grad is None
    assert [each.tolist() for each in state[1:3]] == [2**40, [True, False]]
    assert torch.equal(state[0], torch.tensor(0.1))
    assert torch.equal(state[3], torch.ones(2).double() / 3)
    assert state[4].tolist() == [5.0, 5.0]


def mistaken(rank: int, out: Path) -> None:
    """All processes meet the same error, and none waits for the others."""
    plan = Plan(Budget(epochs=3), STEPLY["sgd"], seed=7)
    with pytest.raises(ValueError, match="no example had a finite loss"):
        fit(plain_network(0), spoilt(*range(N)), signals=[CrossEntropy()], plan=plan)
    with pytest.raises(ValueError, match=r"leave it as BatchNorm, and set hardware\.sync_batchnorm=True"):
        fit(nn.SyncBatchNorm.convert_sync_batchnorm(runs.network()), spoilt(), signals=[CrossEntropy()], plan=plan)
    uneven = replace(plan, optimization=replace(STEPLY["sgd"], batch_size=5))
    with pytest.raises(ValueError, match="batch_size=5 is shared by 2 processes; make it a multiple of 2"):
        fit(plain_network(0), spoilt(), signals=[CrossEntropy()], plan=uneven)


def answers(shared: bool) -> list[Any]:
    """Predictions of several batches, the last of them smaller, and of fewer batches than processes."""
    data, model, made = runs.points(N), runs.network(), []

    class Counting(nn.Sequential):
        def forward(self, input: Tensor) -> Tensor:
            made.append(len(input))
            return super().forward(input)

    counting = Counting(*model)
    for size in (5, 64):
        made.append(0)
        made.append(predict(counting, data, batch_size=size, augment=runs.Jitter(), shared=shared))
    return made


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("processes")
    processes.together(WORLD, everything, out)
    return out


@pytest.mark.parametrize("name", [*CASES, *NORMALISED])
def test_two_processes_are_one_with_larger_batches(name: str, ends: Path) -> None:
    (first, *facts), (second, *others) = (torch.load(ends / f"{name}-{rank}.pt") for rank in range(WORLD))
    runs.same(first, second)
    runs.same(facts, others)
    if name == ALONE:  # all leave such a batch out, and go on together
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "probe: .* were left out")
        one, _ = train(name, seed=0, one=True)
    assert facts[:2] == [one.steps, one.skipped]
    for entry, value in one.model.state_dict().items():
        torch.testing.assert_close(first[entry], value, rtol=1e-9, atol=1e-11)
    for ours, theirs in zip(one.history, facts[2], strict=True):
        assert theirs == pytest.approx(ours, rel=1e-9, nan_ok=True)


def test_processes_agree_where_a_weighting_looks_at_the_model_itself(ends: Path) -> None:
    """Its passes normalise by each process's share; how many they are does not matter to the others."""
    runs.same(*(torch.load(ends / f"{LEARNED}-{rank}.pt") for rank in range(WORLD)))


def test_processes_agree_with_batch_normalisation_and_selection(ends: Path) -> None:
    first, second = (torch.load(ends / f"straight-{rank}.pt") for rank in range(WORLD))
    runs.same(first["shared"], second["shared"])


def test_predictions_are_shared_out_and_the_same_bits(ends: Path) -> None:
    one = answers(shared=False)
    several = [torch.load(ends / f"answers-{rank}.pt") for rank in range(WORLD)]
    assert [[each for each in found if isinstance(each, int)] for found in (one, *several)] == [
        [0, 5, 5, 5, 5, 3, 0, 23],
        [0, 5, 5, 0],
        [0, 5, 5, 3, 0, 23],
    ]
    for found in several:
        runs.same(
            [each for each in found if isinstance(each, tuple)], [each for each in one if isinstance(each, tuple)]
        )


def test_a_tracker_that_finishes_leaves_the_processes_together(ends: Path) -> None:
    """Accelerate's ``end_training`` destroys their group, and each would go on alone."""
    (steps, first), (none, second) = (torch.load(ends / f"tracked-{rank}.pt") for rank in range(WORLD))
    assert (steps, none) == ([3], [])
    assert (first, second) == (WORLD, WORLD)


def test_an_example_belongs_to_one_process(ends: Path) -> None:
    for rank in range(WORLD):
        mine = torch.arange(N) % WORLD == rank
        seen = torch.load(ends / f"seen-{rank}.pt")
        assert seen.any()
        assert not seen[~mine].any()
        told = torch.load(ends / f"straight-{rank}.pt")["told"]
        assert torch.equal(told, runs.EPOCHS * mine.float())  # all of its own


@pytest.mark.parametrize("rank", range(WORLD))
def test_resumed_is_straight_through(rank: int, ends: Path) -> None:
    """What each process remembers of its own examples included."""
    runs.same(torch.load(ends / f"resumed-{rank}.pt"), torch.load(ends / f"straight-{rank}.pt"))


def test_one_process_logs(ends: Path) -> None:
    events = [json.loads(line)["event"] for line in (ends / "b" / "log.jsonl").read_text().splitlines()]
    assert events.count("resumed") == 2
    assert events.count("evaluation") == runs.EPOCHS
