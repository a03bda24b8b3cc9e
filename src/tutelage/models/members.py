"""What the specs of several networks that answer as one have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tutelage.models.classifier import ModelSpec


class MembersSpec:
    """The spec of networks with the same input, of which those that read features may share an encoder.

    Attributes:
        members: the networks' own specs.
        encoder: of members that read features: what computes them, once for all.
    """

    members: tuple[Any, ...]
    encoder: ModelSpec | None

    def understand(self, member: Callable[..., Any]) -> None:
        """Make specs of what a file holds in their place."""
        made = tuple(_made(member, told) if isinstance(told, Mapping) else told for told in self.members)
        object.__setattr__(self, "members", made)
        if isinstance(self.encoder, Mapping):
            object.__setattr__(self, "encoder", ModelSpec(**self.encoder))

    @property
    def num_features(self) -> int | None:
        """How many numbers describe an example, where features are given; None where images or fields are."""
        return None if self.encoder is not None else self.members[0].num_features

    @property
    def image_size(self) -> int:
        """Height and width of the images in pixels."""
        return (self.encoder or self.members[0]).image_size


def _made(member: Callable[..., Any], told: Mapping[str, Any]) -> Any:
    return member(**{name: tuple(value) if isinstance(value, list) else value for name, value in told.items()})
