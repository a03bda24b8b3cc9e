"""A training that goes on with another number of processes: the same examples are left, and the same steps to rounding."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from torch import Tensor, nn

import processes
from tutelage.data import TensorData
from tutelage.signals import CrossEntropy
from tutelage.training import Budget, Fitted, Interrupted, Optimization, Plan, Shuffled, fit
from tutelage.training.batches import left_over, own_places
from tutelage.weighting import AMAL

N, SIZE, SEED, STOPPED = 23, 8, 7, 2  # an epoch is of three steps
TRAINING = Optimization(optimizer="sgd", lr=0.3, batch_size=SIZE)


def points() -> TensorData:
    data = runs.points(N)
    data.tensors["input"] = data.tensors["input"].double()
    return data


def network(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(2, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, runs.C)).double()


class Seen(CrossEntropy):
    """Counts how often each example was learned from; the process that draws it remembers."""

    def __init__(self, own: bool = False) -> None:
        super().__init__(name="seen")
        self.own = own
        self.register_buffer("times_N", torch.zeros(N))
        self.register_buffer("places_2", torch.zeros(2))

    times_N: Tensor
    places_2: Tensor

    def forward(self, outputs: Any, batch: Any) -> Tensor:
        if self.observing:
            self.times_N[batch["index"]] += 1
            if self.own:  # what each process counts for itself belongs to no example
                self.places_2 += batch["index"].sum()
        return super().forward(outputs, batch)


def nothing() -> None:
    pass


def trained(
    rank: int, out: Path | None, happens: Callable[[], None] = nothing, own: bool = False, **changed: Any
) -> tuple[Fitted, Seen, AMAL]:
    def changes_nothing(input: Tensor) -> Tensor:
        return 0 * jitter(input) + input

    jitter = runs.Jitter(at=STOPPED - 1, happens=happens)
    changes_nothing.config = lambda: {"name": "nothing"}  # type: ignore[attr-defined]
    seen, weighting = Seen(own), AMAL(num_examples=N, num_signals=1)
    plan = Plan(
        **{"budget": Budget(epochs=2), "optimization": TRAINING, "adapt_every": 2, "seed": SEED, "out": out, "name": "probe"}
        | {"augment": changes_nothing} | changed
    )  # fmt: skip
    fitted = fit(network(rank), points(), signals=[seen], weighting=weighting, held_out=points(), plan=plan)
    return fitted, seen, weighting


def stopped(rank: int, out: Path, own: bool = False) -> None:
    def stop() -> None:
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted, match=f"stopped at step {STOPPED} of 6"):
        trained(rank, out, stop, own)


def resumed(rank: int, out: Path) -> None:
    fitted, seen, weighting = trained(rank, out)
    torch.save(
        (fitted.model.state_dict(), fitted.steps, fitted.history, seen.times_N, weighting.weights), out / f"{rank}.pt"
    )


def together(places: Tensor, world: int) -> Tensor:
    """The places in the order in which so many processes learn from them, batch after batch, for one process."""
    shares = [own_places(places, points(), rank, world).split(SIZE // world) for rank in range(world)]
    return torch.cat([torch.cat(step) for step in zip(*shares, strict=True)])


def as_one(before: int, after: int) -> Callable[[int], Tensor]:
    """The epochs of one process that learns from what ``before`` processes and then ``after`` processes learn from."""
    shuffled = Shuffled(N, SEED)

    def sampler(epoch: int) -> Tensor:
        places = shuffled(epoch)
        if epoch:
            return together(places, after)
        left = left_over(places, points(), before, SIZE // before, STOPPED)
        return torch.cat([together(places, before)[: STOPPED * SIZE], together(left, after)])

    return sampler


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_it_goes_on_with_the_examples_that_are_left(before: int, after: int, tmp_path: Path) -> None:
    for world, work in ((before, stopped), (after, resumed)):
        processes.together(world, work, tmp_path)
    ends = [torch.load(tmp_path / f"{rank}.pt") for rank in range(after)]
    fitted, seen, weighting = trained(0, None, sampler=as_one(before, after))
    for weights, steps, history, _, learned in ends:
        assert steps == fitted.steps
        for name, value in fitted.model.state_dict().items():
            torch.testing.assert_close(weights[name], value, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(learned, weighting.weights, rtol=1e-5, atol=1e-6)
        for ours, theirs in zip(history, fitted.history, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-9)
    for rank, (*_, times_N, _) in enumerate(ends):
        own = torch.arange(N) % after == rank
        assert torch.equal(times_N[own], seen.times_N[own])  # what other processes remembered included


def test_what_each_process_counts_for_itself_is_refused_by_name(tmp_path: Path) -> None:
    processes.together(2, stopped, tmp_path, True)
    with pytest.raises(
        ValueError, match=r"of 2 processes, of which each keeps its own 'places_2' of the loss 'seen'; go on"
    ):
        trained(0, tmp_path, own=True)


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("done", range(6))
def test_done_and_left_are_the_epoch(world: int, done: int) -> None:
    data, places, size = runs.points(23), Shuffled(23, 1)(0), 12 // world
    own = [own_places(places, data, rank, world) for rank in range(world)]
    left = left_over(places, data, world, size, done)
    seen = torch.cat([each[: done * size] for each in own])
    over = len(own[0]) - done * size <= 1
    assert set(left.tolist()) == (set() if over else set(places.tolist()) - set(seen.tolist()))
    assert left.tolist() == [place for place in places.tolist() if place in set(left.tolist())]
