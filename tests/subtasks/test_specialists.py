import copy
from dataclasses import replace
from pathlib import Path

import pocket
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.data import Batched, ImageArray, ImageTable
from tutelage.subtasks import Specialists, SpecialistSettings, train_specialists
from tutelage.subtasks.specialists import Membership, _weight, memberships
from tutelage.training import Interrupted

K = 3
SEPARATE = SpecialistSettings(sharing="separate", epochs=1)


class Judge(nn.Module):
    """Pixels of 2 x 2 images through one hidden layer; double where it is asked for."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.trunk = nn.Linear(12, 5)
        self.head = nn.Linear(5, outputs)

    def forward(self, input: Tensor) -> Tensor:
        return self.head(self.trunk(input.flatten(1).to(self.head.weight.dtype) / 255 - 0.5).tanh())


@pytest.fixture(scope="module")
def images() -> ImageTable:
    """Sixty specks: 24 defects of three kinds among the 40 of train, and 20 to validate with."""
    import pandas as pd

    pixels = torch.randint(0, 256, (60, 3, 2, 2), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    label = torch.tensor([0] * 24 + [1] * 16 + [0, 1] * 10)
    split = ["train"] * 40 + ["teacher_val"] * 20
    table = pd.DataFrame({"id": [str(i) for i in range(60)], "label": label.numpy(), "split": split})
    return ImageTable(ImageArray(pixels), table)


def subtask_of(images: ImageTable) -> Tensor:
    subtask = torch.full((len(images),), -1)
    subtask[:24] = torch.arange(24) % K
    return subtask


def train(
    images: ImageTable,
    settings: SpecialistSettings,
    make=Judge,
    out: Path | None = None,
    examples=None,
    subtask: Tensor | None = None,
) -> Specialists:
    torch.manual_seed(0)
    return train_specialists(
        make,
        examples or images.subset,
        subtask_of(images) if subtask is None else subtask,
        images.labels,
        images.rows("train"),
        images.subset(images.rows("teacher_val")),
        settings,
        pocket.plan(out=out),
        count=K,
    )


def test_what_each_specialist_is_told():
    subtask = torch.tensor([0, 2, -1, -1, -1, 1])
    label = torch.tensor(
        [0, 0, 1, -1, 0, 1]
    )  # the fifth is a defect of no sub-task; the last one is acceptable after all
    assert memberships(subtask, label, 3).tolist() == [
        [0, -1, -1],
        [-1, -1, 0],
        [1, 1, 1],
        [-1, -1, -1],
        [-1, -1, -1],
        [1, 1, 1],
    ]


@pytest.mark.parametrize("weight", [1.0, 2.5])
def test_output_j_of_a_trunk_learns_what_specialist_j_alone_learns(images, weight):
    torch.manual_seed(1)
    shared = Judge(K).double()
    told_NK = memberships(subtask_of(images), images.labels, K)
    rows = torch.arange(40)
    batch = {
        "input": images.images.gather(rows.tolist()),
        "label": images.labels[rows],
        "membership": told_NK[rows].double(),
    }
    Membership(weight)(shared(batch["input"]), batch).sum().backward()
    trunk = torch.zeros_like(shared.trunk.weight)
    for j in range(K):
        alone = Judge(1).double()
        alone.trunk = copy.deepcopy(shared.trunk)
        alone.zero_grad()
        alone.head.weight.data, alone.head.bias.data = (
            shared.head.weight.data[j : j + 1],
            shared.head.bias.data[j : j + 1],
        )
        own = told_NK[rows, j] >= 0  # its defects and all that is acceptable
        logits = alone(batch["input"][own]).squeeze(1)
        target = batch["label"][own].double()
        costs = torch.where(target == 0, weight, 1.0)
        F.binary_cross_entropy_with_logits(logits, target, weight=costs, reduction="sum").backward()
        assert torch.allclose(shared.head.weight.grad[j], alone.head.weight.grad[0], rtol=1e-12, atol=1e-14)
        assert torch.allclose(shared.head.bias.grad[j], alone.head.bias.grad[0], rtol=1e-12, atol=1e-14)
        trunk += alone.trunk.weight.grad
    assert torch.allclose(shared.trunk.weight.grad, trunk, rtol=1e-12, atol=1e-14)


def test_smoothed_labels_are_those_of_a_cross_entropy_over_two_classes():
    """Paper: label smoothing of 0.05 in all trainings; beside it a specialist's one output is the log-odds of two classes."""
    told_NK = torch.tensor([[1.0, 1.0], [0.0, -1.0], [-1.0, 0.0]])
    log_odds_NK = torch.tensor([[2.0, -1.0], [0.5, 9.0], [-9.0, 3.0]], dtype=torch.float64)
    two_way = torch.stack([torch.zeros_like(log_odds_NK), log_odds_NK], -1)
    each_NK = F.cross_entropy(
        two_way.flatten(0, 1), told_NK.clamp_min(0).long().flatten(), reduction="none", label_smoothing=0.05
    ).view(3, 2)
    batch = {"membership": told_NK.double(), "label": torch.tensor([1, 0, 0])}
    expected = torch.where(told_NK < 0, 0.0, each_NK).sum(1)
    assert torch.allclose(Membership(1.0, 0.05)(log_odds_NK, batch), expected, rtol=1e-12)


@pytest.mark.parametrize(("balance", "ratio"), [(0.0, 1.0), (1.0, 16 / 8), (0.5, 2**0.5)])
def test_the_balance_of_defects_and_acceptable_examples(images, balance, ratio):
    """Each of the three has 8 defects among 16 acceptable examples."""
    told_NK = memberships(subtask_of(images), images.labels, K)[:40]
    assert _weight(told_NK, balance) == pytest.approx(ratio)
    assert _weight(told_NK[:, :1], balance) == pytest.approx(ratio)


def test_a_trunk_is_one_network_and_separate_ones_are_many(images, tmp_path):
    examples = images.subset(torch.arange(60))
    for settings, networks in ((SEPARATE, K), (replace(SEPARATE, sharing="trunk"), 1)):
        specialists = train(images, settings, out=tmp_path / settings.sharing)
        assert len(specialists.networks) == networks
        assert specialists.failures == {}
        log_odds_NK = specialists.logits(examples)
        assert log_odds_NK.shape == (60, K)
        assert torch.isfinite(log_odds_NK).all()
    assert sorted(path.name for path in (tmp_path / "separate").iterdir()) == [f"specialist-{j}" for j in range(K)]
    assert [path.name for path in (tmp_path / "trunk").iterdir()] == ["specialists"]


def test_a_separate_network_sees_its_own_defects_and_what_is_acceptable(images):
    seen: list[set[int]] = []

    class Watched(Batched):
        def __init__(self, rows: Tensor) -> None:
            seen.append(set(rows.tolist()))
            self.subset = images.subset(rows)
            self.index = rows

        def __len__(self) -> int:
            return len(self.subset)

        def batch(self, places):
            return self.subset.batch(places)

    train(images, SEPARATE, examples=Watched)
    assert seen == [{*range(j, 24, K), *range(24, 40)} for j in range(K)]


def failing_at(j: int, fail) -> object:
    made = []

    def make(outputs: int) -> nn.Module:
        made.append(outputs)
        return fail(Judge(outputs)) if len(made) == j + 1 else Judge(outputs)

    return make


def broken(network: nn.Module) -> nn.Module:
    raise RuntimeError("no memory is left")


def not_a_number(network: Judge) -> nn.Module:
    network.head.bias.data.fill_(torch.nan)
    return network


@pytest.mark.parametrize(("fail", "why"), [(broken, "RuntimeError: no memory is left"), (not_a_number, "ValueError: ")])
def test_the_failure_of_one_does_not_lose_the_rest(images, fail, why):
    specialists = train(images, SEPARATE, failing_at(1, fail))
    assert [network is None for network in specialists.networks] == [False, True, False]
    assert list(specialists.failures) == [1]
    assert specialists.failures[1].startswith(why)
    log_odds_NK = specialists.logits(images.subset(torch.arange(60)))
    assert log_odds_NK[:, 1].isnan().all()
    assert torch.isfinite(log_odds_NK[:, [0, 2]]).all()


def test_the_failure_of_a_trunk_is_everybodys(images):
    specialists = train(images, replace(SEPARATE, sharing="trunk"), failing_at(0, broken))
    assert list(specialists.failures) == [0, 1, 2]
    assert specialists.logits(images.subset(torch.arange(4))).isnan().all()


def test_who_is_asked_to_stop_stops(images):
    def stop(network: nn.Module) -> nn.Module:
        raise Interrupted("enough")

    with pytest.raises(Interrupted, match="enough"):
        train(images, SEPARATE, failing_at(1, stop))


def test_a_mistake_of_ours_is_no_failure_of_a_specialist(images):
    def mistaken(network: nn.Module) -> nn.Module:
        raise AttributeError("no such thing")

    with pytest.raises(AttributeError):
        train(images, SEPARATE, failing_at(1, mistaken))


def test_a_sub_task_without_examples_still_has_its_place(images):
    subtask = subtask_of(images)
    subtask[subtask == 1] = 0
    specialists = train(images, replace(SEPARATE, balance=1.0), subtask=subtask)
    assert specialists.failures == {}
    assert torch.isfinite(specialists.logits(images.subset(torch.arange(60)))).all()
