"""AMAL's Figures 1 and 2 on features that are drawn here."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from benchmarks.amal import laptop, mixing
from benchmarks.reproduce import reproduce
from benchmarks.results_table import read_results

from tutelage.training import Budget
from tutelage.weighting.settings import AdaptSettings


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(4), 40)
    features = torch.from_numpy(np.eye(4)[labels] + 0.3 * rng.normal(size=(160, 4))).float()[:, None]
    facts = pd.DataFrame({"id": [f"image-{number}" for number in range(160)], "label": labels})
    facts["split"] = np.where(np.arange(160) < 120, "unassigned", "test")
    monkeypatch.setattr(laptop, "described", lambda name, data, runs: (features, facts))
    monkeypatch.setattr(laptop, "SIZES", {"cifar100": {"train": 60, "held_out": 20, "val": 20}})
    training = replace(mixing.SETTINGS.training, batch_size=20, lr=0.05)
    few = replace(
        mixing.SETTINGS, training=training, adapt=AdaptSettings(every=1, batch_size=20), budget=Budget(epochs=3)
    )
    monkeypatch.setattr(mixing, "SETTINGS", few)
    monkeypatch.setattr(mixing, "TEACHERS", {"a large teacher": [8, 8], "a small teacher": [4]})
    monkeypatch.setattr(mixing, "LAMBDAS", (0.0, 0.9))


def test_both_figures_are_drawn_from_the_table(small, tmp_path):
    arguments: dict[str, Any] = {"seeds": 2, "data": tmp_path, "out": tmp_path / "out", "runs": tmp_path / "runs"}
    people, programs, *drawn = reproduce("mixing", "laptop", **arguments)
    assert [path.name for path in drawn] == [
        "mixing-laptop-large-teacher.svg",
        "mixing-laptop-small-teacher.svg",
        "mixing-laptop-histogram.svg",
    ]
    rows = read_results(programs)
    large = {row.row: row.ours for row in rows if row.metric.startswith("CIFAR-100, a large teacher of 8-8 units")}
    assert list(large) == ["the teacher", "lambda_a = 0", "lambda_a = 0.9", "AMAL"]
    assert f"AMAL {large['AMAL']:.1f} %" in drawn[0].read_text()
    for part in mixing.LABELS:
        shares = [row.ours for row in rows if row.metric == f"{mixing.HISTOGRAM}: {part}"]
        assert len(shares) == len(mixing.EDGES) - 1
        assert sum(share for share in shares if share is not None) == pytest.approx(1)
    mean = {row.metric.rpartition(", ")[2]: row.ours for row in rows if "lambda_a - lambda_p, " in row.metric}
    assert mean["wrong labels"] > mean["right labels"]  # who is mislabelled follows the teacher
    compared = people.read_text().partition("## Against the strongest other row")[2]
    assert re.search(r"AMAL \| +lambda_a = ", compared)
    assert "the teacher |" not in compared
    with pytest.raises(ValueError, match="no such part"):
        reproduce("mixing", "laptop", **arguments, only=["moon"])
