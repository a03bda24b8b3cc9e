"""MentorNet: a curriculum by the loss, as a formula or as a small network trained on right and wrong labels."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.distributed import all_gather_rows, all_reduce_sum
from tutelage.hypergradient import Optimizers
from tutelage.hypergradient.probe import full_types, primary_only
from tutelage.signals import Batch, Objective
from tutelage.weighting.base import Makers, Weighting
from tutelage.weighting.hypernetwork import current_losses, evaluate, leaves
from tutelage.weighting.meta_optimizer import MetaOptimizer, MetaOptimizerState
from tutelage.weighting.verified import WrongLabels, finite_anywhere, label_key


class MentorNet(Weighting):
    r"""The predefined curriculum: an example counts as far as its primary loss lies below a running percentile.

    .. math:: v_i = \min\Big(1, \max\Big(0, 1 - \frac{\ell_i - \lambda_1}{\lambda_2}\Big)\Big), \qquad
        \lambda_1 \leftarrow s \lambda_1 + (1 - s)\, Q_p(\ell_1, \dots, \ell_B)

    and for :math:`\lambda_2 = 0` :math:`v_i = [\ell_i \le \lambda_1]`, self-paced learning. All signals of an example have its
    weight. A primary loss of exactly 0 is a missing label: it has no part in the percentile, and as nothing says that it is
    wrong, the example's weight is 1.

    Args:
        percentile: p, in (0, 1]: about this share of the examples that have a label weighs 1. The others weigh less the greater
            their loss, and nothing from :math:`\lambda_1 + \lambda_2` on.
        width: :math:`\lambda_2 \ge 0`, in units of the loss; with 0 the others weigh nothing.
        smoothing: s of the running percentile, in [0, 1).
        start: the first epoch, counted from 0, with a curriculum; before it all weights are 1. `begin_epoch` counts.

    Raises:
        ValueError: an argument that makes no sense.

    Source: Jiang et al., *MentorNet: Learning Data-Driven Curriculum for Very Deep Neural Networks on Corrupted Labels*, ICML
    2018, section 3 (the predefined curriculum) and algorithm 1.
    """

    name: ClassVar[str] = "mentornet"
    title: ClassVar[str] = "MentorNet, predefined"
    weighs_signals: ClassVar[bool] = False
    threshold: Tensor
    epoch: Tensor

    def __init__(self, *, percentile: float = 0.7, width: float = 1.0, smoothing: float = 0.5, start: int = 0) -> None:
        super().__init__()
        if not 0 < percentile <= 1 or not width >= 0 or not 0 <= smoothing < 1 or start < 0:
            raise ValueError(
                f"percentile={percentile} must be in (0, 1], width={width} at least 0, smoothing={smoothing} in [0, 1), "
                f"start={start} at least 0"
            )
        self.percentile = percentile
        self.width = width
        self.smoothing = smoothing
        self.start = start
        self.register_buffer("threshold", torch.tensor(-torch.inf))  # not known yet
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))

    def begin_epoch(self, epoch: int, objective: Objective, batches: object) -> None:
        """Count."""
        self.epoch.fill_(epoch)

    def example_weights(self, losses_BK: Tensor, batch: Batch) -> Tensor | None:
        """Return the weights (B, K), after the running percentile has followed the batch."""
        self._follow(losses_BK[:, 0])
        return self.last_weights(losses_BK, batch)

    def last_weights(self, losses_BK: Tensor, batch: Batch) -> Tensor:
        """Return the weights (B, K) at the current percentile."""
        if self.epoch < self.start:
            return torch.ones_like(losses_BK)
        primary_B = losses_BK[:, 0]
        v_B = torch.where(primary_B == 0, 1, self.curriculum(primary_B, self.threshold.to(losses_BK)))
        return v_B[:, None].expand_as(losses_BK)

    def curriculum(self, losses_B: Tensor, threshold: Tensor) -> Tensor:
        """Return v (B)."""
        if self.width == 0:
            return (losses_B <= threshold).to(losses_B)
        return (1 - (losses_B - threshold) / self.width).clamp(0, 1)

    def _follow(self, losses_B: Tensor) -> None:
        (all_A,) = all_gather_rows(losses_B[torch.isfinite(losses_B) & (losses_B != 0)])
        if len(all_A) == 0:
            return
        here = torch.quantile(all_A, self.percentile).to(self.threshold)
        new = torch.lerp(here, self.threshold, self.smoothing)
        self.threshold.copy_(torch.where(torch.isfinite(self.threshold), new, here))


class LearnedMentorNet(MentorNet):
    r"""The data-driven curriculum: a small network is trained on held-out examples with right and with wrong labels.

    .. math:: v_i = g(\ell_i, \ell_i - \lambda_1; \phi), \qquad \min_\phi \sum_{j \in V}
        \mathrm{BCE}\big(g(\ell_j(y_j)), 1\big) + \mathrm{BCE}\big(g(\ell_j(\tilde y_j)), 0\big)

    where :math:`\tilde y_j` is a wrong label of a held-out example whose label :math:`y_j` is right. As g goes on learning
    while the model does, it needs no percentage of epochs among its inputs. Labels are those of the primary signal's
    ``target``.

    Args:
        percentile: p of the running threshold, in (0, 1].
        smoothing: of the running threshold.
        start: as in `MentorNet`.
        hidden: width of g's hidden layer.
        meta_optimizer: how :math:`\phi` is moved.

    Source: as `MentorNet`, section 3 (the data-driven curriculum).
    """

    name: ClassVar[str] = "mentornet_learned"
    made_of: ClassVar[Makers] = {"meta_optimizer": MetaOptimizer.of_plain}
    title: ClassVar[str] = "MentorNet, data-driven"
    shows_wrong_labels: ClassVar[bool] = True

    def __init__(
        self,
        *,
        percentile: float = 0.7,
        smoothing: float = 0.5,
        start: int = 0,
        hidden: int = 20,
        meta_optimizer: MetaOptimizer | None = None,
    ) -> None:
        super().__init__(percentile=percentile, smoothing=smoothing, start=start)
        if hidden < 1:
            raise ValueError(f"hidden={hidden} must be positive")
        layers = (nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, 1))
        self.network = nn.Sequential(*layers).requires_grad_(False)
        self.optimizer = MetaOptimizerState(meta_optimizer or MetaOptimizer(), dict(self.network.named_parameters()))
        self.wrong = WrongLabels()

    def curriculum(self, losses_B: Tensor, threshold: Tensor) -> Tensor:
        """Return g (B)."""
        return self._say(losses_B, threshold).sigmoid()

    def _say(self, losses_B: Tensor, threshold: Tensor, phi: dict[str, Tensor] | None = None) -> Tensor:
        known_B = torch.isfinite(losses_B)
        seen_B = torch.where(known_B, losses_B, 0)
        threshold = torch.where(torch.isfinite(threshold), threshold, 0)
        inputs_B2 = torch.stack([seen_B, seen_B - threshold], 1)
        return evaluate(self.network, inputs_B2, phi)[:, 0]

    @full_types()
    def hypergradient(
        self, objective: Objective, batch: Batch, held_out: Batch, optimizer: Optimizers
    ) -> dict[str, Tensor]:
        r"""Return the derivative of the mean BCE by :math:`\phi`, by the names of the network.

        Raises:
            ValueError: the primary signal does not judge by the labels that are shown wrong.
        """
        own, key = primary_only(objective), label_key(objective)
        losses, wanted, known = [], [], []
        for labelled, right in ((held_out, 1.0), (self.wrong(held_out, key), 0.0)):
            losses_B1, finite_B = current_losses(own, labelled)
            losses.append(losses_B1[:, 0])
            wanted.append(torch.full_like(losses_B1[:, 0], right))
            known.append(finite_B & (labelled[key] >= 0))
        _check_that_labels_count(own, key, losses[0], losses[1], known[0] & known[1])
        losses_A, known_A = torch.cat(losses), torch.cat(known)
        phi = leaves(self.network, losses_A)
        with torch.enable_grad():
            said_A = self._say(losses_A, self.threshold.to(losses_A), phi)
            bce_A = F.binary_cross_entropy_with_logits(said_A, torch.cat(wanted), reduction="none")
            count = all_reduce_sum(known_A.sum()).clamp(min=1)
            found = torch.autograd.grad((bce_A * known_A).sum() / count, list(phi.values()))
        return {name: all_reduce_sum(gradient) for name, gradient in zip(phi, found, strict=True)}

    def adapt(self, objective: Objective, batch: Batch, held_out: Batch, optimizer: Optimizers) -> None:
        """Take one step on the network."""
        if not finite_anywhere(batch):
            return
        gradients = self.hypergradient(objective, batch, held_out, optimizer)
        self.optimizer.step(dict(self.network.named_parameters()), gradients)
        self.wrong.turn()


def _check_that_labels_count(own: Objective, key: str, right_B: Tensor, wrong_B: Tensor, known_B: Tensor) -> None:
    """Refuse losses that wrong labels leave as they are, unless all are equal, as at the first step of a model of zeros."""
    right, wrong = right_B[known_B], wrong_B[known_B]
    (all_right,) = all_gather_rows(right)
    changed = all_reduce_sum((right != wrong).sum())
    if len(all_right) and not changed and (all_right != all_right[0]).any():
        raise ValueError(
            f"the primary signal {own.names[0]!r} does not judge by held_out[{key!r}], so that its losses say nothing of wrong "
            "labels; give it a target= that holds the classes"
        )
