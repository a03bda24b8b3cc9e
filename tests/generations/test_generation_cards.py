"""The examples of the cards of generations are run as they stand there."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from tutelage.data import TensorData
from tutelage.data.indexed import Rows

CARDS = Path(__file__).parents[2] / "docs" / "methods"
NAMES = ["mile", "elr", "self-training", "assistants", "born-again", "sskd", "refining-labels", "scc", "mopro"]
N, C = 24, 3


def examples(rows: torch.Tensor) -> Rows:
    return Rows(data(), rows)


def data() -> TensorData:
    g = torch.Generator().manual_seed(0)
    return TensorData(input=torch.randn(N, 2, generator=g), label=torch.randint(0, C, (N,), generator=g))


def network(generation: int = 0) -> nn.Module:
    torch.manual_seed(generation)
    return nn.Sequential(nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, C))


@pytest.mark.parametrize("name", NAMES)
def test_a_card_s_examples_run(name):
    blocks = re.findall(r"```python\n(.*?)```", (CARDS / f"{name}.md").read_text(), re.DOTALL)
    assert blocks
    train, model = data(), network()
    truth = torch.zeros(N, C, dtype=torch.bool)
    truth[:, 0] = True
    truth[torch.arange(N), 1 + torch.arange(N) % 2] = True
    g = torch.Generator().manual_seed(1)
    names = {
        "model": model,
        "heads": ["2"],
        "train": train,
        "classes": C,
        "loader": [train.batch(list(range(start, start + 8))) for start in (0, 8, 16)],
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "new": network,
        "examples": examples,
        "labelled": torch.arange(12),
        "unlabelled": torch.arange(12, N),
        "augment": None,
        "encoder": lambda g: nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        "head": lambda g: nn.Linear(4, C),
        "features": 4,
        "images": TensorData(input=torch.randn(16, 3, 6, 6, generator=g), label=torch.arange(16) % C),
        "some_images": torch.randn(2, 3, 6, 6, generator=g),
        "truth": truth,
        "test": train,
        "small": nn.Sequential(nn.Linear(2, 1)),
    }
    for block in blocks:
        exec(block, names)
