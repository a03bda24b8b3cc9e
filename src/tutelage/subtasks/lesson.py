"""What the student is taught: which examples, with which labels, by which teacher. Plain tensors in, plain tensors out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

ABSENT = -1


@dataclass(frozen=True)
class LessonSettings:
    """How specialists become lessons (sub-task imputation, 4.2, 4.3 and 5.3).

    Args:
        rejected: What becomes of the examples of a sub-task whose specialist is not kept. unlabelled takes away their
            label and leaves them to the teachers; dropped leaves them out, as the paper does; kept trusts their label.
        teacher: own is the paper's: each example is taught by its sub-task's specialist, an acceptable one by the
            sub-task that it is dealt to in an epoch. joint asks all kept specialists of every example (see `joint_log_odds`).
        unlabelled: Whether unlabelled images take part.
        confidence: An unlabelled image takes part where the discriminator gives a kept sub-task at least this probability.
    """

    rejected: Literal["unlabelled", "dropped", "kept"] = "unlabelled"
    teacher: Literal["own", "joint"] = "joint"
    unlabelled: bool = True
    confidence: float = 0.5


@dataclass(frozen=True)
class Lesson:
    """The student's training data; tensors of N have one row for every row of the image table.

    Attributes:
        rows: the examples that take part, ascending, (n,).
        label: 0 defective, 1 acceptable, -1 not labelled, (N,): the class token's target.
        subtask: the sub-task that teaches an example, -1 for any, (N,): the curriculum's groups.
        teacher_logits: what the joint teacher says, (N, 2); NaN where nobody teaches.
        left_out: how many examples do not take part, by reason.
    """

    rows: Tensor
    label: Tensor
    subtask: Tensor
    teacher_logits: Tensor
    left_out: dict[str, int]


def two_way(log_odds: Tensor) -> Tensor:
    """Return logits (..., 2) over (defective, acceptable) with these log-odds of acceptable."""
    return torch.stack([torch.zeros_like(log_odds), log_odds], dim=-1)


def joint_log_odds(log_odds_NK: Tensor, kept_K: Tensor) -> Tensor:
    r"""Return what the kept specialists say together, the log-odds of acceptable, (N,); NaN where none is kept.

    .. math:: \frac{P(-\mid x)}{P(+\mid x)} = \sum_{k\in C} \frac{P(k\mid x)}{P(+\mid x)} = \sum_{k\in C} e^{-z_k(x)}

    Specialist k separates its own defects from everything acceptable, so its odds are those of its share of the defects; the
    odds of a mixture add up. The sum over all K is the odds of the whole label, the sum over C those of the label without
    the sub-tasks that were not kept.
    """
    if not kept_K.any():
        return torch.full((len(log_odds_NK),), torch.nan)
    return -torch.logsumexp(-log_odds_NK[:, kept_K], dim=1)


def prepare(
    label: Tensor,
    subtask: Tensor,
    kept_K: Tensor,
    log_odds_NK: Tensor,
    train: Tensor,
    settings: LessonSettings,
    *,
    unlabelled: Tensor | None = None,
    unlabelled_probabilities: Tensor | None = None,
) -> Lesson:
    """Decide who takes part, with which label, taught by whom.

    Unlabelled images (the paper keeps "the samples classified as c in C by F_LD", and F_LD knows nothing but defects): one
    takes part where F_LD assigns it to a kept sub-task with confidence. That gives it a teacher and a place in the
    curriculum, never a label: the class token's loss is masked, since F_LD cannot say that an image is acceptable.

    Args:
        label: the moderator's label of every row, (N,).
        subtask: the sub-task of every defective training row, -1 elsewhere, (N,).
        kept_K: which specialists are kept, (K,) bool.
        log_odds_NK: each specialist's log-odds of acceptable, (N, K).
        train: the labelled training rows.
        settings: see `LessonSettings`.
        unlabelled: the unlabelled rows.
        unlabelled_probabilities: the discriminator's probabilities for those, (U, K), or one class more.

    Raises:
        ValueError: no specialist is kept, so that nobody could teach.
    """
    if not kept_K.any():
        raise ValueError(
            f"none of the {len(kept_K)} specialists was kept, so nobody can teach; lower the selection's threshold or ask "
            "for fewer sub-tasks"
        )
    label, subtask = label.clone(), subtask.clone()
    left_out: dict[str, int] = {}
    is_rejected = (subtask[train] >= 0) & ~kept_K[subtask[train].clamp_min(0)]
    rejected = train[is_rejected]
    rows = train
    if settings.rejected == "dropped":
        rows = train[~is_rejected]
        left_out["sub-task not kept"] = len(rejected)
    elif settings.rejected == "unlabelled":
        label[rejected] = ABSENT
    subtask[rejected] = ABSENT
    if settings.unlabelled and unlabelled is not None and len(unlabelled) > 0:
        assert unlabelled_probabilities is not None
        confidence, task = unlabelled_probabilities[:, : len(kept_K)].max(1)
        joins = kept_K[task] & (confidence >= settings.confidence)
        left_out["unlabelled, not assigned to a kept sub-task"] = int((~joins).sum())
        subtask[unlabelled[joins]] = task[joins]
        label[unlabelled[joins]] = ABSENT
        rows = torch.cat([rows, unlabelled[joins]])
    return Lesson(
        rows=rows.sort().values,
        label=label,
        subtask=subtask,
        teacher_logits=two_way(joint_log_odds(log_odds_NK, kept_K)),
        left_out=left_out,
    )
