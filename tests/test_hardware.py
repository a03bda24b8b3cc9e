"""A device without float64, as Apple's is, trains all the same."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tutelage.hardware import precise
from tutelage.signals import PseudoLabels
from tutelage.subtasks.discovery import DiscoverySettings, SelfLabels
from tutelage.subtasks.kmeans import kmeans
from tutelage.subtasks.sinkhorn import sinkhorn
from tutelage.subtasks.student import acceptability
from tutelage.weighting import AMAL, coreset_probabilities


class NoFloat64(TorchDispatchMode):
    """Every operation that would make a float64 tensor fails, as it does on such a device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (kwargs or {}).get("dtype") == torch.float64:
            raise TypeError("Cannot convert to float64: the device does not support it")
        found = func(*args, **(kwargs or {}))
        if any(isinstance(leaf, Tensor) and leaf.dtype == torch.float64 for leaf in tree_leaves(found)):
            raise TypeError("Cannot convert to float64: the device does not support it")
        return found


@pytest.fixture
def narrow() -> Iterator[None]:
    precise.cache_clear()
    with NoFloat64():
        yield
    precise.cache_clear()


def test_a_device_has_float64_or_not() -> None:
    precise.cache_clear()
    assert precise(torch.device("cpu")) == torch.float64
    precise.cache_clear()
    with NoFloat64():
        assert precise(torch.device("cpu")) == torch.float32
    precise.cache_clear()


@pytest.mark.parametrize(
    "make",
    [
        lambda: SelfLabels(torch.arange(6), DiscoverySettings(subtasks=2, lam=25.0)),
        lambda: PseudoLabels("teacher", generations=3),
    ],
)
def test_what_signals_remember_moves(make: Any) -> None:
    def convert(tensor: Tensor) -> Tensor:
        if tensor.dtype == torch.float64:
            raise TypeError("Cannot convert a tensor to float64: the device does not support it")
        return tensor.clone()

    signal = make()
    wide = [name for name, buffer in signal.named_buffers() if buffer.dtype == torch.float64]
    assert wide
    before = {name: buffer.clone() for name, buffer in signal.named_buffers()}
    signal._apply(convert)
    for name, buffer in signal.named_buffers():
        assert buffer.dtype == (torch.float32 if name in wide else before[name].dtype)
        assert torch.equal(buffer, before[name].to(buffer.dtype))
    assert make().to("cpu").state_dict()[wide[0]].dtype == torch.float64


@pytest.mark.usefixtures("narrow")
def test_nothing_of_a_training_asks_for_float64() -> None:
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(12, 3, generator=draws)
    found = sinkhorn(logits.log_softmax(1), 10.0, tolerance=1e-3)
    assert found.labels.bincount(minlength=3).sum() == 12
    assert found.log_scale_K.dtype == torch.float32
    kmeans(logits, 3, seed=0)
    assert acceptability(logits).dtype == torch.float32
    weighting = AMAL(num_examples=12, num_signals=2)
    weighting.update(torch.arange(12), torch.randn(12, 2, generator=draws), 0.1)
    probabilities = coreset_probabilities(weighting.weights)
    assert float(probabilities.sum()) == pytest.approx(1, abs=1e-5)
