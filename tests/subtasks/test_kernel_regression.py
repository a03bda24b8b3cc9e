import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from sklearn.gaussian_process.kernels import RBF
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import roc_auc_score

from tutelage.subtasks import kernel_regression as module
from tutelage.subtasks.kernel_regression import answers, kernel_regression
from tutelage.subtasks.kernels import WIDTH


def directions(count: int, seed: int = 0, size: int = 6) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(count, size, generator=torch.Generator().manual_seed(seed)), dim=1)


def refitted(known: np.ndarray, targets: np.ndarray, asked: np.ndarray, scale: float) -> np.ndarray:
    """Kernel ridge regression of scikit-learn, on targets less their mean."""
    mean = targets.mean(0)
    model = KernelRidge(alpha=1.0, kernel=RBF(1 / np.sqrt(2 * scale))).fit(known, targets - mean)
    return model.predict(asked) + mean


def test_leave_one_out_is_the_fit_of_all_others_with_the_mean_of_all(monkeypatch):
    """The closed form keeps the mean of all targets, and so does the reference."""
    monkeypatch.setattr(module, "RIDGES", (1.0,))
    known, others, targets = directions(40), directions(7, 1), torch.rand(40, 3, dtype=torch.float32)
    fitted = kernel_regression(known, targets, 0)
    inside, outside = fitted.without_own, fitted.tell(others)
    x, y = known.double().numpy(), targets.double().numpy()
    scale = WIDTH / np.median(pdist(x, "sqeuclidean"))
    assert outside.numpy() == pytest.approx(refitted(x, y, others.double().numpy(), scale), abs=1e-3)
    centred, gram = y - y.mean(0), RBF(1 / np.sqrt(2 * scale))(x) + np.eye(40)
    for i in (0, 17, 39):
        rest = np.arange(40) != i
        dual = np.linalg.solve(gram[np.ix_(rest, rest)], centred[rest])
        assert inside[i].numpy() == pytest.approx(gram[i, rest] @ dual + y.mean(0), abs=1e-3)


def test_the_ridge_is_the_one_by_which_examples_are_ranked_best_without_themselves(monkeypatch):
    known, weight = directions(300), torch.linspace(0.2, 1, 300)
    labels = (
        known[:, 0] + torch.randn(300, generator=torch.Generator().manual_seed(1)) > 1
    ).float()  # one in five, noisy
    chosen = kernel_regression(known, labels[:, None], 0, weight)
    ranks = {}
    for ridge in module.RIDGES:
        monkeypatch.setattr(module, "RIDGES", (ridge,))
        fitted = kernel_regression(known, labels[:, None], 0, weight)
        area = roc_auc_score(labels, fitted.without_own[:, 0], sample_weight=weight)
        ranks[area] = fitted
    assert len(ranks) == 4
    assert torch.equal(chosen.without_own, ranks[max(ranks)].without_own)
    assert max(ranks) > min(ranks) + 0.01


def test_many_examples_are_judged_in_parts_and_never_by_themselves(monkeypatch):
    monkeypatch.setattr(module, "PART", 30)
    known, targets = directions(80), torch.zeros(80, 1)
    targets[5] = 1000.0
    inside = kernel_regression(known, targets, 0).without_own
    again = kernel_regression(known, torch.zeros(80, 1), 0).without_own
    mean = 1000.0 / 27  # of the part that holds it: the only way in which its own target reaches it
    assert abs(float(inside[5] - again[5])) <= mean / 3 + 1e-3


def test_several_parts_as_one_answer_as_their_mean(monkeypatch):
    monkeypatch.setattr(module, "PART", 30)
    fitted = kernel_regression(directions(80), torch.rand(80, 2), 0, torch.linspace(0.1, 1, 80))
    others = directions(7, 1)
    together = fitted.kernel.mapped(others)
    torch.testing.assert_close(answers(fitted.flat(80), together, fitted.kernel), fitted.tell(others))
    assert [len(fitted.flat(most).known) for most in (80, 60, 53, 27, 1)] == [80, 54, 27, 27, 27]
