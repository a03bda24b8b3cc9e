"""The tables of MILe at a size that takes seconds: every part, the paper's figures, plots, and nothing trained twice."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from benchmarks.heat import heat_map
from benchmarks.mile import summary, table
from benchmarks.mile.table import PARTS, TABLE_1, TABLE_5, Figure, pocket_variants
from benchmarks.results_table import ResultRow
from PIL import Image

from tutelage.generations import IteratedSettings
from tutelage.recipes.multilabel import methods
from tutelage.training import Budget


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory):
    """Two seeds of everything that needs no download."""
    runs = tmp_path_factory.mktemp("runs")
    usual = pocket_variants()
    grids = replace(
        usual.grids,
        budget=Budget(steps=12),
        iterated=IteratedSettings(4, 2, rho=0.1),
        model=replace(usual.grids.model, options={"width": 8, "depth": 1}),
    )
    tiny = replace(
        usual,
        grids=grids,
        sizes={"train": 64, "val": 40, "test": 40},
        interactions=(2, 4),
        imitations=(1, 2),
        rhos=(0.1, 0.25),
    )
    trainings: list[str] = []
    real = methods.fit, methods.iterate
    with pytest.MonkeyPatch.context() as patch:
        for module in (table, summary):
            patch.setattr(module, "pocket_variants", lambda: tiny)
        patch.setattr(methods, "fit", lambda *a, **k: (trainings.append(k["plan"].name), real[0](*a, **k))[1])
        patch.setattr(methods, "iterate", lambda *a, **k: (trainings.append(a[3].name), real[1](*a, **k))[1])
        rows, notes = summary.results("pocket", seeds=2, data=None, runs=runs)
        once = len(trainings)
        again, _ = summary.results("pocket", seeds=2, data=None, runs=runs)
    return rows, notes, trainings, once, again


def test_everything_is_there_and_nothing_is_trained_twice(measured):
    rows, notes, trainings, once, again = measured
    assert len(trainings) == once
    assert again == rows
    # Softmax, sigmoid, ELR, released; four budgets; one more rho; five of self-distillation.
    assert len(set(trainings)) == 14
    assert once == 2 * 14
    groups = {row.metric.rpartition(": ")[0] for row in rows}
    assert groups == {
        "grids of digits",
        "F1@0.25 by k_t and k_s",
        "set size@0.25 by k_t and k_s",
        "rho",
        "self-distillation",
    }
    assert {row.seeds for row in rows} == {2}
    assert any("no folder of data" in note for note in notes)
    assert any("points of F1@0.25 above the sigmoid" in note for note in notes)


def test_a_set_size_stands_beside_every_f1(measured):
    metrics = {(row.row, row.metric) for row in measured[0]}
    for row, metric in metrics:
        if "F1" in metric:
            beside = metric.replace("ReaL F1", "label coverage").replace("F1", "set size")
            assert (row, beside) in metrics, (row, metric)


def test_the_papers_figures(measured):
    printed = {(row.row, row.metric): row.paper for row in measured[0] if row.paper is not None}
    assert printed == {
        (row, f"grids of digits: F1@{at}"): TABLE_5[row][place]
        for row in ("Softmax", "Sigmoid", "MILe")
        for place, at in enumerate((0.25, 0.5))
    }
    assert TABLE_5["MILe"] == (41.35, 34.32)
    assert TABLE_1["MILe"][0.1] == (65.42, 62.11, 1.09)


def test_the_heat_maps(measured):
    plots = summary.heat_maps(measured[0])
    assert set(plots) == {"budgets-f1", "budgets-set-size", "rho"}
    one = next(row for row in measured[0] if row.metric == "F1@0.25 by k_t and k_s: k_s = 2" and row.row == "k_t = 4")
    assert f"{one.ours:.1f}" in plots["budgets-f1"]
    assert plots["budgets-f1"].startswith("<svg")
    assert summary.heat_maps([ResultRow("a", "b", 1.0, None, 1)]) == {}


def test_a_heat_map_is_the_same_text_and_says_its_numbers():
    values = np.array([[1.0, np.nan], [3.25, 2.0]])
    options = {"title": "t", "y_label": "y", "x_label": "x", "name": "n", "alt": "words"}
    found = heat_map(values, ["a", "b"], ["c", "d"], **options)
    assert found == heat_map(values, ["a", "b"], ["c", "d"], **options)
    assert 'aria-label="words"' in found
    assert all(number in found for number in ("1.0", "3.2", "2.0"))
    assert "nan" not in found.lower().replace("nanosecond", "")
    with pytest.raises(ValueError, match="there are 1 rows and 2 columns"):
        heat_map(values, ["a"], ["c", "d"], **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """MNIST and CIFAR-10 in their layouts, made of noise."""
    rng = np.random.default_rng(0)

    def picture() -> bytes:
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(file, "PNG")
        return file.getvalue()

    (tmp_path / "cifar10").mkdir()
    for part, count in (("train", 80), ("test", 20)):
        label = np.arange(count) % 10
        frame = pd.DataFrame({"index": range(count), "image": [picture() for _ in label], "label": label})
        frame["random_label1"] = np.roll(label, 1)
        frame["rater_counts"] = list(
            np.eye(10, dtype=np.int64)[label] * 40 + np.eye(10, dtype=np.int64)[(label + 1) % 10] * 9
        )
        frame.to_parquet(tmp_path / "cifar10" / f"{part}.parquet")
    (tmp_path / "mnist").mkdir()
    digits = np.arange(40, dtype=np.uint8) % 10
    drawn = rng.integers(0, 255, (40, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "mnist" / "mnist.npz", x_train=drawn, y_train=digits, x_test=drawn, y_test=digits)
    return tmp_path


def test_the_parts_that_need_a_folder_of_data(folder: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("tutelage.data.grids.MNIST_VAL", 10)
    usual = pocket_variants()
    short = {"budget": Budget(steps=4), "iterated": IteratedSettings(2, 1, rho=0.2)}
    tiny = replace(
        usual,
        grids=replace(usual.grids, **short, model=replace(usual.grids.model, options={"width": 8, "depth": 1})),
        cifar=replace(usual.cifar, **short, model=replace(usual.cifar.model, options={"widths": (4, 8)})),
        sizes={"train": 40, "val": 10, "test": 10},
        images={"train": 70, "val": 10, "test": 20},
    )
    monkeypatch.setattr(table, "pocket_variants", lambda: tiny)
    found = list(table.measure("pocket", seeds=1, data=folder, runs=tmp_path / "runs", only=("mnist", "cifar")))
    paper = {(figure.row, figure.metric): figure.paper for figure in found}
    for share, percent in ((0.01, "1"), (0.05, "5"), (0.1, "10"), (1.0, "100")):
        group = f"CIFAR-10N and 10H, {percent} % of the data"
        for row in ("Softmax", "Sigmoid", "ELR", "MILe"):
            metrics = ("ReaL accuracy", "ReaL F1@0.25", "label coverage@0.25")
            assert tuple(paper[row, f"{group}: {metric}"] for metric in metrics) == TABLE_1[row][share]
    assert paper["MILe", "grids of MNIST: F1@0.5"] == 34.32
    assert all(np.isfinite(figure.value) for figure in found)


def test_parts_that_there_are_not(tmp_path: Path):
    with pytest.raises(ValueError, match="no such part"):
        list(table.measure("pocket", seeds=1, data=None, runs=tmp_path, only=("table 5",)))
    assert set(table.PART) == set(PARTS)
    assert Figure("row", "metric", 0, 1.0).paper is None
