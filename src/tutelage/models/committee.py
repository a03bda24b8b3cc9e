"""Several networks that answer as one: a weighted sum of their log-odds of acceptable, on one calibrated scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.models.classifier import ImageClassifier, ModelSpec, build, joint_logits
from tutelage.models.features import EncoderDoor
from tutelage.models.folder import read_model, write_model
from tutelage.models.members import MembersSpec

NOT_HEARD = -1e4
"""The operating point of a specialist without a say: odds of nothing."""


@dataclass(frozen=True)
class CommitteeSpec(MembersSpec):
    """What is needed to build a committee again.

    Args:
        members: The networks.
        specialists: Of each, whether its outputs are the log-odds of acceptable of several specialists, and no two classes.
        encoder: Of members that read features: what computes them, once for all.
    """

    members: tuple[ModelSpec, ...]
    specialists: tuple[bool, ...]
    encoder: ModelSpec | None = None

    def __post_init__(self) -> None:
        """Check the values, which may come from a stranger's file."""
        self.understand(ModelSpec)
        members = self.members
        if not members or len(self.specialists) != len(members) or len({spec.image_size for spec in members}) != 1:
            raise ValueError("a committee needs members of one image size, each with its kind")
        for spec, judges in zip(members, self.specialists, strict=True):
            if not judges and spec.num_classes != 2:
                raise ValueError(
                    f"member {spec.name!r} has {spec.num_classes} classes; only two-class members have log-odds"
                )


class Committee(nn.Module):
    r"""Networks whose log-odds of acceptable add up.

    .. math:: z(x) = c + \sum_m w_m z_m(x), \qquad z_m(x) = -\log \sum_k e^{b_{mk} - z_{mk}(x)}

    A two-class network has one z_mk, the difference of its joint logits, and b = 0. A network of specialists has one for each,
    with its operating point b_mk, `NOT_HEARD` for one that is not kept: their odds of defective add up.
    """

    def __init__(
        self, members: Sequence[ImageClassifier], specialists: Sequence[bool], door: EncoderDoor | None = None
    ) -> None:
        super().__init__()
        encoder = None if door is None else door.encoder.spec
        self.spec = CommitteeSpec(tuple(member.spec for member in members), tuple(specialists), encoder)
        self.door = nn.Identity() if door is None else door
        self.members = nn.ModuleList(members)
        self.register_buffer("weight", torch.full((len(members),), 1 / len(members)))
        self.register_buffer("offset", torch.zeros(()))
        for m, member in enumerate(members):
            self.register_buffer(f"points_{m}", torch.zeros(member.spec.num_classes if specialists[m] else 1))

    weight: Tensor
    offset: Tensor

    def points(self, member: int) -> Tensor:
        """Return a member's operating points, (K,): the buffer itself."""
        return self.get_buffer(f"points_{member}")

    def forward(self, input: Tensor) -> Tensor:
        """Return logits over (defective, acceptable), (B, 2), whose softmax is calibrated."""
        seen, log_odds_B = self.door(input), self.offset
        for m, (member, judges) in enumerate(zip(self.members, self.spec.specialists, strict=True)):
            outputs = joint_logits(member(seen))
            each_BK = outputs if judges else outputs[:, 1:] - outputs[:, :1]
            log_odds_B = log_odds_B - self.weight[m] * torch.logsumexp(self.points(m) - each_BK, dim=1)
        return torch.stack([torch.zeros_like(log_odds_B), log_odds_B], dim=1)

    def features(self, input: Tensor) -> Tensor:
        """Return what the first member's heads see, (B, D)."""
        first: Any = self.members[0]
        return first.features(self.door(input))


def build_committee(spec: CommitteeSpec) -> Committee:
    """Build a committee with random weights."""
    door = None
    if spec.encoder is not None:
        door = EncoderDoor(build(spec.encoder), int(spec.members[0].options.get("num_features", 0)))
    return Committee([build(member) for member in spec.members], spec.specialists, door)


def save_committee(model: Committee, folder: Path, **facts: Any) -> None:
    """Write ``model.safetensors`` and ``config.json`` (the spec, and further plain facts) into the folder."""
    write_model(model, model.spec, folder, facts, "committee")


def load_committee(folder: Path) -> tuple[Committee, dict[str, Any]]:
    """Return the committee in eval mode, and the facts that `save_committee` wrote; raises as `read_model` does."""
    return read_model(folder, CommitteeSpec, build_committee, "committee")
