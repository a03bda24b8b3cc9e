import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.data import class_conditional_noise, symmetric_noise

N = 40_000


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def five_sigma(rate: float) -> float:
    return 5 * (rate * (1 - rate) / N) ** 0.5


@pytest.mark.parametrize("include_true", [False, True])
def test_symmetric_noise_has_the_law_that_it_claims(include_true):
    labels = torch.randint(0, 4, (N,), generator=seeded())
    noisy = symmetric_noise(labels, 0.4, 4, seeded(1), include_true=include_true)
    expected = 0.4 * 3 / 4 if include_true else 0.4
    assert noisy.rate == (noisy.labels != labels).double().mean().item()
    assert abs(noisy.rate - expected) < five_sigma(expected)
    for step in (1, 2, 3):  # each other class is as likely
        share = ((noisy.labels - labels) % 4 == step).double().mean().item()
        assert abs(share - expected / 3) < five_sigma(expected / 3)


def test_class_conditional_noise_follows_its_matrix():
    transition = torch.tensor([[0.9, 0.1, 0.0], [0.0, 1.0, 0.0], [0.25, 0.25, 0.5]], dtype=torch.float64)
    labels = torch.arange(3).repeat_interleave(N)
    noisy = class_conditional_noise(labels, transition, seeded()).labels
    for true in range(3):
        shares = torch.bincount(noisy[labels == true], minlength=3) / N
        for drawn in range(3):
            assert abs(shares[drawn] - transition[true, drawn]) <= five_sigma(transition[true, drawn].item())


def test_structured_noise_hits_one_kind_only():
    kinds = torch.arange(5).repeat(1000)
    labels = (kinds > 1).long()
    transition = torch.eye(2, dtype=torch.float64)[(torch.arange(5) > 1).long()]
    transition[3] = torch.tensor([1.0, 0.0])  # the annotator takes kind 3 for a defect
    noisy = class_conditional_noise(labels, transition, seeded(), given=kinds)
    assert torch.equal(noisy.wrong, kinds == 3)
    assert noisy.rate == 0.2


@settings(deadline=None)
@given(
    labels=st.lists(st.integers(-1, 2), max_size=30),
    rate=st.floats(0, 1),
    include_true=st.booleans(),
    seed=st.integers(0, 99),
)
def test_properties(labels, rate, include_true, seed):
    labels = torch.tensor(labels, dtype=torch.int64)
    before = labels.clone()
    noisy = symmetric_noise(labels, rate, 3, seeded(seed), include_true=include_true)
    again = symmetric_noise(labels, rate, 3, seeded(seed), include_true=include_true)
    assert labels.equal(before)
    assert noisy.labels.equal(again.labels)
    assert noisy.labels.dtype == torch.int64
    assert (noisy.labels == -1).equal(labels == -1)
    assert noisy.wrong.equal(noisy.labels != labels)
    if rate == 0:
        assert noisy.rate == 0
    if rate == 1 and not include_true and (labels >= 0).any():
        assert noisy.rate == 1


def test_senseless_noise():
    labels = torch.tensor([0, 1, 2])
    for rate, classes, message in ((1.5, 3, "rate"), (0.1, 1, "classes"), (0.1, 2, "2 rows")):
        with pytest.raises(ValueError, match=message):
            symmetric_noise(labels, rate, classes, seeded())
    with pytest.raises(ValueError, match="distribution"):
        class_conditional_noise(labels, torch.tensor([[0.5, 0.4], [0.0, 1.0]]), seeded())
