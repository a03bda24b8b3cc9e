"""Kernel ridge regression as a network."""

import numpy as np
import pytest
import torch
from scipy.special import logit
from sklearn.gaussian_process.kernels import RBF
from sklearn.kernel_ridge import KernelRidge

from tutelage.models import ModelSpec, build, load_model, save_model
from tutelage.models.kernel import SURE

SPEC = ModelSpec("feature_kernel", 2, 16, options={"num_features": 6, "examples": 30})


def test_it_is_the_regression_s_log_odds(tmp_path):
    rng = np.random.default_rng(0)
    x, asked = rng.normal(size=(30, 6)), rng.normal(size=(9, 6))
    directions, y = x / np.linalg.norm(x, axis=1, keepdims=True), 3.0 * (rng.random(30) < 0.5) - 1
    fitted = KernelRidge(alpha=0.1, kernel=RBF(0.5)).fit(directions, y - 0.4)
    model = build(SPEC).eval()
    for buffer, value in (("known", directions), ("dual", fitted.dual_coef_), ("offset", 0.4), ("scale", 2.0)):
        getattr(model.backbone, buffer).copy_(torch.as_tensor(value))
    told = fitted.predict(asked / np.linalg.norm(asked, axis=1, keepdims=True)) + 0.4
    assert (told < SURE).any()
    assert (told > 1 - SURE).any()
    within = told.clip(SURE, 1 - SURE)
    expected = logit(within) + (told - within) / (SURE * (1 - SURE))
    save_model(model, tmp_path)
    outputs = load_model(tmp_path)[0].cpu()(torch.from_numpy(asked).float())
    assert (outputs[:, 1] - outputs[:, 0]).numpy() == pytest.approx(expected, abs=1e-4)
    assert outputs.sum(1).numpy() == pytest.approx(np.zeros(9), abs=1e-6)


def test_it_stretches_features_and_keeps_their_length_where_that_counts(tmp_path):
    rng = np.random.default_rng(0)
    x, asked, stretch = rng.normal(size=(30, 6)), rng.normal(size=(9, 6)), np.geomspace(0.1, 2, 6)
    fitted = KernelRidge(alpha=1.0, kernel=RBF(0.5)).fit(x * stretch, rng.random(30) - 0.5)
    model = build(SPEC).eval()
    given = {"known": x * stretch, "dual": fitted.dual_coef_, "stretch": stretch, "direction": 0.0, "scale": 2.0}
    for buffer, value in given.items():
        getattr(model.backbone, buffer).copy_(torch.as_tensor(value))
    save_model(model, tmp_path)
    outputs = load_model(tmp_path)[0].cpu()(torch.from_numpy(asked).float())
    told = fitted.predict(asked * stretch) + 0.5
    assert told.clip(SURE, 1 - SURE) == pytest.approx(told)
    assert (outputs[:, 1] - outputs[:, 0]).numpy() == pytest.approx(logit(told), abs=1e-4)


def test_its_features_are_directions_and_nothing_of_it_is_trained():
    model = build(SPEC)
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.features(x), torch.nn.functional.normalize(x, dim=1))
    assert list(model.parameters()) == []
    assert model.heads == ("backbone.head",)


def test_a_regression_has_two_classes():
    with pytest.raises(ValueError, match="num_classes=3"):
        build(ModelSpec("feature_kernel", 3, 16, options={"num_features": 6, "examples": 30}))
