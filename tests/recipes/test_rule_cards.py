"""The examples of the cards about rules are run as they stand there."""

import itertools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tutelage.models import RuleModel, RuleModelSpec

CARDS = Path(__file__).parents[2] / "docs" / "methods"
N = 12


def batches(reliability: bool) -> tuple[RuleModel, dict[str, torch.Tensor]]:
    rules = "reliability" if reliability else "cage"
    model = RuleModel(RuleModelSpec(features=2, rule_class=(0, 1, 1), classes=2, rules=rules))
    g = torch.Generator().manual_seed(0)
    fired = torch.randint(0, 2, (N, 3), generator=g)
    input = torch.cat([torch.randn(N, 2, generator=g), fired, torch.full((N, 3), 0.5)], 1)
    label = torch.where(torch.arange(N) % 3 == 0, torch.arange(N) % 2, -1)
    nobody = torch.full((N,), -1)
    return model, {
        "index": torch.arange(N),
        "input": input,
        "fired": fired,
        "label": label,
        "label_model_label": nobody,
    }


@pytest.mark.parametrize("name", ["labelling-rules", "cage", "spear", "imply-loss"])
def test_a_card_s_examples_run(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (CARDS / f"{name}.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    model, batch = batches(name == "imply-loss")
    before = [p.detach().clone() for p in model.parameters()]
    judged = {**batch, "label": torch.arange(N) % 2, "label_model_label": torch.arange(N) % 2}
    names = {
        "model": model,
        "N": N,
        "loader": [batch] * 3,
        "held_out": itertools.repeat(judged),
        "optimizer": torch.optim.Adam(model.parameters(), lr=0.01),
        "fired": batch["fired"],
        "table": pd.DataFrame({"text": ["Subscribe!", "I love to subscribe", "nothing"]}),
        "labels": np.array([1, 0, -1]),
    }
    for block in blocks:
        exec(block, names)
    moved = any(not torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    assert moved == (name in ("spear", "imply-loss"))
    if name == "labelling-rules":
        assert names["found"].votes.values.tolist() == [[1, -1, 1], [1, 0, -1], [-1, -1, -1]]
        assert names["answer"].tolist() == [1, 0, 0]
    if name == "cage":
        assert torch.isfinite(names["posterior"]).all()
    if name == "spear":
        assert (names["weighting"].weights[:, :6] != 1).any(0).all()
    for section in ("## How to call it", "## Good settings", "## Cost", "## Where it deviates"):
        assert section in text
