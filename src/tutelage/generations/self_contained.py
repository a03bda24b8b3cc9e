"""SCC: a second model learns each label as far as the first one believes it, and what the first one says for the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.checks import check
from tutelage.data import WithColumns
from tutelage.generations.chain import NewModel
from tutelage.signals import BinaryCrossEntropy
from tutelage.signals.base import head_of
from tutelage.training import Fitted, Plan, fit, predict

CHUNK = 1024  # rows whose similarities to all others are held at once


@dataclass(frozen=True)
class SelfContainedSettings:
    """How a label and what the first model says are mixed.

    Args:
        labels: What the first model says: hard (its best class) or soft (its probabilities).
        power: Exponent of the confidence; above 1 the label counts less.
        neighbours: Neighbours over which the first model's probabilities are averaged (GBA); 0 averages none.
        hops: How often they are averaged.
    """

    labels: Literal["hard", "soft"] = "soft"
    power: float = 1.0
    neighbours: int = 0
    hops: int = 2

    def __post_init__(self) -> None:
        """Check the values."""
        check(self, power="[0, inf)", neighbours="[0, inf)", hops="[1, inf)")


@dataclass(frozen=True)
class SelfContained:
    """What `self_contained` returns.

    Attributes:
        teacher: the first model.
        student: the second one, the result.
        confidence: how far each example's label was believed, (n,).
    """

    teacher: Fitted
    student: Fitted
    confidence: Tensor


def mixed_targets(probabilities_NC: Tensor, label_N: Tensor, settings: SelfContainedSettings) -> tuple[Tensor, Tensor]:
    r"""Return the second model's targets (N, C) and the confidences (N).

    .. math:: c_i = s_{i, y_i}^{\text{power}}, \qquad t_i = c_i\, \mathrm{onehot}(y_i) + (1 - c_i)\, \hat y_i
    """
    web_NC = F.one_hot(label_N, probabilities_NC.shape[1]).to(probabilities_NC)
    said_NC = probabilities_NC
    if settings.labels == "hard":
        said_NC = F.one_hot(probabilities_NC.argmax(1), probabilities_NC.shape[1]).to(probabilities_NC)
    confidence_N = (probabilities_NC * web_NC).sum(1) ** settings.power
    return confidence_N[:, None] * web_NC + (1 - confidence_N)[:, None] * said_NC, confidence_N


def aggregated(values_NC: Tensor, features_ND: Tensor, neighbours: int, hops: int) -> Tensor:
    r"""Return values averaged over a graph of nearest neighbours, (N, C), each example being a neighbour of its own.

    .. math:: \big(D^{-1}(A + I)\big)^{\text{hops}} S, \qquad
        A_{ij} = [\,j \in \mathrm{kNN}(i) \text{ or } i \in \mathrm{kNN}(j)\,]

    by cosine, so that what lies in [0, 1] stays there.
    """
    count = len(values_NC)
    neighbours = min(neighbours, count - 1)
    directions_ND = F.normalize(features_ND, dim=1)
    near: list[Tensor] = []
    for start in range(0, count, CHUNK):
        cosines = directions_ND[start : start + CHUNK] @ directions_ND.T
        cosines[torch.arange(len(cosines)), torch.arange(start, start + len(cosines))] = -torch.inf
        near.append(cosines.topk(neighbours, dim=1).indices)
    to = torch.cat(near).flatten()
    own = torch.arange(count)
    one_way = torch.stack([own.repeat_interleave(neighbours), to])
    pairs = torch.cat([one_way, one_way.flip(0), own.expand(2, -1)], 1).unique(dim=1)
    degrees_N = torch.bincount(pairs[0], minlength=count)
    graph_NN = torch.sparse_coo_tensor(
        pairs, 1 / degrees_N[pairs[0]].to(values_NC), (count, count), check_invariants=False
    )
    for _ in range(hops):
        values_NC = torch.sparse.mm(graph_NN, values_NC)
    return values_NC


def self_contained(
    new: NewModel,
    train: Any,
    settings: SelfContainedSettings,
    plan: Plan,
    *,
    embed: Callable[[nn.Module], Tensor] | None = None,
    head: str | None = None,
) -> SelfContained:
    """Train a model on the labels by sigmoids, and a second one on the labels and on what the first one says.

    Args:
        new: ``new(0)`` is the first model, ``new(1)`` the second.
        train: the data set, with ``label``, a class each, and ``index``.
        settings: how label and answer are mixed.
        plan: what both trainings share.
        embed: ``embed(first_model)`` are features of the examples, (n, D), by which they are neighbours.
        head: the model's head, where it has several.

    Raises:
        ValueError: neighbours without ``embed``.

    Source: Yang et al., *Webly Supervised Image Classification with Self-Contained Confidence*, ECCV 2020, section 3.
    """
    if settings.neighbours > 0 and embed is None:
        raise ValueError(f"neighbours={settings.neighbours} are found by features; give embed, or take neighbours=0")
    teacher = fit(new(0), train, signals=[BinaryCrossEntropy(head=head)], plan=plan.named("teacher"))
    outputs, rest = predict(teacher.model, train)
    said_NC = head_of(outputs, head, "the first model").sigmoid()
    if settings.neighbours > 0 and embed is not None:
        said_NC = aggregated(said_NC, embed(teacher.model), settings.neighbours, settings.hops)
    own_NC, confidence = mixed_targets(said_NC, rest["label"], settings)
    targets = torch.zeros(int(rest["index"].max()) + 1, said_NC.shape[1])
    targets[rest["index"]] = own_NC
    signals = [BinaryCrossEntropy("targets", head=head)]
    student = fit(new(1), WithColumns(train, targets=targets), signals=signals, plan=plan.named("student"))
    return SelfContained(teacher, student, confidence)
