"""Which similarity of features a regression goes by."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, pdist

from tutelage.subtasks.kernel_regression import kernel_regression
from tutelage.subtasks.kernels import Kernel, kernels


def standardised(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return (x - x.mean(0)) / x.std(0), x.std(0)


def test_a_kernel_falls_with_the_distance_of_what_it_maps_to():
    x, y = (torch.randn(5 + n, 3, generator=torch.Generator().manual_seed(n), dtype=torch.float64) for n in (0, 1))
    stretch = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)
    for direction in (True, False):
        kernel = Kernel(stretch, direction, 0.7)
        a, b = ((each * stretch).numpy() for each in (x, y))
        if direction:
            a, b = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (a, b))
        found = kernel.between(kernel.mapped(x), kernel.mapped(y)).numpy()
        assert found == pytest.approx(np.exp(-0.7 * cdist(a, b, "sqeuclidean")))


def test_each_is_as_wide_as_the_median_distance_asks_and_constant_features_are_no_error():
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    tried = list(kernels(x, torch.tensor([1.0, 2.0, 3.0, 4.0])))
    assert len(tried) == 4
    for kernel in tried:
        median = np.median(pdist(kernel.mapped(x).numpy(), "sqeuclidean"))
        assert kernel.scale * median == pytest.approx(3, rel=0.02)
    assert [kernel.stretch.square().mean().item() for kernel in tried] == pytest.approx([1.0] * 4)
    assert {kernel.scale for kernel in kernels(torch.zeros(5, 2))} == {3.0}
    assert len(list(kernels(torch.zeros(1, 2)))) == 2


def drawn(kind: str, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(900, 12, generator=generator)
    if kind == "length":  # how long the vector is, whatever its direction
        return x[:, :4], (x[:, :4].square().sum(1) < 4).long()
    if kind == "principal":  # a few components tell, the others are small and noise
        return x * torch.tensor([5.0, 5.0] + [0.3] * 10), (x[:, 0] * x[:, 1] > 0).long()
    contrast = torch.rand(900, 1, generator=generator) * 20 + 0.1
    return x[:, :4] * contrast, (x[:, 0].abs() > x[:, 1:4].abs().max(1).values).long()


@pytest.mark.parametrize(
    ("kind", "direction", "stretched"), [("length", False, None), ("principal", None, True), ("contrast", True, None)]
)
def test_the_kernel_is_the_one_that_the_labels_ask_for(kind, direction, stretched):
    x, labels = drawn(kind, torch.Generator().manual_seed(1))
    features, std = standardised(x)
    fitted = kernel_regression(features[:600], labels[:600, None].float(), 0, std_D=std)
    if direction is not None:
        assert fitted.kernel.direction == direction
    if stretched is not None:
        assert (fitted.kernel.stretch.std() > 0.1) == stretched
    right = (fitted.tell(features[600:])[:, 0] > 0.5) == (labels[600:] == 1)
    assert right.float().mean() > 0.8
