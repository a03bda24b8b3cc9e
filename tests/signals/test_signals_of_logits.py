"""What signals of class logits owe beyond the contract of all: finite losses, float32 for half precision, errors with names."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tutelage.signals import BinaryCrossEntropy, CrossEntropy, Distillation, Signal

B, C = 7, 5
SIGNALS: dict[str, Callable[..., Signal]] = {
    "cross-entropy": CrossEntropy,
    "smoothed": lambda **head: CrossEntropy(smoothing=0.1, **head),
    "binary": BinaryCrossEntropy,
    "votes": lambda **head: BinaryCrossEntropy("votes", reduction="mean", **head),
    "soft": lambda **head: Distillation("teacher", temperature=4.0, **head),
    "hard": lambda **head: Distillation("teacher", kind="hard", **head),
}
every_signal = pytest.mark.parametrize("make", SIGNALS.values(), ids=SIGNALS)


def batch(size: int = B, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    return {
        "index": torch.arange(size),
        "label": torch.randint(0, C, (size,), generator=g),
        "votes": torch.rand(size, C, dtype=dtype, generator=g),
        "teacher": 3 * torch.randn(size, C, dtype=dtype, generator=g),
    }


def logits(size: int = B, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(size, C, dtype=dtype, generator=torch.Generator().manual_seed(1)).requires_grad_()


def losses_and_gradient(signal: Signal, z: Tensor, of: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    losses = signal(z, of)
    (gradient,) = torch.autograd.grad(losses.sum(), z)
    return losses.detach(), gradient


@every_signal
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, B])
def test_one_loss_an_example_of_the_outputs_dtype(make: Callable[..., Signal], dtype: torch.dtype, size: int) -> None:
    losses = make()(logits(size, dtype), batch(size, dtype))
    assert losses.shape == (size,)
    assert losses.dtype == dtype
    assert (losses >= 0).all()


@every_signal
@pytest.mark.parametrize("hole", [torch.nan, torch.inf, -torch.inf])
@given(absent=st.sets(st.integers(0, B - 1)))
def test_absent_supervision_is_exactly_nothing(make: Callable[..., Signal], hole: float, absent: set[int]) -> None:
    z, whole = logits(), batch()
    full_losses, full_gradient = losses_and_gradient(make(), z, whole)
    rows = torch.tensor(sorted(absent), dtype=torch.int64)
    whole["label"][rows] = -1
    whole["votes"][rows] = -1.0
    whole["teacher"][rows, 2] = hole  # one entry is enough
    losses, gradient = losses_and_gradient(make(), z, whole)
    assert (losses[rows] == 0).all()
    assert (gradient[rows] == 0).all()
    rest = [i for i in range(B) if i not in absent]
    assert torch.equal(losses[rest], full_losses[rest])
    assert torch.equal(gradient[rest], full_gradient[rest])


@every_signal
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_huge_logits_stay_finite(make: Callable[..., Signal], dtype: torch.dtype) -> None:
    signs = torch.where(torch.arange(B * C).reshape(B, C) % 3 == 0, -1.0, 1.0).to(dtype)
    whole = batch(dtype=dtype)
    whole["teacher"] = 1e4 * signs.roll(1, 1)
    losses, gradient = losses_and_gradient(make(), (1e4 * signs).requires_grad_(), whole)
    assert torch.isfinite(losses).all()
    assert torch.isfinite(gradient).all()


@every_signal
def test_losses_of_half_precision_outputs_are_computed_in_float32(make: Callable[..., Signal]) -> None:
    """Automatic mixed precision returns bfloat16 logits; 8 bits are too few for a logarithm of a sum, or a soft target."""
    z, whole = logits(dtype=torch.float32).detach().bfloat16(), batch(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        losses = make()(z, whole)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, make()(z.float(), whole), rtol=1e-6, atol=1e-7)


@every_signal
def test_heads_are_named_where_there_are_several_and_only_there(make: Callable[..., Signal]) -> None:
    z, whole = logits(), batch()
    outputs = {"cls": z, "dist": -z}
    assert torch.equal(make(head="dist")(outputs, whole), make()(-z, whole))
    with pytest.raises(ValueError, match=r"head None.*\['cls', 'dist'\]"):
        make()(outputs, whole)
    with pytest.raises(ValueError, match=r"head 'disk'.*\['cls', 'dist'\]"):
        make(head="disk")(outputs, whole)
    with pytest.raises(ValueError, match=r"head 'dist'.*one tensor"):
        make(head="dist")(z, whole)


@every_signal
def test_a_missing_entry_is_named_beside_what_is_there(make: Callable[..., Signal]) -> None:
    with pytest.raises(ValueError, match=r"needs batch\['\w+'\], but the batch holds \['index'\]"):
        make()(logits(), {"index": torch.arange(B)})
