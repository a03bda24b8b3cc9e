"""MILe's Table 2 at the laptop size, on features that are drawn here."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from benchmarks.mile import attributes, laptop, web, web_problems, web_rows
from benchmarks.reproduce import reproduce
from benchmarks.results_table import read_results

EACH = 22  # examples of a class: sixteen to train on, six of the test


@pytest.fixture
def facts(monkeypatch, tmp_path):
    """Return CIFAR-100 as a hundred directions, five of each super-class near one another, on 2,200 rows."""
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(100), EACH)
    centers = np.repeat(rng.normal(size=(20, 30)), 5, 0) + 0.5 * rng.normal(size=(100, 30))
    features = torch.from_numpy(centers[labels] + 0.2 * rng.normal(size=(len(labels), 30))).float()[:, None]
    known = np.arange(len(labels)) < 1600
    table = pd.DataFrame({"label": labels, "coarse": labels // 5, "split": np.where(known, "unassigned", "test")})
    monkeypatch.setattr(web_problems, "described", lambda name, data, runs: (features, table))
    for module in (web_problems, web_rows, web):
        monkeypatch.setattr(module, "SIZES", {"train": 200, "held_out": 40, "val": 40})
    monkeypatch.setattr(web_problems, "TUNED_ON", 60)
    return table


def test_labels_like_the_web_s(facts, tmp_path):
    problem = web_problems.like_the_web(3, tmp_path, tmp_path, False)
    assert {name: len(rows) for name, rows in problem.rows.items()} == {
        "train": 200,
        "held_out": 40,
        "val": 40,
        "test": 300,
    }
    right, coarse, split = (facts[name].to_numpy() for name in ("label", "coarse", "split"))
    classes = np.unique(right[problem.rows["test"]])
    assert problem.classes == len(classes) == 50
    given = {name: classes[part.tensors["label"].numpy()] for name, part in problem.parts.items()}
    for name in ("held_out", "val", "test"):
        assert (given[name] == right[problem.rows[name]]).all()
    train = problem.rows["train"]
    foreign = ~np.isin(right[train], classes)
    wrong = (given["train"] != right[train]) & ~foreign
    assert foreign.sum() == wrong.sum() == 40
    assert (given["train"][wrong] // 5 == coarse[train][wrong]).all()
    torch.testing.assert_close(problem.parts["train"].tensors["input"].mean(0), torch.zeros(30), rtol=0, atol=1e-5)
    tuning = web_problems.like_the_web(3, tmp_path, tmp_path, True)
    assert len(tuning.rows["test"]) == 60
    everything = np.concatenate(list(tuning.rows.values()))
    assert len(np.unique(everything)) == len(everything)
    assert (split[everything] == "unassigned").all()


def test_every_row_is_measured(facts, tmp_path, monkeypatch):
    monkeypatch.setattr(laptop, "SHARES", ())
    monkeypatch.setattr(attributes, "measure", lambda *given, **how: iter(()))
    monkeypatch.setattr(web, "CASES", web.CASES[2:])
    real = web.judged

    def judged(case, name, changes, seed, *rest):
        return (
            {web.TOP_1: float(name == "Sigmoid")} if seed == web.TUNING_SEED else real(case, name, changes, seed, *rest)
        )

    monkeypatch.setattr(web, "judged", judged)
    for module in (web, web_rows):
        monkeypatch.setattr(module, "EPOCHS", 2)
    monkeypatch.setattr(web, "OPTIMIZATION", replace(web.OPTIMIZATION, batch_size=24))
    runs = tmp_path / "runs"
    people, programs = reproduce("mile", "laptop", seeds=1, data=tmp_path, out=tmp_path / "tables", runs=runs)
    rows = read_results(programs)
    assert {row.row for row in rows} == set(web_rows.ROWS)
    assert {row.metric.rpartition(": ")[2] for row in rows} == {web.TOP_1, web.TOP_5}
    assert all(0 <= row.ours <= 100 for row in rows)
    assert "| MILe " in people.read_text().partition("## Against the strongest other row")[2]
    with pytest.raises(ValueError, match="no such part; there are"):
        reproduce("mile", "laptop", seeds=1, data=tmp_path, out=tmp_path, runs=runs, only=["cifar"])
