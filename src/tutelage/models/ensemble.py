"""Several networks that answer one task as one: the mean of what they say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.checks import check_number
from tutelage.models.classifier import ModelSpec, build
from tutelage.models.features import EncoderDoor, FeatureDoor
from tutelage.models.folder import read_model, write_model
from tutelage.models.members import MembersSpec
from tutelage.models.multi_head import MultiHeadSpec, build_multi_head

MOST = 100


@dataclass(frozen=True)
class EnsembleSpec(MembersSpec):
    """What is needed to build an ensemble again.

    Args:
        members: The networks, which have the same input.
        head: The head of each that is asked.
        numbers: Whether its outputs are numbers, and not the logits of classes.
        standard: Mean and standard deviation by which the members' numbers are standardised; the ensemble's are not.
        encoder: Of members that read features: what computes them, once for all; none where features are given.
    """

    members: tuple[MultiHeadSpec, ...]
    head: str
    numbers: bool = False
    standard: tuple[float, float] = (0.0, 1.0)
    encoder: ModelSpec | None = None

    def __post_init__(self) -> None:
        """Check the values, which may come from a stranger's file."""
        self.understand(MultiHeadSpec)
        check_number("standard[0]", self.standard[0], "(-inf, inf)")
        check_number("standard[1]", self.standard[1], "(0, inf)")
        members = self.members
        if (
            not 0 < len(members) <= MOST
            or len({(spec.image_size, spec.num_features, spec.fields) for spec in members}) != 1
        ):
            raise ValueError(f"an ensemble needs 1 to {MOST} members of the same input")
        counts = {spec.outputs.get(self.head) for spec in members}
        if len(counts) > 1 or None in counts:
            raise ValueError(f"the members of an ensemble need a head {self.head!r} with as many outputs in each")


class Ensemble(nn.Module):
    r"""The mean of several networks' probabilities, or of their numbers.

    .. math:: p(y \mid x) = \frac{1}{M} \sum_{m=1}^{M} p_m(y \mid x)

    Source: Lakshminarayanan et al., *Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles*, NeurIPS 2017.
    """

    def __init__(self, spec: EnsembleSpec) -> None:
        super().__init__()
        self.spec = spec
        self.door: nn.Module = nn.Identity()
        if (features := spec.members[0].num_features) is not None:
            encoder = spec.encoder
            self.door = FeatureDoor(features) if encoder is None else EncoderDoor(build(encoder), features)
        self.members = nn.ModuleList([build_multi_head(member) for member in spec.members])

    def forward(self, input: Tensor) -> dict[str, Tensor]:
        """Return the head's log-probabilities (B, C) or (B, C, H, W), or its numbers (B, 1)."""
        seen = self.door(input)
        told = torch.stack([member(seen)[self.spec.head] for member in self.members])
        if self.spec.numbers:
            mean, deviation = self.spec.standard
            return {self.spec.head: told.mean(0) * deviation + mean}
        return {self.spec.head: told.log_softmax(2).logsumexp(0) - math.log(len(told))}


def ensemble_of(
    members: Sequence[tuple[nn.Module, MultiHeadSpec]],
    head: str,
    *,
    numbers: bool = False,
    standard: tuple[float, float] = (0.0, 1.0),
    door: FeatureDoor | None = None,
) -> Ensemble:
    """Return trained networks as one.

    Args:
        members: the networks, each with its spec.
        head: the head of each that is asked.
        numbers: whether its outputs are numbers, and not the logits of classes.
        standard: mean and standard deviation by which the members' numbers are standardised.
        door: by which networks of standardised features see images, or features as they come; None leaves the input as it is.

    Raises:
        ValueError: networks of different inputs, or without the head.
    """
    encoder = door.encoder.spec if isinstance(door, EncoderDoor) else None
    made = Ensemble(EnsembleSpec(tuple(spec for _, spec in members), head, numbers, standard, encoder))
    for member, (network, _) in zip(made.members, members, strict=True):
        member.load_state_dict(network.state_dict())
    if door is not None:
        made.door.load_state_dict(door.state_dict())
    return made.eval()


def save_ensemble(model: Ensemble, folder: Path, **facts: Any) -> None:
    """Write ``model.safetensors`` and ``config.json`` (the spec, and further plain facts) into the folder."""
    write_model(model, model.spec, folder, facts, "ensemble")


def load_ensemble(folder: Path) -> tuple[Ensemble, dict[str, Any]]:
    """Return the ensemble in eval mode, and the facts that `save_ensemble` wrote; raises as `read_model` does."""
    return read_model(folder, EnsembleSpec, Ensemble, "ensemble")
