"""Pseudo-labels: a teacher's answers, class by class, as yes or no."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.batches import Batch
from tutelage.checks import check_number
from tutelage.signals.base import Outputs, Signal, by_head, entry
from tutelage.signals.binary_cross_entropy import BinaryCrossEntropy
from tutelage.signals.distillation import Frozen
from tutelage.signals.reading import classes_of, known_classes, places_of, scores_of

NEVER = -1


class PseudoLabels(Signal):
    r"""Binary cross-entropy with a teacher's thresholded answers, for each example.

    .. math:: \tilde y_{ic} = [\sigma(t_{ic}) > \rho],\qquad
        \ell_i = -\sum_c \tilde y_{ic}\log\sigma(z_{ic}) + (1-\tilde y_{ic})\log(1-\sigma(z_{ic}))

    Args:
        teacher: a model, asked without gradient and in eval mode about ``batch["input"]``, or the batch's key under which its
            logits (B, C) lie ready. A row that is not finite means "no teacher for this example": loss 0, no gradient.
        rho: the threshold, in [0, 1).
        sample: draw each label from Bernoulli(sigma(t / sample)) in the place of the threshold; the released program's
            ``sample_teacher``. None thresholds.
        union: whether the given label always belongs to the pseudo-labels (the released program's ``iterative_groundtruth``).
        target: the batch's key of the given labels, (B,) int64 classes or (B, C) of 0 and 1; read where ``union`` asks for it.
        reduction: "sum" over the classes, or "mean".
        remember: (examples, classes) keeps, for each, the first ``generation`` in which a pseudo-label was said.
        generations: how many generations `tally` counts.
        head: the head of the model to use, if it has several.

    Attributes:
        generation: what `first_said` counts in; whoever changes the teacher sets it.
        first_said: (N, C) int16, -1 for never (a buffer); only where ``remember`` is given.
        tally_G2: labels that were said, and examples of which they were, in each generation (a buffer).

    Raises:
        ValueError: an argument that makes no sense, a teacher, a given label or ``remember`` of other classes than the model's,
            or an index that is not among the examples of ``remember``.

    Source: Rajeswar et al., *Multi-label Iterated Learning for Image Classification*, CVPR 2022, section 3.
    """

    first_said: Tensor
    tally_G2: Tensor

    def __init__(
        self,
        teacher: nn.Module | str,
        *,
        rho: float = 0.25,
        sample: float | None = None,
        union: bool = False,
        target: str = "label",
        reduction: Literal["sum", "mean"] = "sum",
        remember: tuple[int, int] | None = None,
        generations: int = 1,
        head: str | None = None,
        name: str = "pseudo_labels",
    ) -> None:
        super().__init__(name, head)
        if not 0 <= rho < 1:
            raise ValueError(f"rho={rho} is a probability, in [0, 1)")
        if sample is not None and sample <= 0:
            raise ValueError(f"sample={sample} is a temperature and must be positive, or null for the threshold")
        check_number("generations", generations, "[1, inf)", int)
        for place, size in enumerate(remember or ()):
            check_number(f"remember[{place}]", size, "[1, inf)", int)
        self.teacher: Frozen | str = teacher if isinstance(teacher, str) else Frozen(teacher)
        self.rho = rho
        self.sample = sample
        self.union = union
        self.target = target
        self.generation = 1
        self.judge = BinaryCrossEntropy("pseudo_labels", reduction=reduction, head=head)
        said = torch.full(remember or (0, 0), NEVER, dtype=torch.int16)
        self.register_buffer("first_said", said, persistent=remember is not None)
        self.register_buffer("tally_G2", torch.zeros(generations, 2, dtype=torch.float64))

    def labels(self, batch: Batch) -> Tensor:
        """Return the pseudo-labels (B, C): 0 or 1, and -1 in the rows of which the teacher says nothing."""
        teacher = self.teacher
        if isinstance(teacher, str):
            logits_BC = entry(batch, teacher, self.name).detach().float()
        else:
            said = by_head(teacher(entry(batch, "input", self.name)))
            logits_BC = (said if isinstance(said, Tensor) else self.own_output(said)).detach().float()
        scores_of(logits_BC, self.name)
        if self.sample is not None:
            said_BC = torch.bernoulli((logits_BC / self.sample).sigmoid().nan_to_num(0.0)) > 0
        else:
            said_BC = logits_BC.sigmoid() > self.rho
        if self.union:
            said_BC = said_BC | self._given(batch, logits_BC.shape[1])
        present_B = torch.isfinite(logits_BC).all(1)
        return torch.where(present_B[:, None], said_BC.float(), -1.0)

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the losses (B,)."""
        labels_BC, classes = self.labels(batch), scores_of(self.own_output(outputs), self.name).shape[1]
        if labels_BC.shape[1] != classes:
            raise ValueError(
                f"signal {self.name!r}: the teacher answers about {labels_BC.shape[1]} classes, and the model about {classes}; "
                "give a teacher of the same classes"
            )
        present_BC = labels_BC[(labels_BC >= 0).all(1)]
        if self.observing and self.generation <= len(self.tally_G2):
            said_2 = self.tally_G2.new_tensor([float(present_BC.sum()), len(present_BC)])
            self.remember("tally_G2", self.generation - 1, self.tally_G2[self.generation - 1] + said_2)
        if self.observing and self.first_said.numel():
            examples, kept = self.first_said.shape
            if kept != classes:
                raise ValueError(
                    f"signal {self.name!r}: remember=({examples}, {kept}) keeps {kept} classes, and the model has {classes}; "
                    f"give remember=({examples}, {classes})"
                )
            rows = places_of(batch, examples, self.name, "remember[0]", self.first_said.device)
            said_BC = self.first_said[rows]
            new_BC = (labels_BC.to(said_BC.device) > 0) & (said_BC == NEVER)
            self.remember("first_said", rows, said_BC.masked_fill(new_BC, self.generation))
        losses_B = self.judge(outputs, {"pseudo_labels": labels_BC})
        if self.union and (labels := entry(batch, self.target, self.name)).dim() == 1 and classes > 1:
            losses_B = known_classes(losses_B, labels, classes)
        return losses_B

    def _given(self, batch: Batch, classes: int) -> Tensor:
        """Return the given labels, (B,) classes or (B, C) of 0 and 1, as (B, C) bool; a negative entry names no class."""
        labels = entry(batch, self.target, self.name)
        if labels.dim() == 1 and classes == 1:
            labels = labels[:, None]
        if labels.dim() == 1:
            named_BC = F.one_hot(classes_of(labels, classes, self.target, self.name), classes).bool()
            return named_BC & (labels >= 0)[:, None]
        if labels.shape != (len(labels), classes):
            raise ValueError(
                f"signal {self.name!r}: batch[{self.target!r}] is {tuple(labels.shape)}; expected a class for each example, "
                f"(B,), or 0 and 1 like the teacher's answers, {(len(labels), classes)}"
            )
        return labels > 0
