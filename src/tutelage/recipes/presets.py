"""At which scale a recipe runs: the one that was asked for, or the one that the hardware and the data allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import torch

from tutelage.recipes.base import Scale
from tutelage.recipes.encoding import ELSEWHERE, unobtainable

S = TypeVar("S")


@dataclass(frozen=True)
class Presets(Generic[S]):
    """The scales at which a recipe comes.

    Attributes:
        scales: for each the settings and a phrase that describes them.
        auto: the scale that auto is, where that does not depend on the hardware.
        small: built-in data of a few pixels, for which auto is pocket on any hardware.
        unencoded: built-in data of which no encoder makes features, for which auto is not laptop.
        tabular: for a table whose input are fields, the settings that auto and pocket are, on any hardware, and their phrase.
    """

    scales: Mapping[Scale, tuple[S, str]]
    auto: Scale | None = None
    small: tuple[str, ...] = ()
    unencoded: tuple[str, ...] = ()
    tabular: tuple[S, str] | None = None

    def chosen(
        self,
        scale: Literal["auto"] | Scale,
        data: str | None = None,
        encoder: str | None = None,
        *,
        fields: bool = False,
    ) -> tuple[S, str]:
        """Return the settings of a scale for some data, and a sentence that says what was chosen and why.

        Args:
            scale: a scale, or auto: paper with an accelerator, else laptop where its encoder can be had, else pocket.
            data: the data that a command was given.
            encoder: the encoder that it was given, by its weights or its name: laptop's, then.
            fields: whether its data are fields of a table.

        Raises:
            ValueError: the recipe does not come at this scale.
        """
        if fields and self.tabular is not None and scale in ("auto", "pocket"):
            settings, phrase = self.tabular
            return settings, f"scale pocket: {phrase}" if scale == "pocket" else f"scale auto is pocket ({phrase})"
        if scale != "auto":
            if scale not in self.scales:
                raise ValueError(f"scale={scale!r}: this recipe comes at {', '.join(self.scales)}")
            settings, phrase = self.scales[scale]
            return settings, f"scale {scale}: {phrase}"
        chosen, why = self._fitting(data, encoder)
        settings, phrase = self.scales[chosen]
        return settings, f"scale auto is {chosen} ({phrase}){why and ', since '}{why}"

    def _fitting(self, data: str | None, encoder: str | None) -> tuple[Scale, str]:
        """Return the scale that auto is, and why."""
        fixed: Scale | None = "pocket" if data in self.small else self.auto
        if fixed:
            return fixed, ""
        if "laptop" in self.scales and encoder is not None:
            return "laptop", f"features come from {encoder!r}"
        if torch.accelerator.is_available():
            return "paper", "there is an accelerator"
        if "laptop" not in self.scales or data in self.unencoded:
            return "pocket", "there is no accelerator"
        settings: Any = self.scales["laptop"][0]
        if reason := unobtainable(settings.encoder):
            return "pocket", f"there is no accelerator and {reason}. For useful figures {ELSEWHERE}"
        return "laptop", "there is no accelerator"
