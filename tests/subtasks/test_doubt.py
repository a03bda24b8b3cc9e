import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from sklearn.gaussian_process.kernels import RBF
from sklearn.kernel_ridge import KernelRidge

from tutelage.subtasks import doubt
from tutelage.subtasks.doubt import DoubtSettings, leave_one_out, purity, told_apart, unexplained


def directions(count: int, seed: int = 0, size: int = 6) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(count, size, generator=torch.Generator().manual_seed(seed)), dim=1)


def refitted(known: np.ndarray, targets: np.ndarray, asked: np.ndarray, scale: float) -> np.ndarray:
    """Kernel ridge regression of scikit-learn, on targets less their mean."""
    mean = targets.mean(0)
    model = KernelRidge(alpha=doubt.RIDGE, kernel=RBF(1 / np.sqrt(2 * scale))).fit(known, targets - mean)
    return model.predict(asked) + mean


def test_leave_one_out_is_the_fit_of_all_others_with_the_mean_of_all():
    """The closed form keeps the mean of all targets, and so does the reference."""
    known, others, targets = directions(40), directions(7, 1), torch.rand(40, 3, dtype=torch.float32)
    inside, outside = leave_one_out(known, targets, others, 0)
    x, y = known.double().numpy(), targets.double().numpy()
    scale = doubt.WIDTH / np.median(pdist(x, "sqeuclidean"))
    assert outside.numpy() == pytest.approx(refitted(x, y, others.double().numpy(), scale), abs=1e-3)
    centred, gram = y - y.mean(0), RBF(1 / np.sqrt(2 * scale))(x) + doubt.RIDGE * np.eye(40)
    for i in (0, 17, 39):
        rest = np.arange(40) != i
        dual = np.linalg.solve(gram[np.ix_(rest, rest)], centred[rest])
        assert inside[i].numpy() == pytest.approx(gram[i, rest] @ dual + y.mean(0), abs=1e-3)


def test_many_examples_are_judged_in_parts_and_never_by_themselves(monkeypatch):
    monkeypatch.setattr(doubt, "PART", 30)
    known, targets = directions(80), torch.zeros(80, 1)
    targets[5] = 1000.0
    inside, _ = leave_one_out(known, targets, known[:1], 0)
    again, _ = leave_one_out(known, torch.zeros(80, 1), known[:1], 0)
    mean = 1000.0 / 27  # of the part that holds it: the only way in which its own target reaches it
    assert abs(float(inside[5] - again[5])) <= mean / 3 + 1e-3


def test_mistaken_labels_are_not_told_from_their_look_alikes_and_rare_true_ones_are():
    """Sub-task 0 is drawn from a crowd of acceptable images, a third of which bear the label; sub-task 1 stands apart."""
    generator = torch.Generator().manual_seed(0)

    def around(centre: torch.Tensor, count: int) -> torch.Tensor:
        return centre + 0.1 * torch.randn(count, 5, generator=generator)

    axes = torch.eye(5)
    features = torch.cat([around(axes[0], 90), around(axes[1], 10), around(axes[2], 60), around(axes[1] + axes[3], 40)])
    label, subtask = torch.ones(200, dtype=torch.int64), torch.full((200,), -1)
    mistaken, true = torch.arange(0, 30), torch.arange(90, 100)
    label[mistaken], subtask[mistaken] = 0, 0
    label[true], subtask[true] = 0, 1
    scores, _ = leave_one_out(features, label[:, None].float(), features[:1], 0)
    apart = told_apart(features, scores[:, 0], label, subtask, 3)
    assert apart[0] < 0.6
    assert apart[1] > 0.95
    assert np.isnan(apart[2])
    assert purity(apart, 0.75).tolist() == [pytest.approx(max(0, (apart[0] - 0.5) / 0.25)), 1.0, 0.0]


def test_errors_that_a_rate_explains_count_against_no_subtask():
    promised, size = np.array([0.9, 0.6, 0.3]), np.array([10, 20, 10])

    def of(*difference: float) -> float:
        return unexplained(promised, promised + np.array(difference), size)

    assert of(-0.2, 0.1, 0.0) == pytest.approx(0)  # purity is rough: as much above as below
    assert of(-0.2, -0.1, 0.0) == 1
    assert of(-0.2, -0.1, 0.1) == pytest.approx(3 / 4)  # 4 labels too many, 1 too few
    assert of(0.0, 0.0, 0.0) == 0


@pytest.mark.parametrize("changed", [{"apart": 0.5}, {"lookalikes": 0.0}, {"apart": 1.5}])
def test_settings_that_cannot_be_are_refused_by_name(changed):
    with pytest.raises(ValueError, match=next(iter(changed))):
        DoubtSettings(**changed)
