"""Every card in docs/methods has the sections that a reader looks for, and its Python runs as it stands there.

A new card is found by itself, and its examples know the names of `of_a_weighting`, which CONTRIBUTING lists. A card that needs
other names has a line in `NAMES_OF`.
"""

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from torch import Tensor, nn
from weighting_zoo import N, examples, network, rows

from tutelage.data import TensorData
from tutelage.data.indexed import Rows
from tutelage.models import RuleModel, RuleModelSpec
from tutelage.recipes import auxiliary, moderation
from tutelage.signals import CrossEntropy, Distillation, Objective
from tutelage.training import Budget
from tutelage.weighting import WEIGHTINGS

ROOT = Path(__file__).parents[1]
CARDS = {path.stem: path.read_text() for path in sorted((ROOT / "docs" / "methods").glob("*.md"))}
SECTIONS = {
    "How to call it": "## How to call (it|them)",
    "Good settings": "## Good settings",
    "Cost": "## Cost",
    "Where it deviates": "## .*[Ww]here (it deviates|they deviate)",
}
Names = dict[str, Any]


def of_a_weighting() -> Names:
    model, everything = network(), examples()
    batches = [rows(everything, range(start, start + 8)) for start in range(0, N, 8)]
    return {
        "model": model,
        "teacher": network(),
        "auxiliary": Distillation("teacher"),
        "objective": Objective(model, [CrossEntropy(), Distillation("teacher")]),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "train": TensorData(**{key: value for key, value in everything.items() if key != "index"}),
        "loader": batches * 20,
        "loader_over": lambda selected: [rows(everything, selected)],
        "held_out": itertools.cycle([examples(6, seed=7)]),
        "ids": [f"example-{i}" for i in range(N)],
        "train_and_validate": lambda weighting: -weighting.weights[1],
    }


def of_generations() -> Names:
    g, classes = torch.Generator().manual_seed(0), 3

    def new(generation: int = 0) -> nn.Module:
        torch.manual_seed(generation)
        return nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, classes))

    train = TensorData(input=torch.randn(24, 2, generator=g), label=torch.randint(0, classes, (24,), generator=g))
    truth = torch.zeros(24, classes, dtype=torch.bool)
    truth[:, 0] = True
    truth[torch.arange(24), 1 + torch.arange(24) % 2] = True
    model = new()
    return {
        "model": model,
        "heads": ["2"],
        "train": train,
        "classes": classes,
        "loader": [train.batch(list(range(start, start + 8))) for start in (0, 8, 16)],
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "new": new,
        "examples": lambda which: Rows(train, which),
        "labelled": torch.arange(12),
        "unlabelled": torch.arange(12, 24),
        "augment": None,
        "encoder": lambda g: nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        "head": lambda g: nn.Linear(4, classes),
        "features": 4,
        "images": TensorData(input=torch.randn(16, 3, 6, 6, generator=g), label=torch.arange(16) % classes),
        "some_images": torch.randn(2, 3, 6, 6, generator=g),
        "truth": truth,
        "test": train,
        "small": nn.Sequential(nn.Linear(2, 1)),
    }


def of_rules(model_of_rules: str = "cage") -> Names:
    model = RuleModel(RuleModelSpec(features=2, rule_class=(0, 1, 1), classes=2, rules=model_of_rules))
    g, count = torch.Generator().manual_seed(0), 12
    fired = torch.randint(0, 2, (count, 3), generator=g)
    index = torch.arange(count)
    batch: dict[str, Tensor] = {
        "index": index,
        "input": torch.cat([torch.randn(count, 2, generator=g), fired, torch.full((count, 3), 0.5)], 1),
        "fired": fired,
        "label": torch.where(index % 3 == 0, index % 2, -1),
        "label_model_label": torch.full((count,), -1),
    }
    return {
        "model": model,
        "N": count,
        "loader": [batch] * 3,
        "held_out": itertools.repeat({**batch, "label": index % 2, "label_model_label": index % 2}),
        "optimizer": torch.optim.Adam(model.parameters(), lr=0.01),
        "fired": fired,
        "table": pd.DataFrame({"text": ["Subscribe!", "I love to subscribe", "nothing"]}),
        "labels": np.array([1, 0, -1]),
    }


def of_a_recipe() -> Names:
    tiny.manifest(Path(), (60, 120)).rename("ads.csv")
    return {"out": Path("runs/digits")}


GENERATIONS = ["assistants", "born-again", "elr", "mile", "mopro", "refining-labels", "scc", "self-training", "sskd"]
NAMES_OF: dict[str, Callable[[], Names]] = {
    **dict.fromkeys(GENERATIONS, of_generations),
    **dict.fromkeys(("cage", "labelling-rules", "spear"), of_rules),
    "imply-loss": lambda: of_rules("reliability"),
    **dict.fromkeys(("auxiliary", "sub-task-imputation"), of_a_recipe),
}


def rules_voted(names: Names) -> None:
    assert names["found"].votes.values.tolist() == [[1, -1, 1], [1, 0, -1], [-1, -1, -1]]
    assert names["answer"].tolist() == [1, 0, 0]


def posterior_is_finite(names: Names) -> None:
    assert torch.isfinite(names["posterior"]).all()


def weights_were_learned(names: Names) -> None:
    assert (names["weighting"].weights[:, :6] != 1).any(0).all()


LEAVES = {"labelling-rules": rules_voted, "cage": posterior_is_finite, "spear": weights_were_learned}


@pytest.fixture
def small_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes of which the settings for the pocket take seconds."""
    tiny.hurry(monkeypatch.setattr)
    quick = replace(auxiliary.pocket(), budget=Budget(steps=2), image_size=8)
    monkeypatch.setattr(auxiliary, "pocket", lambda: quick)
    monkeypatch.setattr(moderation, "pocket", tiny.settings)


@pytest.mark.filterwarnings("ignore::tutelage.hypergradient.NeumannWarning")
@pytest.mark.usefixtures("small_recipes")
@pytest.mark.parametrize("card", CARDS)
def test_a_card_s_examples_run(card: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", CARDS[card], re.DOTALL)
    assert blocks, f"docs/methods/{card}.md has no ```python block; its section How to call it needs one"
    names = NAMES_OF.get(card, of_a_weighting)()
    known, model = sorted(names), names.get("model")
    before = [] if model is None else [p.detach().clone() for p in model.parameters()]
    for block in blocks:
        try:
            exec(block, names)
        except NameError as error:
            error.add_note(
                f"the examples of docs/methods/{card}.md may use {', '.join(known)}; see tests/test_method_cards.py"
            )
            raise
    if model is not None and names["model"] is model and any("backward(" in block for block in blocks):
        assert any(not torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True)), (
            "nothing was trained"
        )
    if card in LEAVES:
        LEAVES[card](names)


@pytest.mark.parametrize("card", CARDS)
def test_a_card_has_every_section(card: str) -> None:
    for section, heading in SECTIONS.items():
        assert re.search(f"^{heading}", CARDS[card], re.MULTILINE), (
            f"docs/methods/{card}.md lacks the section {section!r}"
        )


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_every_weighting_is_on_a_card(name: str) -> None:
    title = WEIGHTINGS[name].__name__
    shown = [card for card, text in CARDS.items() if re.search(rf"\b{title}\(", text)]
    assert shown, f"no card in docs/methods calls {title}(...)"


def test_contributing_lists_the_sections_and_the_names_of_a_card_and_no_others() -> None:
    text = " ".join((ROOT / "CONTRIBUTING.md").read_text().split())
    told = re.search(r"its sections are (.*?); its examples may use (.*?)\. ", text)
    assert told is not None
    assert re.findall(r"`## (.+?)`", told[1]) == list(SECTIONS)
    assert set(re.findall(r"`(\w+)`", told[2])) == of_a_weighting().keys()
    assert NAMES_OF.keys() | LEAVES.keys() <= CARDS.keys()
