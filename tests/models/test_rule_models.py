"""CAGE against enumeration of every vote and integration of every score; models on disk."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tutelage.models import Cage, RuleModel, RuleModelSpec

ALL = {n: torch.tensor(list(itertools.product([0, 1], repeat=n)), dtype=torch.float64) for n in range(1, 7)}
SPEC = RuleModelSpec(features=3, rule_class=(0, 1, 1), classes=2, continuous=(False, True, False))


def cage(rule_class: list[int], classes: int, seed: int = 0, **options) -> Cage:
    model = Cage(rule_class, classes, **options).double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data = 2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model


def enumerated(model: Cage, fired: Tensor) -> Tensor:
    """P(y, l) as it is printed: products of exponentials over their sum."""
    weights = torch.stack([(model.theta.detach()[:, y] * row).exp().prod() for row in fired for y in range(2)])
    return weights.reshape(len(fired), 2)


def test_the_golden_numbers_of_two_rules():
    model = Cage([0, 1], 2).double()
    joint = model(ALL[2]).exp()
    expected = torch.tensor([0.0361647, 0.0983060, 0.0983060, 0.2672233], dtype=torch.float64)
    torch.testing.assert_close(joint, expected[:, None].expand(4, 2), rtol=0, atol=5e-8)


@given(st.integers(1, 6), st.integers(0, 50))
def test_the_likelihood_is_that_of_enumeration(count, seed):
    model = cage([j % 2 for j in range(count)], 2, seed)
    weights = enumerated(model, ALL[count])
    torch.testing.assert_close(model(ALL[count]).exp(), weights / weights.sum(), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(model.log_normaliser().exp(), weights.sum(), rtol=1e-12, atol=0)


@given(st.integers(1, 6), st.integers(0, 50))
def test_precisions_are_those_of_enumeration(count, seed):
    model = cage([j % 2 for j in range(count)], 2, seed)
    weights = enumerated(model, ALL[count])
    right, wrong = model.log_right()
    for j in range(count):
        where_it_fires = weights[ALL[count][:, j] == 1].sum(0)
        precision = where_it_fires[j % 2] / where_it_fires.sum()
        torch.testing.assert_close(right[j].exp(), precision, rtol=1e-12, atol=0)
        torch.testing.assert_close(wrong[j].exp(), 1 - precision, rtol=1e-9, atol=1e-15)


def test_scores_have_densities_that_integrate_to_one():
    model = cage([0, 1], 2, continuous=[True, False])
    model.log_precision.data = torch.tensor([[2.5, 2.2], [1.0, 1.0]], dtype=torch.float64)  # no pole at the ends
    steps = 20_000
    s = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    for fired in ([1.0, 0.0], [1.0, 1.0]):
        votes = torch.tensor([fired], dtype=torch.float64).expand(steps, 2)
        scores = torch.stack([s, torch.full_like(s, 0.3)], 1)
        mean = model(votes, scores).exp().mean(0)
        torch.testing.assert_close(mean, model(votes[:1])[0].exp(), rtol=2e-3, atol=0)


def test_a_density_is_that_of_torch():
    model = cage([0, 1], 2, continuous=[True, True], quality=0.8)
    scores, votes = torch.tensor([[0.9, 0.2]], dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64)
    expected = model(votes)[0].clone()
    for j, y in itertools.product(range(2), range(2)):
        total, share = model.log_precision[j, y].exp(), 0.8 if j == y else 0.2
        beta = torch.distributions.Beta(share * total, (1 - share) * total)
        expected[y] += beta.log_prob(scores[0, j])
    torch.testing.assert_close(model(votes, scores)[0], expected)


def test_scores_of_rules_that_do_not_fire_or_have_none_do_not_matter():
    model = cage([0, 1], 2, continuous=[True, False])
    votes = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(model(votes, torch.tensor([[0.9, 0.9]])), model(votes))


def test_hundreds_of_rules_stay_finite():
    model = Cage([j % 3 for j in range(900)], 3)
    model.theta.data.fill_(30.0)
    fired = torch.ones(2, 900)
    assert torch.isfinite(model(fired)).all()
    assert all(torch.isfinite(part).all() for part in model.log_right())


def test_mistakes():
    with pytest.raises(ValueError, match="must name a class from 0 to 1"):
        Cage([0, 2], 2)
    with pytest.raises(ValueError, match="quality=1"):
        Cage([0], 2, quality=1)


@pytest.mark.parametrize("rules", ["cage", "reliability", "none"])
@pytest.mark.parametrize("kind", ["logistic", "mlp"])
def test_a_model_comes_back_from_disk(rules, kind, tmp_path):
    model = RuleModel(replace(SPEC, rules=rules, kind=kind, hidden=4)).eval()
    model.save(tmp_path, classes=["ham", "spam"])
    again, facts = RuleModel.load(tmp_path)
    input = torch.rand(5, 9)
    for head, value in model(input).items():
        torch.testing.assert_close(again(input)[head], value, rtol=0, atol=0)
    assert facts == {"classes": ["ham", "spam"]}
    assert json.loads((tmp_path / "config.json").read_text())["model"]["kind"] == kind


def test_what_each_model_returns():
    input = torch.cat([torch.rand(5, 3), torch.tensor([[0.0, 1, 0]]).expand(5, 3), torch.rand(5, 3)], 1)
    model = RuleModel(SPEC)
    outputs = model(input)
    assert {head: tuple(value.shape) for head, value in outputs.items()} == {
        "classifier": (5, 2),
        "label_model": (5, 2),
        "right": (5, 3),
        "wrong": (5, 3),
    }
    torch.testing.assert_close(outputs["label_model"], model.rules(input[:, 3:6], input[:, 6:]))
    assert RuleModel(replace(SPEC, rules="reliability"))(input)["reliability"].shape == (5, 3)
    with pytest.raises(FileNotFoundError, match="is nowhere the model/ folder"):
        RuleModel.load(Path("nowhere"))
