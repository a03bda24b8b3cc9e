"""Early-learning regularisation: the model's early answers keep it from memorising wrong labels."""

from __future__ import annotations

import torch
from torch import Tensor

from tutelage.checks import check_number
from tutelage.signals.base import Batch, Outputs, Signal
from tutelage.signals.reading import places_of, scores_of

CLAMP = 1e-4


class EarlyLearning(Signal):
    r"""The regulariser of ELR, for each example; add it to a cross-entropy with weight lambda.

    .. math:: t_i \leftarrow \beta t_i + (1-\beta)\,\bar p_i,\qquad \ell_i = \log\big(1 - \langle t_i, p_i\rangle\big)

    p is the softmax, clamped to [1e-4, 1 - 1e-4], and :math:`\bar p` the same normalised and without gradient (equation 6,
    and the released program). The averages t start at 0, so that in the first epoch there is next to no regularisation.

    The averages of a batch move whenever an `Objective` evaluates it for training, and never in an evaluation without gradient
    nor in a probe, such as ``weighting.adapt`` makes.

    Args:
        num_examples: N; ``batch["index"]`` is an example's place among them.
        num_classes: C.
        beta: how slowly the averages move, in [0, 1); 0.7 for CIFAR-10 and WebVision, 0.9 for CIFAR-100.
        head: the head of the model to use, if it has several.

    Attributes:
        averages_NC: t (a buffer, saved with the checkpoint; the released program loses it).

    Raises:
        ValueError: an argument that makes no sense, a model of other classes, or an index that is not among the examples.

    Source: Liu et al., *Early-Learning Regularization Prevents Memorization of Noisy Labels*, NeurIPS 2020, equations 6 and 9.
    """

    averages_NC: Tensor

    def __init__(
        self,
        num_examples: int,
        num_classes: int,
        *,
        beta: float = 0.7,
        head: str | None = None,
        name: str = "early_learning",
    ) -> None:
        super().__init__(name, head)
        if not 0 <= beta < 1:
            raise ValueError(f"beta={beta} is not in [0, 1)")
        check_number("num_examples", num_examples, "[1, inf)", int)
        check_number("num_classes", num_classes, "[1, inf)", int)
        self.beta = beta
        self.register_buffer("averages_NC", torch.zeros(num_examples, num_classes))

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the losses (B,), none of which is positive."""
        logits_BC = scores_of(self.own_output(outputs), self.name)
        examples, classes = self.averages_NC.shape
        if logits_BC.shape[1] != classes:
            raise ValueError(
                f"signal {self.name!r} was made for num_classes={classes}, and the model has {logits_BC.shape[1]}; give "
                f"num_classes={logits_BC.shape[1]}"
            )
        probabilities_BC = logits_BC.softmax(1).clamp(CLAMP, 1 - CLAMP)
        rows = places_of(batch, examples, self.name, "num_examples", self.averages_NC.device)
        if self.observing and logits_BC.requires_grad:
            self._move(rows, probabilities_BC.detach().to(self.averages_NC))
        averages_BC = self.averages_NC[rows].to(probabilities_BC)
        return torch.log(1 - (averages_BC * probabilities_BC).sum(1))

    def _move(self, rows: Tensor, probabilities_BC: Tensor) -> None:
        finite_B = torch.isfinite(probabilities_BC).all(1)
        rows, probabilities_BC = rows[finite_B], probabilities_BC[finite_B]
        now_BC = probabilities_BC / probabilities_BC.sum(1, keepdim=True)
        self.remember("averages_NC", rows, self.beta * self.averages_NC[rows] + (1 - self.beta) * now_BC)
