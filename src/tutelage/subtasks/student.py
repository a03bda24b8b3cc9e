"""The generalist: a transformer whose class token learns the label and whose distillation token follows the specialists."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.checks import check
from tutelage.data import WithColumns
from tutelage.hardware import precise
from tutelage.metrics import auroc
from tutelage.models import ImageClassifier, joint_logits
from tutelage.signals import Batch, CrossEntropy, Distillation, Outputs, Scaled, Signal
from tutelage.subtasks.curricula import Curriculum, CurriculumName
from tutelage.subtasks.example_weights import COUNT, with_example_weights
from tutelage.subtasks.lesson import Lesson, two_way
from tutelage.subtasks.specialists import npv_then_auroc
from tutelage.training import Fitted, Plan, fit, predict
from tutelage.weighting import Fixed, Weighting


@dataclass(frozen=True)
class StudentSettings:
    """How the student learns (sub-task imputation, eq. 8 and 5).

    Args:
        distillation: Target of the distillation token: soft, the teacher's probabilities, or hard, its decision.
        temperature: Temperature of soft distillation.
        weight: Weight of the distillation token's loss relative to the class token's; the paper's is 1.
        curriculum: Order of the sub-tasks; cc is the paper's best.
        smoothing: Label smoothing of the moderator's label; teachers' probabilities are not smoothed.
        times: Length of the student's training relative to plain fine-tuning: weighted labels allow a longer one.
    """

    distillation: Literal["soft", "hard"] = "soft"
    temperature: float = 1.0
    weight: float = 1.0
    curriculum: CurriculumName = "cc"
    smoothing: float = 0.05
    times: int = 1

    def __post_init__(self) -> None:
        """Check the values."""
        check(self, "learning", temperature="(0, inf)", weight="[0, inf)", smoothing="[0, 1)", times="[1, inf)")


class OwnSpecialist(Distillation):
    """Distillation from the specialist of the sub-task with which an example is learned in this epoch.

    Args:
        log_odds_NK: each specialist's log-odds of acceptable for every row, (N, K).
        index: the row at each place of the training set, (n,).
        curriculum: who deals the examples to the sub-tasks.
        settings: kind and temperature.
    """

    def __init__(self, log_odds_NK: Tensor, index: Tensor, curriculum: Curriculum, settings: StudentSettings) -> None:
        super().__init__("own", temperature=settings.temperature, kind=settings.distillation, head="dist")
        self.index = index
        self.curriculum = curriculum
        self.register_buffer("log_odds_NK", log_odds_NK, persistent=False)
        self.register_buffer("task_N", torch.full((len(log_odds_NK),), -1), persistent=True)

    log_odds_NK: Tensor
    task_N: Tensor

    def begin_epoch(self, epoch: int, predict_fn: Any) -> None:
        """Use the sub-tasks that the curriculum draws for this epoch."""
        self.task_N[self.index] = self.curriculum.deal(epoch).to(self.task_N.device)

    def teacher_logits(self, batch: Batch) -> Tensor:
        """Return the own specialist's logits, (B, 2); NaN for an example without one."""
        task_B = self.task_N[batch["index"]]
        log_odds_B = self.log_odds_NK[batch["index"], task_B.clamp_min(0)]
        return two_way(torch.where(task_B >= 0, log_odds_B, torch.nan))


class LabelOfBothTokens(Signal):
    """Cross-entropy with the label at the class token, and with ``judged`` at the distillation token.

    In training nothing is ``judged`` (-1). A held-out example has its label there too, so that weights are learned for both
    tokens, of which the student's score is the mean.
    """

    def __init__(self, smoothing: float) -> None:
        super().__init__("label")
        self.label = CrossEntropy(smoothing=smoothing, head="cls")
        self.judged = CrossEntropy("judged", smoothing=smoothing, head="dist")

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the sum of both, (B,)."""
        return self.label(outputs, batch) + self.judged(outputs, batch)


def acceptability(outputs: Tensor | dict[str, Tensor]) -> Tensor:
    """Return the score of acceptable, the last class, (N,): from the softmax of the two heads' mean logits."""
    logits_N2 = joint_logits(outputs)
    return logits_N2.to(precise(logits_N2.device)).softmax(1)[:, -1].contiguous()


class _TokenCosine(nn.Module):
    def __init__(self, network: ImageClassifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, input: Tensor) -> Tensor:
        cls, dist = self.network.tokens(input).float().unbind(1)
        return F.cosine_similarity(cls, dist, dim=1)


def token_cosine(network: ImageClassifier, examples: Any, *, workers: int = 0) -> float:
    """Return the mean cosine of the class and the distillation token before their heads (sub-task imputation, 4.2).

    The paper takes a low one for a sign that the two tokens have learned different things, and prints no number.

    Args:
        network: a model with a distillation token.
        examples: the data set.
        workers: processes that load the data.
    """
    found, _ = predict(_TokenCosine(network), examples, workers=workers, shared=True)
    assert isinstance(found, Tensor)
    return float(found.mean())


Criterion = Literal["npv", "auroc", "likelihood"]


def selects(by: Criterion, fpr: float) -> Any:
    """Return what selects a checkpoint on student-val.

    NPV at the false-positive rate, its ties broken by AUROC; AUROC; or the mean log-likelihood of a label.
    """

    def value(outputs: Any, batch: Batch) -> float:
        scores, labels = acceptability(outputs), batch["label"]
        if by == "likelihood":
            return float(torch.where(labels == 1, scores, 1 - scores).clamp_min(1e-12).log().mean())
        judge = auroc if by == "auroc" else partial(npv_then_auroc, fpr=fpr)
        return judge(scores.numpy(), labels.numpy())

    return value


def teach(
    student: ImageClassifier,
    lesson: Lesson,
    examples: Any,
    settings: StudentSettings,
    plan: Plan,
    *,
    confidence_K: Tensor,
    log_odds_NK: Tensor | None = None,
    weighting: Weighting | None = None,
    held_out: Any = None,
) -> Fitted:
    r"""Train the student in place on

    .. math:: \mathcal L = \mathrm{CE}_{LS}(z_{cls}, y) + w\,\tau^2\,\mathrm{KL}(\mathrm{softmax}(t/\tau)\,\|\,
        \mathrm{softmax}(z_{dist}/\tau))

    (eq. 8, whose cross-entropy with soft targets has the same gradient), in the order of the curriculum. Where the lesson has a
    substitute for a label that is missing or counts in part, the class token follows that for the rest. A ``weighting`` weighs
    these terms, each with its constant; where the lesson has a fine-tuned teacher, the distillation token hears that, too.

    Args:
        student: a model with a distillation token, of two classes.
        lesson: what is taught.
        examples: the data set of ``lesson.rows``, in that order.
        settings: what counts how far, and in which order.
        plan: as in `fit`, but for sampler and heads; student-val selects the checkpoint, see `selects`.
        confidence_K: what orders the curriculum, for each sub-task.
        log_odds_NK: given, each example is taught by its own sub-task's specialist; else by the lesson's joint teacher.
        weighting: how far each of ``lesson.sources`` counts; as the equation has it by default.
        held_out: labelled examples, of rows that the lesson leaves alone, on which a weighting learns.

    Raises:
        ValueError: the student has no distillation token.
    """
    if not student.distilled:
        raise ValueError(
            f"student {student.spec.name!r} has no distillation token; take one that has, such as "
            "deit_base_distilled_patch16_224 or pocket_deit"
        )
    curriculum = Curriculum(lesson.subtask[lesson.rows], settings.curriculum, confidence_K, plan.seed)
    teacher: Signal
    if log_odds_NK is None:
        teacher = Distillation(
            "teacher_logits", temperature=settings.temperature, kind=settings.distillation, head="dist"
        )
    else:
        teacher = OwnSpecialist(log_odds_NK, lesson.rows, curriculum, settings)
    signals: list[Signal] = [CrossEntropy(smoothing=settings.smoothing, head="cls"), teacher]
    if weighting is not None:
        signals[0] = LabelOfBothTokens(settings.smoothing)
    columns = {"label": lesson.label, "label_weight": lesson.label_weight, "teacher_logits": lesson.teacher_logits}
    if lesson.substitute_logits is not None:
        signals.append(Distillation("substitute_logits", head="cls", name="substitute"))
        columns["substitute_logits"] = lesson.substitute_logits
        columns["substitute_weight"] = torch.where(lesson.label < 0, 1.0, 1 - lesson.label_weight)
    constants: list[float | str] = ["label_weight", settings.weight, "substitute_weight"]
    weights = constants[: len(signals)]
    if weighting is not None:
        signals = [Scaled(signal, weight) for signal, weight in zip(signals, weights, strict=True)]
        columns["judged"] = torch.full_like(lesson.label, -1)
        if held_out is not None:
            once = torch.ones(len(lesson.label))
            held_out = WithColumns(held_out, judged=lesson.label, label_weight=once, **{COUNT: once})
    if lesson.fine_tuned_logits is not None:
        columns["fine_tuned_logits"] = lesson.fine_tuned_logits
        signals.append(
            Distillation(
                "fine_tuned_logits",
                temperature=settings.temperature,
                kind=settings.distillation,
                head="dist",
                name="fine_tuned",
            )
        )
    data, signals = with_example_weights(WithColumns(examples, **columns), signals, lesson.weight, lesson.rows)
    return fit(
        student,
        data,
        signals=signals,
        weighting=Fixed(weights) if weighting is None else weighting,
        held_out=held_out,
        plan=replace(plan, heads=student.heads, sampler=curriculum),
    )
