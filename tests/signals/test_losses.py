"""Each loss against its formula in float64, written with numpy and scipy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, rel_entr, softmax
from torch import Tensor, nn
from torch.autograd import gradcheck

from tutelage.signals import BinaryCrossEntropy, CrossEntropy, Distillation

B, C = 6, 4


def logits(seed: int = 0, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(B, C, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


LABELS = torch.tensor([0, 3, -1, 2, 1, 0])


@pytest.mark.parametrize("smoothing", [0.0, 0.05, 0.9])
def test_cross_entropy(smoothing: float) -> None:
    losses = CrossEntropy(smoothing=smoothing)(logits(), {"label": LABELS})
    target = (1 - smoothing) * np.eye(C)[LABELS] + smoothing / C
    expected = -(target * log_softmax(logits().numpy(), axis=1)).sum(1)
    expected[2] = 0.0
    np.testing.assert_allclose(losses, expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 0.0, 3.0]])
@pytest.mark.parametrize("soft", [False, True])
def test_cross_entropy_of_soft_labels_and_weighted_classes(smoothing: float, weights: list | None, soft: bool) -> None:
    shares = softmax(logits(7).numpy(), axis=1) if soft else np.eye(C)[LABELS]
    label = torch.from_numpy(shares) if soft else LABELS
    if soft:
        label[2, 1] = -1.0
        label[4, 0] = torch.nan
    losses = CrossEntropy(smoothing=smoothing, class_weights=weights)(logits(), {"label": label})
    target = (1 - smoothing) * softmax(logits(7).numpy(), axis=1) + smoothing / C
    target = target if soft else (1 - smoothing) * shares + smoothing / C
    expected = -(np.array(weights or [1.0] * C) * target * log_softmax(logits().numpy(), axis=1)).sum(1)
    expected[[2, 4] if soft else [2]] = 0.0
    np.testing.assert_allclose(losses, expected, rtol=1e-12, atol=0)


def test_soft_labels_and_class_weights_that_do_not_fit_are_named() -> None:
    with pytest.raises(
        ValueError, match=r"batch\['label'\] is torch.float64 \(6, 3\); expected integers, \(B,\), or soft"
    ):
        CrossEntropy()(logits(), {"label": torch.ones(B, 3, dtype=torch.float64)})
    for wrong in ([1.0, -1.0], [[1.0]], [torch.inf]):
        with pytest.raises(ValueError, match="must be one finite number, not negative, for each class"):
            CrossEntropy(class_weights=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_binary_cross_entropy_of_soft_targets(reduction: str) -> None:
    targets = torch.rand(B, C, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    targets[1, 2] = targets[4] = -1.0
    losses = BinaryCrossEntropy("votes", reduction=reduction)(logits(), {"votes": targets})  # type: ignore[arg-type]
    p, y = 1 / (1 + np.exp(-logits().numpy())), targets.numpy()
    terms = np.where(y < 0, 0.0, -(y * np.log(p) + (1 - y) * np.log(1 - p)))
    expected = terms.sum(1) if reduction == "sum" else terms.sum(1) / C
    np.testing.assert_allclose(losses, expected, rtol=1e-12, atol=0)


def test_binary_cross_entropy_of_a_label_is_that_of_its_one_hot_vector() -> None:
    one_hot = torch.from_numpy(np.where(LABELS[:, None] < 0, -1.0, np.eye(C)[LABELS]))
    by_label = BinaryCrossEntropy()(logits(), {"label": LABELS})
    assert torch.equal(by_label, BinaryCrossEntropy()(logits(), {"label": one_hot}))
    assert by_label[2] == 0


@pytest.mark.parametrize("hole", [-1.0, torch.nan])
def test_binary_cross_entropy_without_some_labels_is_that_of_the_others(hole: float) -> None:
    z, targets = logits().requires_grad_(), torch.rand(B, C, dtype=torch.float64)
    targets[1, 2] = targets[4] = hole
    losses = BinaryCrossEntropy("votes")(z, {"votes": targets})
    kept = targets >= 0
    expected = nn.functional.binary_cross_entropy_with_logits(z, targets.clamp(0).nan_to_num(), reduction="none")
    torch.testing.assert_close(losses, torch.stack([row[here].sum() for row, here in zip(expected, kept, strict=True)]))
    (gradient,) = torch.autograd.grad(losses.sum(), z)
    assert (gradient[~kept] == 0).all()
    assert (gradient[kept] != 0).all()
    labels = torch.where(LABELS < 0, hole, LABELS.double())  # classes as floats
    assert torch.equal(BinaryCrossEntropy()(z, {"label": labels}), BinaryCrossEntropy()(z, {"label": LABELS}))


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_labels_of_one_output_answer_its_one_question(dtype: torch.dtype) -> None:
    z, answers = logits()[:, :1], torch.tensor([0, 1, -1, 1, 0, 0]).to(dtype)
    losses = BinaryCrossEntropy()(z, {"label": answers})
    assert torch.equal(losses, BinaryCrossEntropy()(z, {"label": answers[:, None]}))
    p = 1 / (1 + np.exp(-z[:, 0].numpy()))
    np.testing.assert_allclose(losses, [-np.log(1 - p[0]), -np.log(p[1]), 0, *-np.log([p[3], 1 - p[4], 1 - p[5]])])


@pytest.mark.parametrize(
    ("targets", "answer"),
    [
        (
            torch.tensor([0.0, 0.5, 1.0, 1.0, 0.0, 0.0]),
            "is 0.5 in row 1; .B,. holds the class of each example, a whole number",
        ),
        (torch.tensor([0.0, 0.0, 1.0, 1.0, torch.inf, 0.0]), "is inf in row 4"),
        (
            torch.full((B, C), 1.0).index_fill(0, torch.tensor(3), 2.0),
            "is 2 in row 3, class 0; give numbers from 0 to 1",
        ),
        (torch.ones(B, C + 1), r"is torch.float32 \(6, 5\); expected .* like the output, \(6, 4\)"),
        (torch.ones(B, 1, dtype=torch.int64), r"is torch.int64 \(6, 1\); expected a class for each example, \(B,\)"),
        (torch.arange(B), "holds class 5, and the model has 4, 0 to 3"),
    ],
)
def test_targets_that_answer_no_question_are_named(targets: Tensor, answer: str) -> None:
    with pytest.raises(ValueError, match=rf"signal 'binary_cross_entropy': batch\['label'\] {answer}"):
        BinaryCrossEntropy()(logits(), {"label": targets})
    with pytest.raises(ValueError, match=r"the output is \(6,\); expected \(B, C\)"):
        BinaryCrossEntropy()(logits()[:, 0], {"label": targets})


def test_distillation_golden_value_and_gradient() -> None:
    student = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64, requires_grad=True)
    loss = Distillation("teacher", temperature=4.0)(student, {"teacher": torch.tensor([[3.0, 1.0, 0.0]]).double()})
    np.testing.assert_allclose(
        loss.detach(), [2.1545412566786], rtol=1e-12
    )  # the reverse divergence is 2.1025207800116
    loss.sum().backward()
    np.testing.assert_allclose(student.grad, [[-0.9069962026516, 0.1389594882839, 0.7680367143677]], rtol=1e-11)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_soft_distillation(temperature: float) -> None:
    losses = Distillation("teacher", temperature=temperature)(logits(0), {"teacher": logits(1)})
    taught, learned = (softmax(logits(seed).numpy() / temperature, axis=1) for seed in (1, 0))
    np.testing.assert_allclose(losses, temperature**2 * rel_entr(taught, learned).sum(1), rtol=1e-9)


def test_soft_distillation_is_the_cross_entropy_of_equation_8_up_to_the_teachers_entropy() -> None:
    student = logits(0).requires_grad_()
    batch = {"teacher": logits(1)}
    (by_divergence,) = torch.autograd.grad(Distillation("teacher")(student, batch).sum(), student)
    soft = nn.functional.cross_entropy(student, logits(1).softmax(1), reduction="sum")
    (by_cross_entropy,) = torch.autograd.grad(soft, student)
    torch.testing.assert_close(by_divergence, by_cross_entropy, rtol=0, atol=1e-14)


def test_high_temperature_matches_the_centred_logits() -> None:
    """Hinton et al. 2015, eq. 4: tau -> inf leaves 1/(2C) of the squared distance of the centred logits."""
    losses = Distillation("teacher", temperature=1e4)(logits(0), {"teacher": logits(1)})
    difference = logits(0) - logits(1)
    distances = (difference - difference.mean(1, keepdim=True)).square().sum(1)
    torch.testing.assert_close(losses, distances / (2 * C), rtol=1e-3, atol=0)


def test_hard_distillation_is_the_cross_entropy_of_the_teachers_verdict() -> None:
    hard = Distillation("teacher", kind="hard")(logits(0), {"teacher": logits(1)})
    assert torch.equal(hard, CrossEntropy()(logits(0), {"label": logits(1).argmax(1)}))


@given(st.floats(0.1, 10), st.integers(0, 100), st.sampled_from(["soft", "hard"]))
def test_a_constant_added_to_the_logits_changes_nothing(temperature: float, seed: int, kind: str) -> None:
    distil = Distillation("teacher", temperature=temperature, kind=kind)  # type: ignore[arg-type]
    shift = torch.linspace(-5, 5, B, dtype=torch.float64)[:, None]
    torch.testing.assert_close(
        distil(logits(seed) + shift, {"teacher": logits(seed + 1) - shift}),
        distil(logits(seed), {"teacher": logits(seed + 1)}),
        rtol=1e-9,
        atol=1e-9,
    )


def test_the_gradients_are_those_of_the_losses() -> None:
    batch = {"label": LABELS, "teacher": logits(1), "votes": torch.rand(B, C, dtype=torch.float64)}
    for signal in (CrossEntropy(smoothing=0.1), BinaryCrossEntropy("votes"), Distillation("teacher", temperature=3)):
        assert gradcheck(lambda z, signal=signal: signal(z, batch), logits(0).requires_grad_())


class Doubt(nn.Module):
    """A teacher whose answer depends on its mode, and who answers by two heads when asked to."""

    def __init__(self, heads: bool = False) -> None:
        super().__init__()
        self.layer = nn.Linear(3, C)
        self.drop = nn.Dropout(0.5)
        self.heads = heads

    def forward(self, input: Tensor) -> Tensor | dict[str, Tensor]:
        answer = self.drop(self.layer(input))
        return {"cls": answer, "dist": -answer} if self.heads else answer


def test_a_live_teacher_is_asked_in_eval_mode_and_is_no_part_of_the_signal() -> None:
    teacher = Doubt().train()
    distil = Distillation(teacher).train()
    batch = {"input": torch.randn(B, 3)}
    taught = distil.teacher_logits(batch)
    assert torch.equal(taught, teacher.layer(batch["input"]))  # without dropout
    assert not taught.requires_grad
    assert list(distil.parameters()) == []
    assert distil.state_dict() == {}
    assert distil.double() is distil
    assert teacher.layer.weight.dtype == torch.float64  # it moves with its owner


def test_a_teacher_of_several_heads_needs_one_named() -> None:
    batch = {"input": torch.randn(B, 3)}
    cls = Distillation(Doubt(heads=True), teacher_head="cls").teacher_logits(batch)
    assert cls.shape == (B, C)
    with pytest.raises(ValueError, match="teacher_head"):
        Distillation(Doubt(heads=True)).teacher_logits(batch)
    with pytest.raises(ValueError, match="teacher_head"):
        Distillation(Doubt(heads=True), teacher_head="distt").teacher_logits(batch)


def test_teacher_and_student_must_name_the_same_classes() -> None:
    with pytest.raises(ValueError, match=r"\(6, 3\).*\(6, 4\)"):
        Distillation("teacher")(logits(), {"teacher": torch.zeros(B, 3)})


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: CrossEntropy(smoothing=1.0), "smoothing=1.0"),
        (lambda: CrossEntropy(smoothing=-0.1), "smoothing=-0.1"),
        (lambda: BinaryCrossEntropy(reduction="none"), "reduction='none'"),
        (lambda: Distillation("teacher", temperature=0), "temperature=0"),
        (lambda: Distillation("teacher", kind="kl"), "kind='kl'"),
    ],
)
def test_impossible_settings_are_named(make, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()
