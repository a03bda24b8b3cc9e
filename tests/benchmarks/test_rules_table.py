"""AMAL's Table 2: the paper's figures, draws of labels, figures that follow from predictions, and nothing measured twice."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.paired import paired
from benchmarks.reproduce import TABLES
from benchmarks.rules import data_sets, summary, table
from benchmarks.rules.data_sets import read_pool
from benchmarks.rules.table import (
    AMAL,
    FIRST_SEED,
    ONLY_L,
    PAPER,
    ROWS,
    WITH_VAL,
    Bench,
    Measured,
    figures,
    measure,
)

from tutelage.metrics import macro_f1
from tutelage.recipes.denoise import pocket
from tutelage.training import Budget, Optimization

TINY = replace(pocket(), budget=Budget(steps=2), training=Optimization(lr=0.01, weight_decay=0.0, batch_size=8))
WORDS = {0: "love song voice great", 1: "subscribe channel click free"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three data sets in small: 60 training, 20 validation and 20 test examples, two test texts seen in training."""
    root = tmp_path_factory.mktemp("data")
    draw = np.random.default_rng(0)
    for name in ("sms", "youtube"):
        (root / "rules" / name).mkdir(parents=True)
        for part, count in (("train", 60), ("valid", 20), ("test", 20)):
            examples = {}
            for i in range(count):
                label = i % 2
                text = " ".join([*draw.choice(WORDS[label].split(), 3), part, str(i)])
                if part == "test" and i < 2:
                    text = json.loads((root / "rules" / name / "train.json").read_text())[str(i)]["data"]["text"]
                votes = [label if draw.random() < 0.8 else -1, 1 if "free" in text else -1]
                examples[str(i)] = {"label": label, "weak_labels": votes, "data": {"text": text}}
            (root / "rules" / name / f"{part}.json").write_text(json.dumps(examples))
        (root / "rules" / name / "labeled_ids.json").write_text(json.dumps({"labeled_ids": ["0", "1", "2", "4", "6"]}))
    (root / "rules" / "imdb").mkdir()
    arrays = {}
    for part, count in (("labeled", 10), ("unlabeled", 50), ("valid", 20), ("test", 20)):
        y = np.arange(count) % 2
        arrays |= {f"{part}_y": y, f"{part}_x": (draw.random((count, 6)) < 0.3 + 0.4 * y[:, None]).astype(np.int16)}
        arrays[f"{part}_lf"] = np.where(draw.random((count, 2)) < 0.5, y[:, None], -1).astype(np.int8)
    np.savez(root / "rules" / "imdb" / "imdb_genre.npz", **arrays)
    return root


def test_the_paper_s_gains():
    assert PAPER["AMAL"] == {"sms": 1.53, "imdb": 1.67, "youtube": 4.70}
    assert PAPER["SPEAR"] == {"sms": -0.76, "imdb": -0.04, "youtube": 4.00}
    assert set(PAPER) < set(ROWS)
    assert TABLES["rules"] is summary.results


@pytest.mark.parametrize("name", ["sms", "imdb"])
def test_every_seed_draws_other_labels_of_the_published_counts(name, folder):
    pool = read_pool(folder / "rules", name, TINY.features)
    tasks = [pool.draw(seed) for seed in (0, 0, 1)]
    drawn = [set(task.parts()[0].tolist()) for task in tasks]
    assert drawn[0] == drawn[1] != drawn[2]
    labels = pool.table["label"].to_numpy()
    counts = {"sms": [4, 1], "imdb": [5, 5]}[name]
    for task in tasks:
        rows = task.parts()[0].numpy()
        assert np.bincount(labels[rows]).tolist() == counts
        assert (task.table["label"].to_numpy()[rows] == labels[rows]).all()
        hidden = (task.table["split"] == "train").to_numpy() & ~np.isin(np.arange(len(labels)), rows)
        assert (task.table["label"].to_numpy()[hidden] == -1).all()
        held_out = (task.table["split"] != "train").to_numpy()
        assert (task.table["label"].to_numpy()[held_out] == labels[held_out]).all()


def test_validation_labels_as_training_labels(folder):
    pool = read_pool(folder / "rules", "sms", TINY.features)
    task = pool.draw(0, with_val=True)
    labelled, _, val = task.parts()
    assert (len(task.table), len(labelled), len(val)) == (120, 25, 20)
    assert (task.features[100:] != task.features[60:80]).nnz == 0


def test_figures_are_those_of_the_test_part_with_and_without_what_was_seen(folder):
    pool = read_pool(folder / "rules", "sms", TINY.features)
    assert np.flatnonzero(pool.seen).tolist() == [80, 81]
    labels = pool.table["label"].to_numpy()
    said = labels.copy()
    said[80:84] = 1 - said[80:84]
    found = figures(np.concatenate([said, said[:5]]), pool)
    assert found["accuracy"] == pytest.approx(16 / 20)
    assert found["unseen"] == pytest.approx(macro_f1(said[82:100], labels[82:100]))
    assert found["macro_f1"] < found["unseen"]


def test_measured_once(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(table, "pocket", lambda: TINY)
    rows = (ONLY_L, AMAL, "CAGE's label model alone", "majority of the rules", WITH_VAL)
    first = list(measure("pocket", seeds=1, data=folder, runs=tmp_path, only=rows))
    assert [(figure.data_set, figure.row) for figure in first] == [
        (n, r) for n in ("sms", "imdb", "youtube") for r in rows
    ]
    assert {figure.seed for figure in first} == {FIRST_SEED}
    monkeypatch.setattr(table, "train", None)  # whatever is trained again fails
    assert list(measure("pocket", seeds=1, data=folder, runs=tmp_path, only=rows)) == first


def test_the_learning_rate_is_the_one_that_validation_prefers(folder, tmp_path, monkeypatch):
    bench = Bench(read_pool(folder / "rules", "imdb", TINY.features), TINY, tmp_path)
    tried = {0.003: 0.5, 0.01: 0.7, 0.03: 0.6, 0.1: 0.6}
    monkeypatch.setattr(bench, "fitted", lambda method, seed, rate: {"validation": tried[rate]})
    assert bench.rate_of(("spear", "equal")) == 0.01


def test_rows_over_seeds(monkeypatch):
    def found(row, seed, value):
        return Measured(row, "sms", seed, dict.fromkeys(("macro_f1", "f1", "accuracy", "unseen"), value))

    measured = [found(ONLY_L, 0, 0.5), found(ONLY_L, 1, 0.6), found(AMAL, 0, 0.7), found(AMAL, 1, 0.7), "not measured."]
    monkeypatch.setattr(summary, "measure", lambda *told, **others: iter(measured))
    listed, notes = summary.results("pocket", seeds=2, data=None, runs=Path())
    by = {(row.row, row.metric): row for row in listed}
    gain = by[AMAL, "SMS: gain"]
    assert (gain.ours, gain.paper, gain.seeds) == (pytest.approx(15), 1.53, 2)
    assert gain.spread == pytest.approx(12.706 * 5, rel=1e-3)  # the t-interval of 20 and 10
    assert by[ONLY_L, "SMS: macro F1"].ours == pytest.approx(55)
    assert (ONLY_L, "SMS: gain") not in by
    compared = paired(listed, summary.COMPARED)
    assert re.search(
        r"SMS: macro F1 +\| AMAL +\| +Only-L +\| +\+15.00 ± 63.53 +\| +2 of 2 +\| +0.500 +\| +level", compared
    )
    assert "not measured." in notes


def test_mistakes(folder, tmp_path):
    with pytest.raises(ValueError, match="this table is of real data"):
        list(measure("pocket", seeds=1, data=None, runs=tmp_path))
    with pytest.raises(ValueError, match=r"only=\['X'\]: no such row"):
        list(measure("pocket", seeds=1, data=folder, runs=tmp_path, only=("X",)))
    with pytest.raises(FileNotFoundError):
        read_pool(tmp_path, "imdb", TINY.features)
    with pytest.raises(FileNotFoundError):
        data_sets.read_pool(tmp_path, "sms", TINY.features)
