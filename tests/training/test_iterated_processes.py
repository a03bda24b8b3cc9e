"""Iterated learning in two processes against one with the same global batches, and against itself interrupted."""

from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from torch import nn

import processes
from tutelage.generations import Generations, Iterated, IteratedSettings, Schedule, iterate
from tutelage.signals import BinaryCrossEntropy
from tutelage.signals.pseudo_labels import PseudoLabels
from tutelage.training import Budget, Optimization, Plan, fit

N, WORLD, SIZE, STEPS = 23, 2, 4, 12
K_T, K_S = 3, 2
LABELLED = torch.tensor([0, 1, 2, 3, 4, 6, 8, 10, 12, 14, 16])  # nine of one process, two of the other


def sgd(batch_size: int) -> Optimization:
    return Optimization(optimizer="sgd", lr=0.3, weight_decay=0.0, batch_size=batch_size)


def network(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(2, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, runs.C)).double()


def data() -> Any:
    made = runs.points(N)
    made.tensors["input"] = made.tensors["input"].double()
    return made


def iterated(rank: int, out: Path | None = None, **others: Any) -> dict[str, Any]:
    plan = Plan(Budget(steps=STEPS), sgd(WORLD * SIZE), seed=7, out=out, **others)
    settings = IteratedSettings(K_T, K_S, rho=0.3)
    found = iterate(network(rank), data(), settings, plan, labelled=LABELLED, remember=(N, runs.C))
    assert found.first_said is not None
    return {
        "model": found.fitted.model.state_dict(),
        "history": found.fitted.history,
        "said": found.first_said,
        "coverage": torch.tensor(found.coverage),
    }


def two(rank: int, out: Path) -> None:
    torch.save(iterated(rank), out / f"two-{rank}.pt")
    runs.every_step_is_saved()
    torch.save(iterated(rank, out / "a", augment=runs.Jitter()), out / f"straight-{rank}.pt")
    for cut in (1, 4, 7):  # in an interaction, in an imitation, where a generation begins
        with pytest.raises(runs.PowerCut):
            iterated(rank, out / f"b{cut}", augment=runs.Jitter(at=cut))
        torch.save(iterated(rank, out / f"b{cut}", augment=runs.Jitter()), out / f"resumed-{cut}-{rank}.pt")


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("iterated")
    processes.together(WORLD, two, out)
    return out


def test_two_processes_are_one_with_the_batches_of_both(ends):
    schedule, owner = Schedule(STEPS, K_T, K_S), torch.arange(N) % WORLD
    order = Generations(schedule, LABELLED, torch.arange(N), batch_size=SIZE, seed=7, owner=owner)

    def together(epoch: int) -> torch.Tensor:
        places = order(epoch)
        shares = [places[owner[places] == rank].split(SIZE) for rank in range(WORLD)]
        return torch.cat([torch.cat(pair) for pair in zip(*shares, strict=True)])

    model = network(0)
    said = PseudoLabels("teacher_logits", rho=0.3, remember=(N, runs.C), generations=schedule.generations)
    signal = Iterated(model, BinaryCrossEntropy(), said, schedule)
    plan = Plan(Budget(steps=STEPS), sgd(WORLD * SIZE), sampler=together, seed=7)
    fit(model, data(), signals=[signal], plan=plan)
    for rank in range(WORLD):
        found = torch.load(ends / f"two-{rank}.pt")
        for name, value in model.state_dict().items():
            torch.testing.assert_close(found["model"][name], value, rtol=1e-12, atol=1e-12)
        assert torch.equal(found["said"], said.first_said)
        torch.testing.assert_close(
            found["coverage"].double(), said.tally_G2[:, 0] / said.tally_G2[:, 1], check_dtype=False
        )
    assert (said.first_said > 0).any()


@pytest.mark.parametrize("cut", [1, 4, 7])
def test_interrupted_and_resumed_is_straight_through(ends, cut):
    for rank in range(WORLD):
        straight, resumed = (torch.load(ends / f"{name}-{rank}.pt") for name in ("straight", f"resumed-{cut}"))
        losses = [[entry.pop("iterated") for entry in found.pop("history")] for found in (straight, resumed)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-12)  # sums over processes, in another order
        runs.same(straight, resumed)
