"""The examples of the weightings' cards are run as they stand there, a card's blocks one after the other."""

import itertools
import re
from pathlib import Path

import pytest
import torch
from weighting_zoo import N, examples, network, rows

from tutelage.data import TensorData
from tutelage.signals import CrossEntropy, Distillation, Objective

CARDS = Path(__file__).parents[2] / "docs" / "methods"
NAMES = [
    "amal",
    "auxilearn",
    "cleannet",
    "constant-weights",
    "crust",
    "curriculumnet",
    "gradient-cosine",
    "ieg",
    "joint",
    "learning-to-reweight",
    "maoal",
    "mentornet",
    "meta-weight-net",
    "superloss",
    "uncertainty",
]


@pytest.mark.filterwarnings("ignore::tutelage.hypergradient.NeumannWarning")
@pytest.mark.parametrize("name", NAMES)
def test_a_card_s_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (CARDS / f"{name}.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    model, everything = network(), examples()
    before = [p.detach().clone() for p in model.parameters()]
    batches = [rows(everything, range(start, start + 8)) for start in range(0, N, 8)]
    names = {
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
    for block in blocks:
        exec(block, names)
    moved = any(not torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    assert moved == (name != "constant-weights")
    for section in ("## How to call it", "## Good settings", "## Cost", "## Where it deviates"):
        assert section in text
