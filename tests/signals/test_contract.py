"""What every exported signal owes, whichever it is; a new one has a line in `CASES`."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from tutelage import signals
from tutelage.signals import (
    Agreement,
    BinaryCrossEntropy,
    CrossEntropy,
    Distillation,
    EarlyLearning,
    Entropy,
    FollowLabelModel,
    Implication,
    LabelledByBoth,
    LabelModelEvidence,
    LabelModelLabels,
    OwnAnswer,
    PixelCrossEntropy,
    PixelError,
    PseudoLabels,
    QualityGuides,
    RuleReliability,
    Scaled,
    Signal,
    SquaredError,
    SquaredNorm,
    SurfaceNormals,
)

B, C, SIDE = 7, 5, 3
RULE_CLASS = [0, 1, 1, 4]
J = len(RULE_CLASS)
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """How a signal is made, and what an entry of the batch holds where an example lacks what the signal learns from.

    ``absent`` is empty for a signal that needs no supervision, as its docstring says.
    """

    make: Callable[[], Signal]
    absent: dict[str, float]


CASES = {
    "Agreement": Case(Agreement, {"fired": 0}),
    "BinaryCrossEntropy": Case(BinaryCrossEntropy, {"label": -1}),
    "BinaryCrossEntropy, votes": Case(lambda: BinaryCrossEntropy("votes", reduction="mean"), {"votes": -1}),
    "CrossEntropy": Case(lambda: CrossEntropy(smoothing=0.1, class_weights=[1, 2, 3, 0, 1]), {"label": -1}),
    "CrossEntropy, soft": Case(lambda: CrossEntropy("votes"), {"votes": torch.nan}),
    "Distillation": Case(lambda: Distillation("teacher", temperature=4.0), {"teacher": torch.nan}),
    "Distillation, hard": Case(lambda: Distillation("teacher", kind="hard"), {"teacher": torch.inf}),
    "EarlyLearning": Case(lambda: EarlyLearning(B, C), {}),
    "Entropy": Case(Entropy, {"label": 1}),
    "FollowLabelModel": Case(FollowLabelModel, {"fired": 0}),
    "FollowLabelModel, labelled": Case(FollowLabelModel, {"label": 1}),
    "Implication": Case(lambda: Implication(RULE_CLASS), {"label": 1}),
    "Implication, no rule": Case(lambda: Implication(RULE_CLASS), {"fired": 0}),
    "LabelModelEvidence": Case(LabelModelEvidence, {"label": 1}),
    "LabelModelLabels": Case(LabelModelLabels, {"label": -1}),
    "LabelledByBoth": Case(LabelledByBoth, {"label": -1, "label_model_label": -1}),
    "OwnAnswer": Case(OwnAnswer, {}),
    "PixelCrossEntropy": Case(lambda: PixelCrossEntropy("classes", head="maps"), {"classes": -1}),
    "PixelError": Case(lambda: PixelError("depth", head="depth"), {"depth": torch.nan}),
    "PseudoLabels": Case(lambda: PseudoLabels("teacher", union=True, remember=(B, C)), {"teacher": torch.nan}),
    "QualityGuides": Case(QualityGuides, {}),
    "RuleReliability": Case(lambda: RuleReliability(RULE_CLASS), {"label": -1}),
    "RuleReliability, no rule": Case(lambda: RuleReliability(RULE_CLASS), {"fired": 0}),
    "Scaled": Case(lambda: Scaled(CrossEntropy(), 0.5), {"label": -1}),
    "Scaled, by example": Case(lambda: Scaled(CrossEntropy(), "share"), {"label": -1}),
    "Scaled, a scalar": Case(lambda: Scaled(SquaredNorm(), 0.5), {}),
    "SquaredError": Case(lambda: SquaredError("number", head="number"), {"number": torch.nan}),
    "SquaredNorm": Case(SquaredNorm, {}),
    "SurfaceNormals": Case(lambda: SurfaceNormals("normals", head="normals"), {"normals": 0}),
}
every_signal = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
supervised = pytest.mark.parametrize(
    "case", [case for case in CASES.values() if case.absent], ids=[name for name, case in CASES.items() if case.absent]
)


def outputs(dtype: torch.dtype = torch.float64) -> Tensors:
    """What a model of every head returns; logarithms of probabilities where a signal reads such."""
    g = torch.Generator().manual_seed(1)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    right_J = torch.linspace(0.2, 0.9, J, dtype=torch.float64)
    heads = {
        "logits": drawn(B, C),
        "classifier": drawn(B, C),
        "label_model": drawn(B, C).log_softmax(1) - 1,
        "reliability": drawn(B, J),
        "right": right_J.log().repeat(B, 1),
        "wrong": (1 - right_J).log().repeat(B, 1),
        "squared_norm": torch.full((B,), 3.0, dtype=torch.float64),
        "number": drawn(B),
        "maps": drawn(B, C, SIDE, SIDE),
        "depth": drawn(B, 1, SIDE, SIDE),
        "normals": drawn(B, 3, SIDE, SIDE),
    }
    return {name: head.to(dtype).requires_grad_() for name, head in heads.items()}


def batch(dtype: torch.dtype = torch.float64) -> Tensors:
    g = torch.Generator().manual_seed(0)
    classes_BHW = torch.randint(0, C, (B, SIDE, SIDE), generator=g)
    floats = {
        "votes": torch.rand(B, C, generator=g),
        "teacher": 3 * torch.randn(B, C, generator=g),
        "share": torch.rand(B, generator=g) + 0.5,
        "number": torch.randn(B, generator=g),
        "depth": torch.randn(B, SIDE, SIDE, generator=g),
        "normals": torch.randn(B, 3, SIDE, SIDE, generator=g),
    }
    return {
        "index": torch.arange(B),
        "label": torch.tensor([0, -1, 3, -1, 4, -1, 1]),
        "label_model_label": torch.tensor([1, 2, -1, 0, 4, 3, 1]),
        "fired": (torch.rand(B, J, generator=g) < 0.7).long(),
        "classes": classes_BHW,
        **{name: value.to(dtype) for name, value in floats.items()},
    }


def rows(tensors: Tensors, which: list[int]) -> Tensors:
    return {name: value[which].detach().requires_grad_(value.requires_grad) for name, value in tensors.items()}


def losses_and_gradient(case: Case, heads: Tensors, of: Tensors) -> tuple[Tensor, Tensors]:
    """Return the losses of a signal that has seen nothing yet, and the gradient of their sum by every head."""
    losses = case.make()(heads, of)
    gradients = torch.autograd.grad(losses.sum(), list(heads.values()), allow_unused=True)
    found = zip(heads.items(), gradients, strict=True)
    return losses.detach(), {name: torch.zeros_like(head) if g is None else g for (name, head), g in found}


def test_every_exported_signal_has_a_case() -> None:
    exported = {
        name for name in signals.__all__ if inspect.isclass(kind := getattr(signals, name)) and issubclass(kind, Signal)
    }
    tried = {type(case.make()).__name__ for case in CASES.values()}
    assert tried == exported - {"Signal"}, "each signal of tutelage.signals needs a line in CASES"


@every_signal
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, B])
def test_a_separable_signal_has_a_loss_for_each_example_and_another_a_scalar(
    case: Case, dtype: torch.dtype, size: int
) -> None:
    first = list(range(size))
    signal, heads, of = case.make(), rows(outputs(dtype), first), rows(batch(dtype), first)
    losses = signal(heads, of)
    assert losses.shape == ((size,) if signal.separable else ())
    assert losses.dtype == dtype
    assert torch.isfinite(losses).all()


@every_signal
def test_something_is_learned_from_it_and_single_precision_tells_the_same(case: Case) -> None:
    losses, gradients = losses_and_gradient(case, outputs(), batch())
    assert any(gradient.any() for gradient in gradients.values())
    single, single_gradients = losses_and_gradient(case, outputs(torch.float32), batch(torch.float32))
    torch.testing.assert_close(single.double(), losses, rtol=1e-5, atol=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(single_gradients[name].double(), gradient, rtol=1e-4, atol=1e-5)


@every_signal
def test_the_order_of_a_batch_is_that_of_its_losses(case: Case) -> None:
    order = [3, 0, 6, 1, 5, 2, 4]
    losses, gradients = losses_and_gradient(case, outputs(), batch())
    again, gradients_again = losses_and_gradient(case, rows(outputs(), order), rows(batch(), order))
    torch.testing.assert_close(again, losses[order] if case.make().separable else losses, rtol=1e-14, atol=1e-15)
    if case.make().separable:
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradients_again[name], gradient[order], rtol=1e-13, atol=1e-15)


@every_signal
def test_examples_of_a_separable_signal_do_not_see_each_other(case: Case) -> None:
    if not case.make().separable:
        return
    losses, gradients = losses_and_gradient(case, outputs(), batch())
    for i in range(B):
        alone, gradients_alone = losses_and_gradient(case, rows(outputs(), [i]), rows(batch(), [i]))
        torch.testing.assert_close(alone, losses[i : i + 1], rtol=1e-13, atol=1e-15)
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradients_alone[name], gradient[i : i + 1], rtol=1e-13, atol=1e-15)


@supervised
@pytest.mark.parametrize("absent", [[], [2], [0, 1, 5], list(range(B))], ids=len)
def test_absent_supervision_is_exactly_nothing(case: Case, absent: list[int]) -> None:
    losses, gradients = losses_and_gradient(case, outputs(), batch())
    of = batch()
    for key, hole in case.absent.items():
        of[key][absent] = torch.full_like(of[key][absent], hole)
    found, gradients_found = losses_and_gradient(case, outputs(), of)
    rest = [i for i in range(B) if i not in absent]
    assert (found[absent] == 0).all()
    torch.testing.assert_close(found[rest], losses[rest], rtol=1e-14, atol=0)
    for name, gradient in gradients.items():
        assert (gradients_found[name][absent] == 0).all()
        torch.testing.assert_close(gradients_found[name][rest], gradient[rest], rtol=1e-14, atol=1e-16)


@supervised
def test_a_missing_entry_is_named_beside_what_is_there(case: Case) -> None:
    for key in case.absent:
        of = {name: value for name, value in batch().items() if name != key}
        with pytest.raises(ValueError, match=rf"needs batch\['{key}'\], but the batch holds \['"):
            case.make()(outputs(), of)


@every_signal
def test_neither_batch_nor_outputs_are_written_to(case: Case) -> None:
    heads, of = outputs(), batch()
    before = [{name: (value._version, value.detach().clone()) for name, value in each.items()} for each in (heads, of)]
    case.make()(heads, of).sum().backward()
    for each, known in zip((heads, of), before, strict=True):
        assert each.keys() == known.keys()
        for name, (version, value) in known.items():
            assert each[name]._version == version, name
            assert torch.equal(each[name], value), name
