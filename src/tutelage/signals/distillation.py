"""Distillation: the student's output follows a teacher's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal
from weakref import ReferenceType, ref

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.batches import Batch, tensors_of
from tutelage.checks import check_number
from tutelage.modes import in_eval_mode
from tutelage.signals.base import Outputs, Signal, ask, entry, head_of, masked, probing, teaching_precision


class Frozen(nn.Module):
    """A model that is run in eval mode and never trained, whatever mode it is in otherwise.

    It moves with its owner (``.to``), and is no part of its owner's parameters or state. Its last answer is remembered for
    a weighting that probes the batch of a step, before that step or after it, so that a large teacher is paid once a step and
    the derivative follows the targets of the training, also under mixed precision. Every step asks anew, as a teacher may be
    a moving average of the model.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._held = [model]
        self._last: tuple[list[ReferenceType[Tensor]], Any, Any, Any] | None = None
        self._ahead: Tensor | None = (
            None  # of what weights a probe heard the last answer, which its step may still take
        )

    def _apply(self, fn: Any, recurse: bool = True) -> Frozen:
        self._last = None
        self._held[0]._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None, "_ahead": None}  # nothing that is remembered is copied or saved

    def forward(self, input: Any) -> Any:
        """Return the held model's output, detached from any graph."""
        asked = list(tensors_of(input))
        if torch.compiler.is_compiling() or any(type(tensor) is not Tensor for tensor in asked):
            return self._answer(input)
        precision, state = teaching_precision(asked), self._state(asked)
        if (
            self._last is not None
            and (probing() or self._last[1] == precision)
            and self._last[2] == state
            and all(held() is tensor for held, tensor in zip(self._last[0], asked, strict=True))
            and (probing() or (self._ahead is not None and torch.equal(self._ahead, self._sums())))
        ):
            self._ahead = self._ahead if probing() else None
            return self._last[3]
        outputs = self._answer(input)
        self._last = [ref(tensor) for tensor in asked], precision, state, outputs
        self._ahead = self._sums() if probing() else None
        return outputs

    def _answer(self, input: Any) -> Any:
        held = self._held[0]
        with in_eval_mode(held):
            return ask(held, input)

    @torch.no_grad()
    def _sums(self) -> Tensor:
        """Return sums of the weights and of their squares, as no version counts a write through ``.data``."""
        sums = []
        for tensor in (*self._held[0].parameters(), *self._held[0].buffers()):
            values = (tensor.abs() if tensor.is_complex() else tensor).float()
            sums += [values.sum(), values.square().sum()]
        return torch.stack([each.to(sums[0].device) for each in sums]) if sums else torch.zeros(0)

    def _state(self, asked: Sequence[Tensor]) -> list[tuple[int, int]]:
        """Return what an answer depends on beside the tensors' identity; a write in place counts a tensor's version up."""
        tensors = (*asked, *self._held[0].parameters(), *self._held[0].buffers())
        return [(id(tensor), 0 if tensor.is_inference() else tensor._version) for tensor in tensors]


class Distillation(Signal):
    r"""Soft or hard distillation from a teacher, for each example.

    Soft: :math:`\ell_i = \tau^2\,\mathrm{KL}\big(\mathrm{softmax}(t_i/\tau)\,\|\,\mathrm{softmax}(z_i/\tau)\big)`, summed over
    the classes (Hinton et al. 2015; AMAL eq. 9 prints the opposite direction, its released program uses this one).
    Hard: :math:`\ell_i = -\log\mathrm{softmax}(z_i)_{\arg\max t_i}` (DeiT, eq. 3). At :math:`\tau=1` the soft form differs from
    :math:`\mathrm{CE}(z_i, \mathrm{softmax}(t_i))`, equation 8 of sub-task imputation, by the teacher's entropy, a constant.

    Args:
        teacher: a model, asked without gradient and in eval mode about ``batch["input"]`` (the same augmented images
            that the student sees), or the batch's key under which its logits (B, C) lie ready.
        temperature: tau, positive and finite. Not used by hard distillation.
        kind: "soft" or "hard".
        teacher_head: the head of the teacher to use, if it has several.
        head: the student's head that follows the teacher, where it has several.

    A row of the teacher's logits that is not finite means "no teacher for this example": loss 0, no gradient.
    """

    def __init__(
        self,
        teacher: nn.Module | str,
        *,
        temperature: float = 1.0,
        kind: Literal["soft", "hard"] = "soft",
        head: str | None = None,
        teacher_head: str | None = None,
        name: str = "distillation",
    ) -> None:
        super().__init__(name, head)
        check_number("temperature", temperature, "(0, inf)")
        self.teacher: Frozen | str = teacher if isinstance(teacher, str) else Frozen(teacher)
        self.temperature = temperature
        self.kind = kind
        self.teacher_head = teacher_head

    def teacher_logits(self, batch: Batch) -> Tensor:
        """Return what the teacher says of the batch, (B, C)."""
        if isinstance(self.teacher, str):
            return entry(batch, self.teacher, self.name).detach()
        said = self.teacher(entry(batch, "input", self.name))
        return head_of(said, self.teacher_head, f"the teacher of signal {self.name!r}", "teacher_head")

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the losses (B,)."""
        logits_BC = self.own_output(outputs)
        teacher_BC = self.teacher_logits(batch).to(logits_BC.dtype)
        if teacher_BC.shape != logits_BC.shape:
            raise ValueError(
                f"signal {self.name!r}: the teacher's logits are {tuple(teacher_BC.shape)}, the student's "
                f"{tuple(logits_BC.shape)}; they must name the same classes"
            )
        present_B = torch.isfinite(teacher_BC).all(1)
        teacher_BC = torch.where(present_B[:, None], teacher_BC, torch.zeros_like(teacher_BC))
        if self.kind == "hard":
            return masked(F.cross_entropy(logits_BC, teacher_BC.argmax(1), reduction="none"), present_B)
        student_log_BC = F.log_softmax(logits_BC / self.temperature, 1)
        teacher_log_BC = F.log_softmax(teacher_BC / self.temperature, 1)
        divergence_B = F.kl_div(student_log_BC, teacher_log_BC, reduction="none", log_target=True).sum(1)
        return masked(self.temperature**2 * divergence_B, present_B)
