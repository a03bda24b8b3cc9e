"""What the student is taught: which examples, with which labels, by which teacher. Plain tensors in, plain tensors out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from tutelage.checks import check
from tutelage.metrics import right_labels

ABSENT = -1


@dataclass(frozen=True)
class LessonSettings:
    """How specialists become lessons (sub-task imputation, 4.2, 4.3 and 5.3).

    Args:
        rejected: What happens to the examples of a sub-task whose specialist is not kept: unlabelled removes their label and
            leaves them to the teachers; weighed weights the label by the sub-task's local precision (an estimate of how
            often it is right) and the teachers by the rest; dropped leaves them out, as in the paper; kept trusts their label.
        teacher: Who teaches an example: own (the paper's), the specialist of its sub-task, or for an acceptable example of a
            sub-task drawn in each epoch; joint, all kept specialists together (see `joint_log_odds`).
        contradicted: A label that is right with less than this probability, by the joint teacher and the error rates of the
            held-out labels, is removed, unless it is weighed; 0 trusts all labels.
        calibrated: Whether the joint teacher is calibrated on held-out labels first. If not, as in the paper, a label is right
            with the probability that the teacher gives it.
        substitute: Whether the class token learns from the joint teacher if an example has no label.
        unlabelled: Which unlabelled images are used: none, those that the discriminator confidently assigns to a kept sub-task
            (the paper's), or all.
        confidence: Smallest probability of that sub-task, by the discriminator.
        unlabelled_share: Largest share of unlabelled images among the student's examples, the most confident first.
    """

    rejected: Literal["unlabelled", "weighed", "dropped", "kept"] = "kept"
    teacher: Literal["own", "joint"] = "joint"
    contradicted: float = 0.2
    calibrated: bool = True
    substitute: bool = True
    unlabelled: Literal["none", "kept", "all"] = "kept"
    confidence: float = 0.5
    unlabelled_share: float = 0.5

    def __post_init__(self) -> None:
        """Check the values."""
        check(self, "lesson", contradicted="[0, 1]", confidence="[0, 1]", unlabelled_share="[0, 1)")


@dataclass(frozen=True)
class Lesson:
    """The student's training data; tensors of N have one row for every row of the image table.

    Attributes:
        rows: the examples that take part, ascending, (n,).
        label: 0 defective, 1 acceptable, -1 not labelled, (N,): the class token's target.
        label_weight: how far that counts, 0 to 1, (N,).
        subtask: the sub-task that teaches an example, -1 for any, (N,): the curriculum's groups.
        teacher_logits: what the joint teacher says, (N, 2); NaN where nobody teaches.
        substitute_logits: the same where an example has no label or one that does not count fully, NaN elsewhere: the class
            token's second target; or None.
        left_out: how many examples do not take part, by reason.
        fine_tuned_logits: what a plainly fine-tuned model says, (N, 2): a further teacher of a student whose weighting decides
            how far to follow it; or None.
        weight: how often each example counts, (N,), see `with_example_weights`; or None.
    """

    rows: Tensor
    label: Tensor
    label_weight: Tensor
    subtask: Tensor
    teacher_logits: Tensor
    substitute_logits: Tensor | None
    left_out: dict[str, int]
    fine_tuned_logits: Tensor | None = None
    weight: Tensor | None = None

    @property
    def sources(self) -> list[str]:
        """The names of the student's sources, the label first."""
        further = {"substitute": self.substitute_logits, "fine_tuned": self.fine_tuned_logits}
        return ["label", "specialists", *(name for name, logits in further.items() if logits is not None)]


def two_way(log_odds: Tensor) -> Tensor:
    """Return logits (..., 2) over (defective, acceptable) with these log-odds of acceptable."""
    return torch.stack([torch.zeros_like(log_odds), log_odds], dim=-1)


def joint_log_odds(log_odds_NK: Tensor, operating_point_K: Tensor, kept_K: Tensor) -> Tensor:
    r"""Return the kept specialists' joint log-odds of acceptable, (N,); NaN if none is kept.

    .. math:: \frac{P(-\mid x)}{P(+\mid x)} = \sum_{k\in C} e^{-(z_k(x) - b_k)}

    Specialist k separates its own defects from everything acceptable, so its odds are those of its share of the defects, and
    the odds of a mixture add up. Its operating point b_k (see `operating_points`) puts it on a common scale: at z_k = b_k it is
    as likely right as wrong, whatever the shares of the data that it was trained on. A kept specialist without an operating
    point never objects.
    """
    heard_K = kept_K & torch.isfinite(operating_point_K)
    if not heard_K.any():
        return torch.full((len(log_odds_NK),), torch.nan)
    points_K = operating_point_K[heard_K].to(log_odds_NK.dtype)
    return -torch.logsumexp(points_K - log_odds_NK[:, heard_K], dim=1)


def prepare(
    label: Tensor,
    subtask: Tensor,
    kept_K: Tensor,
    joint: Tensor,
    train: Tensor,
    settings: LessonSettings,
    *,
    errors: tuple[float, float] | None = None,
    precision_K: Tensor | None = None,
    right: Tensor | None = None,
    unlabelled: Tensor | None = None,
    unlabelled_probabilities: Tensor | None = None,
) -> Lesson:
    """Decide which examples are used, with which label, and which teacher.

    Unlabelled images (the paper keeps "the samples classified as c in C by F_LD"): one takes part where F_LD assigns it to a
    kept sub-task with confidence. That gives it a teacher and a place in the curriculum, never a label, since F_LD judges
    kinds of defects and cannot say that an image is acceptable.

    Args:
        label: the moderator's label of every row, (N,).
        subtask: the sub-task of every defective training row, -1 elsewhere, (N,).
        kept_K: which specialists are kept, (K,) bool.
        joint: the joint teacher's log-odds of acceptable for every row, (N,).
        train: the labelled training rows.
        settings: see `LessonSettings`.
        errors: the labels' error rates, of a joint teacher that is calibrated: false acceptable, false defective.
        precision_K: each specialist's local precision, (K,), by which labels are weighed.
        right: the probability that each label is right, (N,), by which all count; ``rejected`` and ``contradicted`` then
            have no part.
        unlabelled: the unlabelled rows.
        unlabelled_probabilities: the discriminator's probabilities for those, (U, K), or one class more.

    Raises:
        ValueError: no specialist is kept, or the joint teacher has nothing to say, so that nobody could teach.
    """
    if not kept_K.any():
        raise ValueError(
            f"none of the {len(kept_K)} specialists was kept, so nobody can teach; lower the selection's threshold or ask "
            "for fewer sub-tasks"
        )
    if settings.teacher == "joint" and not torch.isfinite(joint[train]).any():
        raise ValueError(
            "no kept specialist has an operating point: none finds defects among held-out examples with the precision that the "
            "selection asks for; lower selection.threshold or selection.window, or take lesson.teacher=own"
        )
    label, subtask = label.clone(), subtask.clone()
    left_out: dict[str, int] = {}
    is_rejected = (subtask[train] >= 0) & ~kept_K[subtask[train].clamp_min(0)]
    rejected = train[is_rejected]
    rows = train
    if right is not None:
        settings = replace(settings, rejected="kept", contradicted=0.0)
    if settings.rejected == "dropped":
        rows = train[~is_rejected]
        left_out["sub-task not kept"] = len(rejected)
    elif settings.rejected == "unlabelled":
        label[rejected] = ABSENT
        left_out["label taken away, sub-task not kept"] = len(rejected)
    label_weight = torch.ones(len(label))
    if right is not None:
        label_weight[train] = right[train].to(label_weight)
        left_out["label rather wrong than right"] = int((right[train] < 0.5).sum())
    if settings.rejected == "weighed":
        assert precision_K is not None
        label_weight[rejected] = precision_K[subtask[rejected]].nan_to_num(0.0).to(label_weight)
        left_out["label weighed, sub-task not kept"] = len(rejected)
    subtask[rejected] = ABSENT
    if settings.contradicted > 0:
        # without error rates every label were right: the teacher's own word is what remains
        rates = (0.5, 0.5) if errors is None else errors
        right = torch.from_numpy(right_labels(joint.double().numpy(), label.numpy(), *rates))[rows]
        doubted = rows[(label[rows] >= 0) & (label_weight[rows] == 1) & (right < settings.contradicted)]
        label[doubted] = ABSENT
        left_out["label taken away, contradicted by the kept specialists"] = len(doubted)
    if settings.unlabelled != "none" and unlabelled is not None and len(unlabelled) > 0:
        assert unlabelled_probabilities is not None
        joining = _unlabelled(unlabelled, unlabelled_probabilities[:, : len(kept_K)], kept_K, len(rows), settings)
        left_out["unlabelled, not taken"] = len(unlabelled) - len(joining)
        rows = torch.cat([rows, joining])
        place = torch.searchsorted(unlabelled, joining)
        task = unlabelled_probabilities[place, : len(kept_K)].argmax(1)
        subtask[joining] = torch.where(kept_K[task], task, ABSENT)
        label[joining] = ABSENT
    teacher = two_way(joint)
    in_part = (label < 0) | (label_weight < 1)
    substitute = torch.where(in_part[:, None], teacher, torch.nan) if settings.substitute else None
    return Lesson(rows.sort().values, label, label_weight, subtask, teacher, substitute, left_out)


def _unlabelled(
    unlabelled: Tensor, probabilities_UK: Tensor, kept_K: Tensor, labelled: int, settings: LessonSettings
) -> Tensor:
    """Return the unlabelled rows that take part, ascending; the most confident where there are too many."""
    confidence, task = probabilities_UK.max(1)
    wanted = torch.ones_like(kept_K[task]) if settings.unlabelled == "all" else kept_K[task]
    if settings.unlabelled == "kept":
        wanted = wanted & (confidence >= settings.confidence)
    most = most_unlabelled(int(wanted.sum()), labelled, settings)
    ranked = torch.where(wanted, confidence, -1.0).argsort(descending=True, stable=True)[:most]
    return unlabelled[ranked].sort().values


def most_unlabelled(unlabelled: int, labelled: int, settings: LessonSettings) -> int:
    """Return how many of the unlabelled rows can be used with so many labelled ones."""
    if settings.unlabelled == "none":
        return 0
    return min(unlabelled, int(settings.unlabelled_share / (1 - settings.unlabelled_share) * labelled))
