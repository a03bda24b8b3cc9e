"""MILe's case of attributes: one of the true ones is the label, and each row has as many trials."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from benchmarks.mile import attributes, laptop
from benchmarks.results_table import rows_of

from tutelage.data.encoded import EncodedTable, ImageFeatures
from tutelage.data.table import ImageArray
from tutelage.generations import IteratedSettings

COUNT = 240
FACTS = {"label": 4, "colour": 3, "season": 3, "gender": 2}


@pytest.fixture
def photographs(monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    facts = pd.DataFrame({name: rng.integers(values, size=COUNT) for name, values in FACTS.items()})
    facts.loc[:9, "season"] = -1  # the shop does not say
    facts["colour"] = facts["colour"].where(facts["colour"] < 2, 1)
    facts.loc[:4, "colour"] = 2  # too few for an attribute
    columns = [facts[name].to_numpy() == value for name, values in FACTS.items() for value in range(values)]
    features = torch.from_numpy(np.stack(columns, 1) + 0.1 * rng.normal(size=(COUNT, len(columns)))).float()
    facts = facts.assign(id=[f"id-{row}" for row in range(COUNT)], split="unassigned", article_type="a")
    pixels = ImageArray(torch.zeros(COUNT, 3, 1, 1, dtype=torch.uint8))
    table = EncodedTable(pixels, facts, ImageFeatures(features[:, None], "a", torch.arange(COUNT)))
    monkeypatch.setattr(attributes, "_photographs", lambda data, runs: table)
    monkeypatch.setattr(attributes, "LEAST", 10)
    monkeypatch.setattr(attributes, "PARTS", {"train": 120, "val": 50, "test": 60})
    return facts


def test_the_label_is_one_of_the_attributes_that_are_true(photographs: pd.DataFrame, tmp_path: Path) -> None:
    task = attributes.task_of(1, tmp_path, tmp_path)
    assert task.classes == [
        *(f"label {k}" for k in range(4)), "colour 0", "colour 1", *(f"season {k}" for k in range(3)), "gender 0", "gender 1",
    ]  # fmt: skip
    assert task.truth_NC is not None
    assert task.truth_NC[0].sum() == 2  # a type and a gender
    assert (task.truth_NC[10:].sum(1) == 4).all()
    assert (task.given_NC.sum(1) == 1).all()
    assert (task.given_NC & ~task.truth_NC).sum() == 0
    assert task.images.table["split"].value_counts().to_dict() == {"train": 120, "test": 60, "val": 50, "left_out": 10}
    noted = task.given_NC.float().mean(0)
    assert noted[:4].sum() == pytest.approx(0.25, abs=0.08)  # as often as the others
    other = attributes.task_of(2, tmp_path, tmp_path)
    assert not torch.equal(other.given_NC, task.given_NC)


def test_each_row_has_as_many_trials_and_every_figure(photographs, tmp_path, monkeypatch):
    short = IteratedSettings(interaction=2, imitation=1, variant="released")
    monkeypatch.setattr(laptop, "BASE", replace(laptop.BASE, iterated=short))
    monkeypatch.setattr(attributes, "STEPS", 16)
    for method in attributes.ROWS.values():
        tried = attributes.trials(method)
        assert len(tried) == len({repr(each) for each in tried}) == 8
    rows = rows_of(attributes.measure(tmp_path, tmp_path / "runs", seeds=2))
    by_row = {row.row: row for row in rows if row.metric.endswith(": F1")}
    chosen = [f"{name}, {at}" for name in ("Sigmoid", "MILe as released") for at in ("at 0.25", "chosen")]
    assert set(by_row) == {"Softmax", *chosen}
    assert all(set(row.by_seed) == {300, 301} and 0 <= row.ours <= 100 for row in by_row.values())
