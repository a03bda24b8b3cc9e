"""The losses of auxiliary tasks: numbers, maps, and the parameters' own length."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

from tutelage.models.squared_norm import WithSquaredNorm
from tutelage.signals import (
    CrossEntropy,
    Objective,
    PixelCrossEntropy,
    PixelError,
    Scaled,
    Signal,
    SquaredError,
    SquaredNorm,
    SurfaceNormals,
)

B, C, H, W = 5, 4, 3, 2


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def batch(dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """The second example has no supervision at all, the third some."""
    number = draw(B, seed=1, dtype=dtype)
    classes = torch.randint(0, C, (B, H, W), generator=torch.Generator().manual_seed(2)).to(torch.int8)
    depth, normals = draw(B, H, W, seed=3, dtype=dtype), draw(B, 3, H, W, seed=4, dtype=dtype)
    number[1], classes[1], depth[1], normals[1] = torch.nan, -1, torch.nan, 0
    classes[2, 0], depth[2, 0], normals[2, :, 0] = -1, torch.nan, 0
    return {"index": torch.arange(B), "number": number, "classes": classes, "depth": depth, "normals": normals}


SIGNALS: dict[str, tuple[Callable[..., Signal], tuple[int, ...]]] = {
    "number": (lambda **head: SquaredError("number", **head), (B,)),
    "column": (lambda **head: SquaredError("number", **head), (B, 1)),
    "classes": (lambda **head: PixelCrossEntropy("classes", **head), (B, C, H, W)),
    "l1": (lambda **head: PixelError("depth", **head), (B, 1, H, W)),
    "l2": (lambda **head: PixelError("depth", power=2, **head), (B, 1, H, W)),
    "normals": (lambda **head: SurfaceNormals("normals", **head), (B, 3, H, W)),
    "scaled": (lambda **head: Scaled(SquaredError("number", **head), 3.0), (B,)),
}
every_signal = pytest.mark.parametrize(("make", "shape"), SIGNALS.values(), ids=SIGNALS)


@every_signal
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_loss_an_example_of_the_outputs_dtype(make, shape, dtype):
    losses = make()(draw(*shape, dtype=dtype), batch(dtype))
    assert losses.shape == (B,)
    assert losses.dtype == dtype
    assert (losses >= 0).all()
    half = make()(draw(*shape, dtype=torch.float32).bfloat16(), batch(torch.float32))
    assert half.dtype == torch.float32


@every_signal
def test_absent_supervision_is_exactly_nothing_and_the_rest_has_its_gradient(make, shape):
    z, whole = draw(*shape).requires_grad_(), batch()
    losses = make()(z, whole)
    (gradient,) = torch.autograd.grad(losses.sum(), z)
    assert losses[1] == 0
    assert (gradient[1] == 0).all()
    if len(shape) == 4:
        assert (gradient[2, :, 0] == 0).all()
    assert torch.isfinite(losses).all()
    assert all(gradient[i].abs().sum() > 0 for i in (0, 2, 3, 4))
    assert gradcheck(lambda z: make()(z, whole), z)


@every_signal
def test_examples_do_not_see_each_other(make, shape):
    z, whole = draw(*shape), batch()
    losses = make()(z, whole)
    for i in range(B):
        alone = make()(z[i : i + 1], {key: value[i : i + 1] for key, value in whole.items()})
        torch.testing.assert_close(losses[i : i + 1], alone, rtol=1e-14, atol=0)
    order = torch.tensor([3, 1, 4, 0, 2])
    permuted = make()(z[order], {key: value[order] for key, value in whole.items()})
    torch.testing.assert_close(permuted, losses[order], rtol=1e-14, atol=0)


@every_signal
def test_huge_outputs_stay_finite(make, shape):
    z = (1e4 * draw(*shape).sign()).requires_grad_()
    losses = make()(z, batch())
    (gradient,) = torch.autograd.grad(losses.sum(), z)
    assert torch.isfinite(losses).all()
    assert torch.isfinite(gradient).all()


@every_signal
def test_heads_and_entries_that_are_missing_are_named(make, shape):
    z, whole = draw(*shape), batch()
    assert torch.equal(make(head="own")({"own": z, "other": z}, whole), make()(z, whole))
    with pytest.raises(ValueError, match=r"head None.*\['other', 'own'\]"):
        make()({"own": z, "other": z}, whole)
    with pytest.raises(ValueError, match=r"needs batch\['\w+'\], but the batch holds \['index'\]"):
        make()(z, {"index": torch.arange(B)})


def test_formulas():
    whole = batch()
    rows = [0, 2, 3, 4]
    z = draw(B)
    expected = (z.numpy() - whole["number"].numpy()) ** 2
    np.testing.assert_allclose(SquaredError("number")(z, whole)[rows], expected[rows], rtol=1e-14)
    np.testing.assert_allclose(Scaled(SquaredError("number"), 2.5)(z, whole)[rows], 2.5 * expected[rows], rtol=1e-14)

    z, depth = draw(B, 1, H, W), whole["depth"].numpy()
    for power in (1, 2):
        means = [np.nanmean(np.abs(z[i, 0].numpy() - depth[i]) ** power) for i in rows]
        np.testing.assert_allclose(PixelError("depth", power=power)(z, whole)[rows], means, rtol=1e-13)

    z = draw(B, C, H, W)
    found = PixelCrossEntropy("classes")(z, whole)
    for i in rows:
        each = [
            -float(z[i, :, y, x].log_softmax(0)[int(whole["classes"][i, y, x])])
            for y in range(H)
            for x in range(W)
            if whole["classes"][i, y, x] >= 0
        ]
        np.testing.assert_allclose(found[i], np.mean(each), rtol=1e-13)

    z, found = draw(B, 3, H, W), SurfaceNormals("normals")(draw(B, 3, H, W), whole)
    a, b = z[2, :, 1:].numpy().reshape(3, -1), whole["normals"][2, :, 1:].numpy().reshape(3, -1)
    cosines = (a * b).sum(0) / np.linalg.norm(a, axis=0) / np.linalg.norm(b, axis=0)
    np.testing.assert_allclose(found[2], 1 - cosines.mean(), rtol=1e-12)


def test_the_squared_error_of_several_numbers_is_their_mean():
    z, targets = draw(B, 3, 2).requires_grad_(), draw(B, 3, 2)
    targets[1, 0, 1], targets[3] = torch.nan, torch.nan
    losses = SquaredError("numbers")(z, {"numbers": targets})
    expected = np.nan_to_num(np.nanmean((z.detach() - targets).square().reshape(B, 6)[[0, 1, 2, 4]].numpy(), axis=1))
    np.testing.assert_allclose(losses[[0, 1, 2, 4]].detach(), expected, rtol=1e-13)
    assert losses[3] == 0
    losses.sum().backward()
    assert not z.grad[3].any()
    assert z.grad.isfinite().all()
    one = SquaredError("number")(z[:, 0, 0], {"number": targets[:, 0, 0].nan_to_num()})
    assert torch.equal(SquaredError("number")(z[:, 0, :1], {"number": targets[:, 0, 0].nan_to_num()}), one)


def test_the_squared_error_of_standardised_numbers_does_not_depend_on_their_unit():
    z, targets = draw(B), draw(B)
    targets[2] = torch.nan
    plain = SquaredError("number")(z, {"number": targets})
    other = SquaredError("number", mean=2e4, deviation=300.0)(z, {"number": 300 * targets + 2e4})
    torch.testing.assert_close(other, plain, rtol=1e-10, atol=1e-12)
    whole = SquaredError("number", mean=4.0, deviation=2.0)(z, {"number": torch.full((B,), 6)})
    torch.testing.assert_close(whole, (z - 1).square())


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"output is \(5, 2\); expected one number for each of the targets, \(5,\)"):
        SquaredError("number")(draw(B, 2), batch())
    with pytest.raises(ValueError, match=r"map is \(5, 2, 2\), the target's \(5, 3, 2\)"):
        PixelCrossEntropy("classes")(draw(B, C, 2, 2), batch())
    with pytest.raises(ValueError, match=r"deviation=0\.0 must be a number above 0"):
        SquaredError("number", deviation=0.0)
    with pytest.raises(ValueError, match="power=3 must be one of 1, 2"):
        PixelError("depth", power=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"factor=0\.0 of signal 'squared_error' must be a positive number"):
        Scaled(SquaredError(), 0.0)


def test_the_squared_norm_of_the_parameters_and_twice_them_as_its_gradient():
    torch.manual_seed(0)
    inside = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, C))
    model = WithSquaredNorm(inside, head="label").double()
    objective = Objective(model, [CrossEntropy(head="label"), Scaled(SquaredNorm(), 0.5)])
    assert objective.separable == [True, False]
    of = {"index": torch.arange(B), "input": draw(B, 3), "label": torch.tensor([0, 1, 2, 3, -1])}
    losses_BK = objective(of)
    flat = torch.cat([p.flatten() for p in model.parameters()])
    torch.testing.assert_close(losses_BK[:, 1], (0.5 * flat.square().sum()).expand(B))
    losses_BK[:, 1].mean().backward()
    for p in model.parameters():
        torch.testing.assert_close(p.grad, p.detach())
    torch.testing.assert_close(losses_BK[:, 0], CrossEntropy()(inside(of["input"]), of))


def test_the_squared_norm_is_that_of_the_parameters_at_which_a_model_is_asked():
    model = WithSquaredNorm(nn.Linear(3, C), head="label")
    objective = Objective(model, [SquaredNorm()])
    of = {"index": torch.arange(B), "input": torch.zeros(B, 3)}
    ones = {name: torch.ones_like(p) for name, p in model.named_parameters()}
    assert torch.equal(objective(of, ones), torch.full((B, 1), 16.0))
    assert not torch.equal(objective(of), torch.full((B, 1), 16.0))
