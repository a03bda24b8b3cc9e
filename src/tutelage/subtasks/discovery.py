"""Which hidden sub-tasks does a label contain? Self-labelling finds them: label by optimal transport, learn, repeat."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.signals import Batch, Outputs, Signal
from tutelage.subtasks.rounding import round_to_minimum_size
from tutelage.subtasks.sinkhorn import Sinkhorn, sinkhorn
from tutelage.training import Augmentation, Budget, Hardware, Log, Optimization, fit, predict, seeds
from tutelage.training.batches import Examples, index_of


@dataclass(frozen=True)
class DiscoverySettings:
    """How the hidden sub-tasks are looked for (sub-task imputation, 4.1 and 5.2).

    Args:
        subtasks: Number K of sub-tasks.
        lam: Sharpness of the assignment; large is sharp (the paper tried 10, 50, 125, 250 and 1000).
        epochs: Passes over the defective examples.
        relabel_every: Epochs between two assignments.
        settled_share: Discovery ends when at most this share of assignments changes, three times in a row; 0 never does.
        minimum_size: Least share of N / K that every sub-task keeps in the final assignment; 0 takes the plain argmax.
    """

    subtasks: int = 100
    lam: float = 250.0
    epochs: int = 300
    relabel_every: int = 1
    settled_share: float = 0.0
    minimum_size: float = 0.5

    def __post_init__(self) -> None:
        """Check the values."""
        if self.subtasks < 1:
            raise ValueError(f"subtasks={self.subtasks} must be at least 1")
        if self.lam <= 0:
            raise ValueError(f"lam={self.lam} must be positive; large is sharp")
        if not 0 <= self.minimum_size <= 1:
            raise ValueError(f"minimum_size={self.minimum_size} is a share of N / K, in [0, 1]")


class SelfLabels(Signal):
    r"""Cross-entropy with labels that an optimal transport draws from the model itself.

    Before an epoch, the labels become the argmax of the plan

    .. math:: Q^* = \arg\min_Q \langle Q, -\log p\rangle - \tfrac1\lambda H(Q),\quad Q 1_N = \tfrac NK 1_K,\; Q^\top 1_K = 1_N

    of the model's probabilities p on augmented images, in eval mode (sub-task imputation eq. 6 with the sign of H and
    the transposes corrected). The equal sizes keep the labels from collapsing into one sub-task.

    Args:
        index: the rows of the examples that take part, (N,).
        subtasks: K.
        lam: the sharpness lambda.
        relabel_every: epochs between two assignments.
        settled_share: the share of changes under which the labels count as settled.
        seed: of the first labels, a random partition into equal parts.
    """

    def __init__(
        self,
        index: Tensor,
        subtasks: int,
        lam: float,
        *,
        relabel_every: int = 1,
        settled_share: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__("self_labels")
        self.lam = lam
        self.relabel_every = relabel_every
        self.settled_share = settled_share
        shuffled = torch.randperm(len(index), generator=seeds.generator(seed, "self-labels"))
        labels = torch.full((int(index.max()) + 1,), -1, dtype=torch.int64)
        labels[index[shuffled]] = torch.arange(len(index)) % subtasks
        self.register_buffer("labels", labels)
        self.register_buffer("log_scale_K", torch.zeros(subtasks, dtype=torch.float64))
        self.register_buffer("rounds", torch.zeros((), dtype=torch.int64))
        self.register_buffer("calm_rounds", torch.zeros((), dtype=torch.int64))
        self.changed: list[float] = []

    labels: Tensor
    log_scale_K: Tensor
    rounds: Tensor
    calm_rounds: Tensor

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the losses (B,)."""
        return F.cross_entropy(self.own_output(outputs), self.labels[batch["index"]], reduction="none")

    def begin_epoch(self, epoch: int, outlook: Any) -> None:
        """Assign the labels anew; the first epoch learns the random ones, as SeLa's does."""
        if epoch == 0 or epoch % self.relabel_every:
            return
        index, outputs = outlook(augmented=True)
        index = index.to(self.labels.device)
        result = self.assign(self.own_output(outputs))
        labels = result.labels.to(self.labels.device)
        change = float((labels != self.labels[index]).float().mean())
        self.labels[index] = labels
        self.rounds += 1
        self.calm_rounds = self.calm_rounds + 1 if change <= self.settled_share else torch.zeros_like(self.calm_rounds)
        self.changed.append(change)

    def assign(self, logits_NK: Tensor) -> Sinkhorn:
        """Return the transport for these logits, warm-started from the round before."""
        warm = self.log_scale_K.cpu() if self.rounds > 0 else None
        result = sinkhorn(F.log_softmax(logits_NK.double(), 1), self.lam, warm_start=warm)
        self.log_scale_K.copy_(result.log_scale_K)
        return result

    def settled(self) -> bool:
        """Return whether three rounds in a row changed almost nothing."""
        return self.settled_share > 0 and int(self.calm_rounds) >= 3


@dataclass(frozen=True)
class Discovery:
    """The sub-tasks that were found.

    Attributes:
        index: the examples' rows, (N,).
        labels: the sub-task of each, (N,) in 0..K-1.
        confidence: the discriminator's probability of that sub-task, (N,).
        transport: the last assignment's transport, on the images without augmentation.
        rounds: how often labels were assigned while training.
    """

    index: Tensor
    labels: Tensor
    confidence: Tensor
    transport: Sinkhorn
    rounds: int

    def facts(self) -> dict[str, Any]:
        """Return the plain numbers for a report."""
        sizes = torch.bincount(self.labels, minlength=self.transport.log_scale_K.shape[0])
        return {
            "rounds": self.rounds,
            "smallest": int(sizes.min()),
            "largest": int(sizes.max()),
            "sinkhorn_iterations": self.transport.iterations,
            "sinkhorn_marginal_error": self.transport.marginal_error,
            "sinkhorn_converged": self.transport.converged,
        }


def discover(
    discriminator: nn.Module,
    defects: Examples,
    settings: DiscoverySettings,
    optimization: Optimization,
    *,
    augment: Augmentation | None,
    heads: tuple[str, ...] = (),
    seed: int = 0,
    hardware: Hardware | None = None,
    out: Path | None = None,
    log: Log | None = None,
) -> Discovery:
    """Alternate labelling and learning until the labels settle or the budget ends; the discriminator is trained in place.

    Args:
        discriminator: a classifier of K classes, the latent discriminator F_LD.
        defects: the examples that carry the label to decompose.
        settings: K, lambda, epochs, and when to stop.
        optimization: the paper's is SGD at 0.03, times 0.1 after each quartile, weight decay 0.1.
        augment: the augmentation psi under which labels are assigned and learned.
        heads, seed, hardware, out, log: as in `fit`.

    Raises:
        ValueError: fewer examples than sub-tasks.
    """
    count = len(defects)
    if count < settings.subtasks:
        raise ValueError(f"subtasks={settings.subtasks} for {count} defective examples; ask for at most one an example")
    labels = SelfLabels(
        index_of(defects),
        settings.subtasks,
        settings.lam,
        relabel_every=settings.relabel_every,
        settled_share=settings.settled_share,
        seed=seed,
    )
    fit(
        discriminator,
        defects,
        signals=[labels],
        budget=Budget(epochs=settings.epochs),
        optimization=optimization,
        heads=heads,
        augment=augment,
        until=labels.settled,
        seed=seed,
        hardware=hardware,
        out=out,
        log=log,
        name="discovery",
    )
    outputs, rest = predict(discriminator, defects)
    assert isinstance(outputs, Tensor)
    transport = labels.assign(outputs)
    final = transport.labels
    least = int(settings.minimum_size * count / settings.subtasks)
    if least > 0:
        final = round_to_minimum_size(transport.log_plan(), least)
    confidence = outputs.softmax(1).gather(1, final[:, None]).squeeze(1)
    return Discovery(rest["index"], final, confidence, transport, int(labels.rounds))
