"""The paper scale is not run here, so that its models' names are held against what the locked timm has."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
from benchmarks.amal import cases as amal
from benchmarks.maoal import cases as maoal
from benchmarks.mile.table import paper_variants
from benchmarks.moderation.variants import PAPER

from tutelage import _vision
from tutelage.models import FEATURES, SMALL
from tutelage.recipes.registry import RECIPES, load


def models(settings: Any) -> Iterator[tuple[str, str | None]]:
    """Yield the name and the weights of every model that settings hold, however deep."""
    if is_dataclass(settings):
        if hasattr(settings, "pretrained") and settings.name is not None:
            yield settings.name, settings.pretrained
        settings = {field.name: getattr(settings, field.name) for field in fields(settings)}
    if isinstance(settings, dict):
        settings = tuple(settings.values())
    if isinstance(settings, tuple | list):
        for part in settings:
            yield from models(part)


def every() -> set[tuple[str, str | None]]:
    presets = [settings for name in RECIPES for settings, _ in load(name).presets.scales.values()]
    return set(models([*presets, PAPER, paper_variants(), *amal.cases("paper"), *maoal.cases("paper")]))


@pytest.mark.parametrize(("name", "weights"), sorted(every(), key=str))
def test_every_model_of_the_paper_scale_is_there_with_its_weights(name: str, weights: str | None) -> None:
    if name in (*SMALL, *FEATURES, "autoint", "encoder_decoder"):
        assert weights is None  # ours begin at random
        return
    timm = _vision.timm()
    assert timm.is_model(name)
    known = timm.get_pretrained_cfg(name)
    if weights == "timm":
        assert timm.is_model_pretrained(name)
        assert f"{known.architecture}.{known.tag}" in timm.list_pretrained()
        assert known.hf_hub_id or known.url or known.file


def test_a_name_without_weights_would_be_found() -> None:
    """The paper's own name of CoAtNet-2 is in timm, and no weights are."""
    timm = _vision.timm()
    assert timm.is_model("coatnet_2_224")
    assert not timm.is_model_pretrained("coatnet_2_224")
    assert ("coatnet_2_rw_224.sw_in12k_ft_in1k", "timm") in every()
