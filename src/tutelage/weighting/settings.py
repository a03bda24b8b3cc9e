"""What settings say of a weighting: its name in the registry, its options, and when it learns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tutelage.checks import check
from tutelage.weighting import registry


@dataclass(frozen=True)
class AdaptSettings:
    """When weights are learned on held-out examples, by a weighting that learns some.

    Args:
        every: Training steps between two updates of the weights.
        batch_size: Held-out examples in one update; null takes as many as in a training batch.
    """

    every: int = 10
    batch_size: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        check(self, "adapt", every="[1, inf)", batch_size="[1, inf)")


class WeighingSettings(Protocol):
    """Settings that name a weighting."""

    @property
    def weighting(self) -> str | None:
        """The name of the weighting; None for the one that belongs to the recipe's method."""

    @property
    def weighting_options(self) -> dict[str, Any]:
        """The options that were given for it."""

    @property
    def weighting_defaults(self) -> dict[str, dict[str, Any]]:
        """Recommended options, by the name of a weighting."""


def check_names(settings: WeighingSettings, others: Iterable[str] = ()) -> None:
    """Check the names of weightings and of their options.

    Raises:
        ValueError: an unknown one, with the nearest known one.
    """
    for name in dict.fromkeys(filter(None, (settings.weighting, *others))):
        registry.known(name, options_of(settings, name))
    for name, options in settings.weighting_defaults.items():
        registry.known(name, options)


def options_of(settings: WeighingSettings, name: str, **derived: Any) -> dict[str, Any]:
    """Return the options of a weighting: those derived, under those recommended, under those given for the chosen one."""
    given = settings.weighting_options if settings.weighting in (None, name) else {}
    return _over(_over(derived, settings.weighting_defaults.get(name, {})), given)


def _over(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return both mappings as one; mappings in them too are put over each other."""
    both = {**under, **over}
    for key in under.keys() & over.keys():
        if isinstance(under[key], Mapping) and isinstance(over[key], Mapping):
            both[key] = _over(under[key], over[key])
    return both
