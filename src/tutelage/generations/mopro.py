"""MoPro: a class has a prototype among the embeddings, and classifier and prototypes correct the labels together."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.checks import check
from tutelage.data import TensorData
from tutelage.data.sampling import Rebalanced
from tutelage.distributed import all_gather_rows
from tutelage.signals import Batch, CrossEntropy, Outputs, Signal
from tutelage.signals.base import ask, entry, masked
from tutelage.training import Budget, Fitted, Plan, fit, predict

FOREIGN = -1  # a label that is taken away: the example belongs to no class


@dataclass(frozen=True)
class MoProSettings:
    """The losses of MoPro, and when labels are corrected. The defaults are the authors'.

    Args:
        share: Weight alpha of the classifier's answer beside the prototypes'.
        sure: Probability T above which the best class replaces the label.
        start: First epoch, counted from 0, in which labels are corrected.
        temperature: Of the similarities to prototypes and to other examples.
        prototypes: Weight of the loss of the prototypes.
        instances: Weight of the loss that tells examples apart.
        momentum: Of the prototypes and of the encoder that embeds the queue.
        queue: Embeddings of earlier examples that are kept.
        width: Numbers of an embedding.
        rebalance: Class re-balancing of the decoupled classifier, from 0 (none) to 1.
        retraining: Budget of the decoupled classifier; the plan's where it is not given.
    """

    share: float = 0.5
    sure: float = 0.8
    start: int = 10
    temperature: float = 0.1
    prototypes: float = 1.0
    instances: float = 1.0
    momentum: float = 0.999
    queue: int = 8192
    width: int = 128
    rebalance: float = 0.5
    retraining: Budget | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        shares = dict.fromkeys(("share", "sure", "rebalance"), "[0, 1]")
        weights = dict.fromkeys(("prototypes", "instances"), "[0, inf)")
        counts = dict.fromkeys(("queue", "width"), "[1, inf)")
        check(self, **shares, **weights, **counts, start="[0, inf)", temperature="(0, inf)", momentum="[0, 1)")


class Projected(nn.Module):
    """A classifier that embeds what it sees: it returns ``logits`` (B, C) and ``embedding``, unit vectors (B, D).

    Args:
        encoder: from inputs to features (B, F).
        head: from features to logits.
        features: F.
        width: D.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, features: int, width: int = 128) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.projection = nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, width))

    def forward(self, input: Tensor) -> dict[str, Tensor]:
        """Return both outputs."""
        features = self.encoder(input)
        return {"logits": self.head(features), "embedding": F.normalize(self.projection(features), dim=1)}


class MomentumPrototypes(Signal):
    r"""Three losses by corrected labels: of the classifier, of the prototypes, and of each example among others.

    .. math:: \ell_i = -\log p_{i, \hat y_i} - \lambda_{pro} \log \frac{\exp(z_i c_{\hat y_i}/\tau)}{\sum_k \exp(z_i c_k/\tau)}
        - \lambda_{ins} \log \frac{\exp(z_i z'_i/\tau)}{\exp(z_i z'_i/\tau) + \sum_r \exp(z_i z'_r/\tau)}

    with z' by an encoder that follows with momentum, r running over a queue of earlier examples. With
    :math:`q_i = \alpha p_i + (1-\alpha)\, \mathrm{softmax}(z_i c/\tau)` the label becomes the best class where
    :math:`\max q_i > T`, stays where :math:`q_{i, y_i} > 1/C`, and else is taken away, which leaves the last loss alone. A
    prototype moves towards the embeddings that are given its class, :math:`c \leftarrow m^n c + (1 - m^n)\, \bar z` for n of
    them in a batch, and is normalised.

    Args:
        model: returns ``logits`` and ``embedding``, as `Projected` does.
        classes: C.
        settings: weights and temperatures.
        target: the batch's key of the labels, -1 for none.

    Attributes:
        prototypes_CD: c (a buffer).
        queue_QD: earlier z' (a buffer), random at first.

    Source: Li et al., *MoPro: Webly Supervised Learning with Momentum Prototypes*, ICLR 2021, section 3.
    """

    not_identifying = ("model",)
    prototypes_CD: Tensor
    queue_QD: Tensor
    place: Tensor
    epoch: Tensor

    def __init__(
        self, model: nn.Module, classes: int, settings: MoProSettings, *, target: str = "label", name: str = "mopro"
    ) -> None:
        super().__init__(name)
        self.settings = settings
        self.target = target
        self.follower = deepcopy(model).requires_grad_(False).eval()
        noise = torch.randn(settings.queue, settings.width, generator=torch.Generator().manual_seed(0))
        self.register_buffer("prototypes_CD", torch.zeros(classes, settings.width))
        self.register_buffer("queue_QD", F.normalize(noise, dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))

    def train(self, mode: bool = True) -> MomentumPrototypes:
        """Set the mode, of all but the encoder that follows."""
        super().train(mode)
        self.follower.eval()
        return self

    def begin_epoch(self, epoch: int, predict_fn: Any) -> None:
        """Count."""
        self.epoch.fill_(epoch)

    @torch.no_grad()
    def begin_step(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Let the encoder of the queue follow."""
        for own, theirs in zip(self.follower.parameters(), model.parameters(), strict=True):
            own.lerp_(theirs, 1 - self.settings.momentum)
        for kept, now in zip(self.follower.buffers(), model.buffers(), strict=True):
            kept.copy_(now)

    @torch.no_grad()
    def corrected(self, outputs: Outputs, label_B: Tensor) -> Tensor:
        """Return the corrected labels (B,), -1 for what belongs to no class."""
        logits_BC, z_BD = _both(outputs)
        near_BC = (z_BD @ self.prototypes_CD.to(z_BD).T / self.settings.temperature).softmax(1)
        q_BC = self.settings.share * logits_BC.softmax(1) + (1 - self.settings.share) * near_BC
        highest_B, best_B = q_BC.max(1)
        own_B = q_BC.gather(1, label_B.clamp_min(0)[:, None])[:, 0]
        kept_B = torch.where((own_B > 1 / q_BC.shape[1]) & (label_B >= 0), label_B, FOREIGN)
        return torch.where(highest_B > self.settings.sure, best_B, kept_B)

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the losses (B,)."""
        logits_BC, z_BD = _both(outputs)
        label_B = entry(batch, self.target, self.name)
        if self.epoch >= self.settings.start:
            label_B = self.corrected(outputs, label_B)
        _, follower_BD = _both(ask(self.follower, batch["input"]))
        queue_QD, prototypes_CD = (
            self.queue_QD.clone(),
            self.prototypes_CD.clone(),
        )  # which move before the backward pass
        near_BC = z_BD @ prototypes_CD.to(z_BD).T / self.settings.temperature
        same_B1 = (z_BD * follower_BD).sum(1, keepdim=True)
        among_BQ = torch.cat([same_B1, z_BD @ queue_QD.to(z_BD).T], 1) / self.settings.temperature
        known_B, class_B = label_B >= 0, label_B.clamp_min(0)
        classified_B = F.cross_entropy(logits_BC, class_B, reduction="none")
        classified_B = classified_B + self.settings.prototypes * F.cross_entropy(near_BC, class_B, reduction="none")
        told_B = F.cross_entropy(among_BQ, torch.zeros_like(class_B), reduction="none")
        if self.observing:
            self._follow(z_BD.detach(), follower_BD, label_B)
        return masked(classified_B, known_B) + self.settings.instances * told_B

    def _follow(self, z_BD: Tensor, follower_BD: Tensor, label_B: Tensor) -> None:
        """Move the prototypes and the queue by the examples of all processes."""
        finite_B = torch.isfinite(z_BD).all(1)
        z_AD, queued_AD, label_A = all_gather_rows(z_BD[finite_B], follower_BD[finite_B], label_B[finite_B])
        known_A = label_A >= 0
        count_C = torch.bincount(label_A[known_A], minlength=len(self.prototypes_CD)).to(self.prototypes_CD)
        sums_CD = torch.zeros_like(self.prototypes_CD).index_add_(
            0, label_A[known_A], z_AD[known_A].to(self.prototypes_CD)
        )
        kept_C1 = (self.settings.momentum**count_C)[:, None]
        moved_CD = kept_C1 * self.prototypes_CD + (1 - kept_C1) * sums_CD / count_C.clamp(min=1)[:, None]
        self.remember("prototypes_CD", slice(None), F.normalize(moved_CD, dim=1))
        newest_AD = queued_AD[-len(self.queue_QD) :].to(self.queue_QD)
        places = (self.place + torch.arange(len(newest_AD), device=self.place.device)) % len(self.queue_QD)
        self.remember("queue_QD", places, newest_AD)
        self.remember("place", ..., (self.place + len(newest_AD)) % len(self.queue_QD))


def _both(outputs: Any) -> tuple[Tensor, Tensor]:
    """Return logits (B, C) and embeddings (B, D)."""
    if isinstance(outputs, Tensor) or not {"logits", "embedding"} <= set(outputs):
        said = "one tensor" if isinstance(outputs, Tensor) else sorted(outputs)
        raise ValueError(f"MoPro reads logits and embedding, but the model returns {said}; wrap it in Projected")
    return outputs["logits"].float(), outputs["embedding"].float()


@dataclass(frozen=True)
class MoPro:
    """What `mopro` returns.

    Attributes:
        fitted: the trained `Projected`; its head is the decoupled one where that was asked for.
        labels: the corrected label of each row, (n,), -1 for what belongs to no class.
        classifier: the decoupled classifier, from features to logits.
    """

    fitted: Fitted
    labels: Tensor
    classifier: Fitted | None


def mopro(
    model: Projected,
    classes: int,
    train: Any,
    settings: MoProSettings,
    plan: Plan,
    *,
    decoupled: Callable[[], nn.Module] | None = None,
) -> MoPro:
    """Train a model by MoPro, and, where a fresh head is given, that head anew on the corrected labels.

    Args:
        model: what is trained.
        classes: C.
        train: the data set, with ``label``.
        settings: as above.
        plan: what the trainings share.
        decoupled: makes a fresh head. It learns on the features of the trained encoder, which rests, from the corrected labels,
            with re-balanced classes, and takes the place of the model's.

    Raises:
        ValueError: every label was taken away.
    """
    own = plan.named("mopro")
    signal = MomentumPrototypes(model, classes, settings)
    fitted = fit(model, train, signals=[signal], plan=own)
    outputs, rest = predict(model, train)
    labels = signal.cpu().corrected(outputs, rest["label"])
    if decoupled is None:
        return MoPro(fitted, labels, None)
    known = labels >= 0
    if not known.any():
        raise ValueError(f"share={settings.share}, sure={settings.sure}: every label was taken away; raise neither")
    features, _ = predict(_Encoder(model), train)
    assert isinstance(features, Tensor)
    examples = TensorData(input=features[known], label=labels[known])
    again = replace(
        plan.named("classifier"),
        budget=settings.retraining or plan.budget,
        heads=(),
        augment=None,
        sampler=Rebalanced(labels[known], plan.seed, settings.rebalance),
        val=None,
        select_by=None,
    )
    classifier = fit(decoupled(), examples, signals=[CrossEntropy()], plan=again)
    model.head = classifier.model
    return MoPro(fitted, labels, classifier)


class _Encoder(nn.Module):
    """The encoder alone."""

    def __init__(self, model: Projected) -> None:
        super().__init__()
        self.encoder = model.encoder

    def forward(self, input: Tensor) -> Tensor:
        return self.encoder(input)
