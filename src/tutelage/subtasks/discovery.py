"""Which hidden sub-tasks does a label contain? Self-labelling finds them: label by optimal transport, learn, repeat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.checks import check
from tutelage.distributed import all_reduce_sum
from tutelage.hardware import precise
from tutelage.models import ImageClassifier
from tutelage.signals import Batch, Outputs, Signal
from tutelage.subtasks.kmeans import kmeans
from tutelage.subtasks.rounding import round_to_minimum_size
from tutelage.subtasks.sinkhorn import Sinkhorn, sinkhorn
from tutelage.training import Budget, Plan, fit, predict, seeds


@dataclass(frozen=True)
class DiscoverySettings:
    """How the hidden sub-tasks are discovered (sub-task imputation, 4.1 and 5.2).

    Args:
        subtasks: Number K of sub-tasks.
        lam: Sharpness of the assignment; large is sharp (the paper tried 10, 50, 125, 250 and 1000).
        epochs: Passes over the defective examples.
        relabel_every: Epochs between two assignments.
        settled_share: Discovery ends when at most this share of assignments changes three times in a row; 0 disables this.
        minimum_size: Smallest share of N / K that every sub-task keeps in the final assignment; 0 uses the plain argmax.
        assignment: Rule of assignment: sinkhorn, or argmax, which collapses and is here for comparison.
        start: First labels: random, as in SeLa, or by k-means on the initial features.
        acceptable: Whether the discriminator also learns acceptable examples, as one more class, in each epoch as many as
            defects. The paper's does not; with it, examples wrongly labelled defective gather in sub-tasks of their own.
    """

    subtasks: int = 100
    lam: float = 250.0
    epochs: int = 300
    relabel_every: int = 1
    settled_share: float = 0.0
    minimum_size: float = 0.5
    assignment: Literal["sinkhorn", "argmax"] = "sinkhorn"
    start: Literal["random", "kmeans"] = "random"
    acceptable: bool = False

    @property
    def outputs(self) -> int:
        """Classes of the discriminator."""
        return self.subtasks + int(self.acceptable)

    @property
    def budget(self) -> Budget:
        """How long the discriminator learns."""
        return Budget(epochs=self.epochs)

    def __post_init__(self) -> None:
        """Check the values."""
        counts = dict.fromkeys(("subtasks", "epochs", "relabel_every"), "[1, inf)")
        check(self, "discovery", **counts, lam="(0, inf)", settled_share="[0, 1]", minimum_size="[0, 1]")


class SelfLabels(Signal):
    r"""Cross-entropy with labels that optimal transport assigns from the model's own outputs.

    Before an epoch, the labels become the argmax of the plan

    .. math:: Q^* = \arg\min_Q \langle Q, -\log p\rangle - \tfrac1\lambda H(Q),\quad Q 1_N = \tfrac NK 1_K,\; Q^\top 1_K = 1_N

    of the model's probabilities p on augmented images, in eval mode (sub-task imputation eq. 6 with the sign of H and
    the transposes corrected). The equal sizes keep the labels from collapsing into one sub-task.

    Args:
        index: the rows of the examples to label, (N,).
        settings: K, lambda, the assignment, and when labels are assigned anew and count as settled.
        rest: rows that keep the label K, one more class than the sub-tasks: what is acceptable; or None.
        first: the first labels, (N,); a random partition into equal parts by default.
        seed: of the random partition.
    """

    def __init__(
        self,
        index: Tensor,
        settings: DiscoverySettings,
        *,
        rest: Tensor | None = None,
        first: Tensor | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__("self_labels")
        self.settings = settings
        subtasks = settings.subtasks
        if first is None:
            first = torch.randperm(len(index), generator=seeds.generator(seed, "self-labels")) % subtasks
        rest = index[:0] if rest is None else rest
        labels = torch.full((int(torch.cat([index, rest]).max()) + 1,), -1, dtype=torch.int64)
        labels[index], labels[rest] = first, subtasks
        self.register_buffer("labels", labels)
        self.register_buffer("log_scale_K", torch.zeros(subtasks, dtype=torch.float64))
        self.register_buffer("rounds", torch.zeros((), dtype=torch.int64))
        self.register_buffer("calm_rounds", torch.zeros((), dtype=torch.int64))

    labels: Tensor
    log_scale_K: Tensor
    rounds: Tensor
    calm_rounds: Tensor

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the losses (B,)."""
        return F.cross_entropy(self.own_output(outputs), self.labels[batch["index"]], reduction="none")

    def begin_epoch(self, epoch: int, predict_fn: Any) -> None:
        """Assign the labels anew; the first epoch learns the given ones, as in SeLa."""
        if epoch == 0 or epoch % self.settings.relabel_every:
            return
        index, outputs = predict_fn(augmented=True)
        index = index.to(self.labels.device)
        own = (self.labels[index] < self.settings.subtasks).cpu()
        index = index[own.to(index.device)]
        logits_NK = self.own_output(outputs)[own][:, : self.settings.subtasks]
        found = logits_NK.argmax(1) if self.settings.assignment == "argmax" else self.assign(logits_NK).labels
        labels = found.to(self.labels.device)
        changed = (labels != self.labels[index]).sum()
        changed, count = all_reduce_sum(torch.stack([changed, torch.full_like(changed, len(labels))])).tolist()
        self.labels[index] = labels
        self.rounds += 1
        calm = changed <= self.settings.settled_share * count
        self.calm_rounds = self.calm_rounds + 1 if calm else torch.zeros_like(self.calm_rounds)

    def assign(self, logits_NK: Tensor) -> Sinkhorn:
        """Return the transport for these logits, (N, K) or more columns, warm-started from the round before."""
        warm = self.log_scale_K.cpu() if self.rounds > 0 else None
        logits_NK = logits_NK[:, : self.settings.subtasks].to(precise(logits_NK.device))
        result = sinkhorn(F.log_softmax(logits_NK, 1), self.settings.lam, warm_start=warm)
        self.log_scale_K.copy_(result.log_scale_K)
        return result

    def settled(self) -> bool:
        """Return whether three rounds in a row changed almost nothing."""
        return self.settings.settled_share > 0 and int(self.calm_rounds) >= 3


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


class Halves:
    """An order of all defects and, in each epoch, as many fresh draws of the acceptable examples.

    Args:
        defects: places of the defects, (n,).
        acceptable: places of the acceptable examples.
        seed: of the draws.
    """

    def __init__(self, defects: Tensor, acceptable: Tensor, seed: int) -> None:
        self.defects = defects
        self.acceptable = acceptable
        self.seed = seed

    def __call__(self, epoch: int) -> Tensor:
        """Return the places of this epoch, (2 n,) or fewer where there are fewer acceptable examples."""
        generator = seeds.generator(self.seed, "halves", epoch)
        drawn = self.acceptable[torch.randperm(len(self.acceptable), generator=generator)[: len(self.defects)]]
        places = torch.cat([self.defects, drawn])
        return places[torch.randperm(len(places), generator=generator)]


def discover(
    discriminator: ImageClassifier,
    examples: Callable[[Tensor], Any],
    defects: Tensor,
    acceptable: Tensor,
    settings: DiscoverySettings,
    plan: Plan,
) -> Discovery:
    """Alternate labelling and learning until the labels settle or the budget ends; the discriminator is trained in place.

    Args:
        discriminator: a classifier of ``settings.outputs`` classes, the latent discriminator F_LD.
        examples: ``examples(rows)`` is the data set of these rows.
        defects: the rows whose label is to be decomposed, (N,).
        acceptable: the acceptable rows; they take part where the settings say so.
        settings: K, lambda, epochs, and when to stop.
        plan: as in `fit`, but for what follows from the settings: budget, sampler, heads and until. Labels are assigned and
            learned under its augmentation. The paper's optimiser is SGD at 0.03, times 0.1 after each quartile, decay 0.1.

    Raises:
        ValueError: fewer examples than sub-tasks.
    """
    count = len(defects)
    if count < settings.subtasks:
        raise ValueError(f"subtasks={settings.subtasks} for {count} defective examples; ask for at most one an example")
    first = None
    if settings.start == "kmeans":
        first = kmeans(features(discriminator, examples(defects)), settings.subtasks, seed=plan.seed)[0]
    rest = acceptable if settings.acceptable else acceptable[:0]
    labels = SelfLabels(defects, settings, rest=rest, first=first, seed=plan.seed)
    places = torch.arange(count + len(rest))
    fit(
        discriminator,
        examples(torch.cat([defects, rest])),
        signals=[labels],
        plan=replace(
            plan,
            budget=settings.budget,
            heads=discriminator.heads,
            sampler=Halves(places[:count], places[count:], plan.seed) if settings.acceptable else None,
            until=labels.settled,
            name="discovery",
        ),
    )
    outputs, rest_of_batch = predict(discriminator, examples(defects), shared=True)
    assert isinstance(outputs, Tensor)
    transport = labels.assign(outputs)
    by_argmax = settings.assignment == "argmax"
    final = outputs[:, : settings.subtasks].argmax(1) if by_argmax else transport.labels
    least = int(settings.minimum_size * count / settings.subtasks)
    if least > 0 and not by_argmax:
        final = round_to_minimum_size(transport.log_plan(), least)
    confidence = outputs.softmax(1).gather(1, final[:, None]).squeeze(1)
    return Discovery(rest_of_batch["index"], final, confidence, transport, int(labels.rounds))


def features(network: ImageClassifier, examples: Any) -> Tensor:
    """Return the features before the network's heads, (N, D)."""
    found, _ = predict(Features(network), examples)
    assert isinstance(found, Tensor)
    return found


class Features(nn.Module):
    """A classifier without its heads."""

    def __init__(self, network: ImageClassifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, input: Tensor) -> Tensor:
        """Return the features (B, D)."""
        return self.network.features(input)
