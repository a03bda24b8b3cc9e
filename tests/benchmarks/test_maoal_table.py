"""MAOAL's table: the paper's figures, the rows, what is measured once, and the case whose answer is known."""

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from benchmarks.maoal import cases, table
from benchmarks.maoal.ridge import ridge_error
from benchmarks.reproduce import reproduce

from tutelage.data import TensorData
from tutelage.data.drawn import draw_parts
from tutelage.metrics import bootstrap_rows
from tutelage.recipes.auxiliary import AuxiliaryTask, BodySettings, Shares, TaskSpec, judgement, pocket
from tutelage.training import Budget, Optimization
from tutelage.weighting.settings import AdaptSettings

pytestmark = pytest.mark.filterwarnings("ignore::tutelage.hypergradient.NeumannWarning")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """One case of random fields instead of the real ones, for both scales."""
    monkeypatch.setattr(judgement, "bootstrap_rows", partial(bootstrap_rows, resamples=10))

    def make(folder: Path, settings: Any) -> AuxiliaryTask:
        draws = torch.Generator().manual_seed(settings.seed)
        fields = torch.randint(0, 5, (150, 2), generator=draws)
        labels = {"stars": fields.sum(1).float()}
        split = draw_parts([""] * 150, settings.shares.parts, settings.seed)
        sides = (TaskSpec("l2", "l2", weight=1e-3),)
        return AuxiliaryTask(
            "stars", TaskSpec("stars", "regression"), sides, TensorData(input=fields), labels, split, (5, 5)
        )

    settings = replace(
        pocket(),
        shares=Shares(),
        body=BodySettings(options={"width": 4, "attention_heads": 2, "layers": 1}),
        training=Optimization(lr=0.01, batch_size=32),
        budget=Budget(epochs=1),
        trials=2,
        adapt=AdaptSettings(every=2),
    )
    case = cases.Case("stars", make, settings, None, 0.5, {"rmse": {"SLL": 0.9068}}, equal=(1e3,))
    needing = cases.Case("elsewhere", make, settings, "elsewhere", 7.0)
    monkeypatch.setattr(table, "cases", lambda scale: [case, needing])


def test_the_table_is_written_with_the_papers_figures_and_nothing_is_trained_twice(tiny, tmp_path, monkeypatch, capsys):
    arguments: dict[str, Any] = {"seeds": 2, "data": None, "out": tmp_path / "out", "runs": tmp_path / "runs"}
    people, programs = reproduce("maoal", "pocket", **arguments)
    assert "about 1 core-minutes for 2 seeds" in capsys.readouterr().out
    rows = json.loads(programs.read_text())
    stars = [row for row in rows if row["metric"] == "stars: RMSE"]
    assert [row["row"] for row in stars] == list(cases.ROWS)
    assert [row["paper"] for row in stars] == [0.9068] + [None] * 11
    assert {row["seeds"] for row in rows} == {2}
    assert len([row for row in rows if row["metric"].startswith("two-module ridge")]) == 5
    text = people.read_text()
    assert "## two-module ridge" in text
    assert re.search(r"stars: RMSE +\| +MAOAL +\|.* [012] of 2 ", text)
    assert "elsewhere" not in text
    monkeypatch.setattr("tutelage.recipes.auxiliary.pipeline.fit", None)  # nothing is trained again
    assert json.loads(reproduce("maoal", "pocket", **arguments)[1].read_text()) == rows


def test_a_case_that_is_none_is_named(tiny, tmp_path):
    with pytest.raises(
        ValueError, match=r"only=\['moon'\]: no such case or row; there are \['two-module ridge', 'stars'"
    ):
        reproduce("maoal", "pocket", seeds=1, data=None, out=tmp_path, runs=tmp_path, only=["moon"])


def test_the_papers_figures_are_those_of_its_tables():
    by_name = {case.name: case for scale in ("pocket", "paper") for case in cases.cases(scale)}
    printed = {
        "MovieLens-1M": ("rmse", "0.9068 2.2567 0.9379 0.9137 0.9883 0.9063 0.9045"),  # Table 1
        "CIFAR-100 people, 10 side tasks": ("accuracy", "49.73 51.27 51.75 51.80 48.40 51.53 53.87"),  # Table 3
        "NYUv2, 72 x 96 pixels": ("mean_iou", "32.61 33.15 33.09 32.18 32.93 33.06 33.88"),
    }
    for name, (figure, row) in printed.items():
        found = by_name[name].paper[figure]
        assert [found[each] for each in ("SLL", "Equal", "HPO-tune", "GCS", "Uncert", "AuxL", "MAOAL")] == [
            float(cell) for cell in row.split()
        ]
    assert by_name["MovieLens-1M"].equal == by_name["MovieLens-1M, 400 users"].equal == (1e3,)


def test_modules_are_told_apart_where_the_answer_is_known():
    """The order of MAOAL's Table 4 on Pet, and below both rows that learn nothing."""
    mean = {way: fmean(ridge_error(way, seed) for seed in range(3)) for way in ("single", "equal", "block", "model")}
    assert mean["block"] < min(mean["single"], mean["equal"], mean["model"])


def test_importances_become_a_picture_and_modules_of_other_sizes_are_measured_where_a_case_asks(tiny, tmp_path):
    (case, _) = table.cases("pocket")
    asked = replace(case, levels=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "cases", lambda scale: [asked])
        arguments: dict[str, Any] = {"seeds": 1, "data": None, "out": tmp_path / "out", "runs": tmp_path / "runs"}
        *_, picture = reproduce("maoal", "pocket", **arguments, only=("stars", "MAOAL", "MAOAL, by parameter"))
    rows = json.loads((tmp_path / "out" / "maoal-pocket.json").read_text())
    assert {row["row"] for row in rows if row["metric"] == "stars: RMSE"} == {"MAOAL", "MAOAL, by parameter"}
    first = {row["metric"]: row["ours"] for row in rows if row["row"] == "after 0 % of the training"}
    assert first == dict.fromkeys(first, 1.0)
    assert "importance, stars: l2 in embedding" in first
    assert picture.name == "maoal-pocket-importance.svg"
    assert picture.read_text().startswith("<svg")
