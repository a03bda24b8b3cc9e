import numpy as np
import pytest
import torch

from tutelage.subtasks.doubt import DoubtSettings, purity, telling, told_apart, unexplained
from tutelage.subtasks.kernel_regression import kernel_regression


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
    scores = kernel_regression(features, label[:, None].float(), 0).without_own
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


def test_features_that_tell_no_subtask_speak_against_no_label():
    size = np.array([30, 10, 40, 40])
    poor, good = np.array([0.5, 0.6, 0.7, np.nan]), np.array([0.5, 0.6, 0.8, 0.75])
    assert telling(poor, size) == 0
    assert telling(good, size) == 1  # 80 of 120
    assert telling(np.array([0.5, 0.9, 0.5, 0.5]), size) == pytest.approx(3 * 10 / 120)
    assert telling(good, np.zeros(4, dtype=np.int64)) == 0


@pytest.mark.parametrize("changed", [{"apart": 0.5}, {"lookalikes": 0.0}, {"apart": 1.5}])
def test_settings_that_cannot_be_are_refused_by_name(changed):
    with pytest.raises(ValueError, match=next(iter(changed))):
        DoubtSettings(**changed)
