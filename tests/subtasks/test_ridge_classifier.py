"""The linear classifier in closed form: the same as ridge regression by another library, and honest of its own examples."""

import numpy as np
import pytest
import torch

from tutelage.subtasks import ridge_classifier as module
from tutelage.subtasks.ridge_classifier import ridge_classifier


def drawn(count: int, width: int, wrong: float = 0.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 3, (count,), generator=draws)
    features = torch.randn(count, width, generator=draws)
    features[torch.arange(count), truth] += 3
    given = torch.where(
        torch.rand(count, generator=draws) < wrong, torch.randint(0, 3, (count,), generator=draws), truth
    )
    return features, given, truth


@pytest.mark.parametrize("width", [5, 60])
def test_it_is_ridge_regression_and_leaves_each_example_out(width, monkeypatch):
    linear = pytest.importorskip("sklearn.linear_model")
    monkeypatch.setattr(module, "STRENGTHS", (0.3,))
    features, labels, _ = drawn(40, width)
    found = ridge_classifier(features, labels, 3)
    target = np.eye(3)[labels.numpy()]
    other = linear.Ridge(alpha=0.3 * 40).fit(features.double().numpy(), target)
    temperature = float(found.weight[0, 0] / other.coef_[0, 0])
    np.testing.assert_allclose(found.weight, temperature * other.coef_, atol=1e-4 * temperature)
    np.testing.assert_allclose(found.bias, temperature * other.intercept_, atol=1e-4 * temperature)
    rest = np.arange(40) != 7
    without = linear.Ridge(alpha=0.3 * 40).fit(features[rest].double().numpy(), target[rest])
    expected = temperature * without.predict(features[7:8].double().numpy())[0]
    np.testing.assert_allclose(found.without_own[7], expected, atol=1e-3 * temperature)


@pytest.mark.parametrize("wrong", [0.0, 0.8])
def test_its_probabilities_are_honest_however_many_labels_are_wrong(wrong):
    features, labels, _ = drawn(300, 100, wrong)
    found = ridge_classifier(features, labels, 3)
    assert found.log_likelihood > -np.log(3)  # more is known than nothing
    told = found.without_own.softmax(1)
    right = float((told.argmax(1) == labels).double().mean())
    assert float(told.max(1).values.mean()) == pytest.approx(right, abs=0.1)
