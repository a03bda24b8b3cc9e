"""Table 2: the rows are the paper's, the figures follow from the scores, and what was measured is not measured again."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from benchmarks.moderation import baselines, summary, table
from benchmarks.moderation.rows import FIRST, FULL, PLAIN, SERVED, Row, rows
from benchmarks.moderation.table import Measured, Recovered, measure
from benchmarks.moderation.variants import PAPER, POCKET
from benchmarks.paired import paired
from benchmarks.results_table import ResultRow

from benchmarks import reproduce as tables
from tutelage.metrics import auroc, npv_at_fpr, npv_floor
from tutelage.models import ModelSettings, load_model
from tutelage.recipes.moderation import pipeline, start
from tutelage.training import Budget

STUDENT = ModelSettings("deit_base_distilled_patch16_224")


def test_the_rows_are_those_that_the_paper_prints():
    listed = {row.name: row.paper for row in rows(PAPER, STUDENT)}
    assert len(listed) == len(rows(PAPER, STUDENT)) == 39
    printed = {
        "ViT-Base/16": (0.0, 0.0),
        "ResNeXt-101": (-3.3, -3.9),
        "Swin-B/P4W7": (3.7, 4.1),
        "DeiT + single teacher": (8.4, 10.8),
        "1000 epochs SL K20 + Swin": (0.7, 1.6),
        "300 epochs SL K100 + Swin": (8.6, 10.8),
        "100 epochs SL K500 + Swin": (1.2, 1.8),
        "300 epochs SL K100 + DeiT + AT": (4.0, 6.7),
        "300 epochs SL K100 + Swin, filtered data": (4.5, 7.1),
        "100 epochs SL K100 + DeiT + FT + HD": (9.7, 12.6),
        "1000 epochs SL K500 + DeiT + FT + HD": (10.5, 15.0),
        "300 epochs SL K100 + DeiT + FT + SD": (13.4, 15.6),
        "300 epochs SL K100 + DeiT + FT + SD + APC": (13.8, 14.2),
        "300 epochs SL K100 + DeiT + FT + SD + PC": (17.7, 20.3),
        "300 epochs SL K100 + DeiT + FT + SD + ACC": (11.9, 14.5),
        "300 epochs SL K100 + DeiT + FT + SD + CC": (22.4, 27.1),
        "SWSL": (19.7, 23.9),
        "NoisyStudent-L2": (21.8, 23.5),
        "300 epochs SL K100 + DeiT + FT + SD + CC + UL": (28.8, 30.2),
        PLAIN: None,
        FULL: None,
    }
    assert {name: listed[name] for name in printed} == printed
    pocket = [row.paper for row in rows(POCKET, STUDENT)]
    assert pocket == list(listed.values())  # the same rows at both scales


def uniform(row: str, seed: int, rate: float, npv: float) -> Measured:
    return Measured(row, "posters", seed, rate, npv, floor=0.1, auroc=0.5 + npv)


def test_gains_are_over_the_first_row_of_the_same_seed(monkeypatch):
    hd = next(row.name for row in rows(POCKET, STUDENT) if row.name.endswith("HD"))
    npv = {FIRST: (0.2, 0.4), hd: (0.3, 0.3), PLAIN: (0.25, 0.4), FULL: (0.5, 0.4)}
    found: list[Any] = [
        uniform(row, 100 + place, rate, value + (rate == 0.05) / 10)
        for row, values in npv.items()
        for place, value in enumerate(values)
        for rate in (0.01, 0.05)
    ]
    found += [Recovered("self-labelling", "posters", 100 + s, nmi, 4 + s) for s, nmi in enumerate((0.5, 0.7))]
    monkeypatch.setattr(summary, "measure", lambda *args, **options: iter(found))
    listed, notes = summary.results("pocket", seeds=2, data=None, runs=Path("nowhere"))
    by_name = {(row.row, row.metric): row for row in listed}
    assert by_name[hd, "posters: NPV@1%"].ours == pytest.approx(0.3)
    gain = by_name[hd, "posters: gain@1%, points"]
    assert (gain.ours, gain.seeds, gain.paper) == (pytest.approx((10 - 10) / 2), 2, 9.1)
    assert gain.spread == pytest.approx(12.7062 * 14.1421 / 2**0.5, rel=1e-4)  # Student's t with one degree of freedom
    assert by_name[FIRST, "posters: gain@5%, points"].ours == 0
    assert by_name[FULL, "posters: gain@1%, points"].paper is None
    assert by_name[hd, "posters: AUROC"].ours == pytest.approx(0.8)
    assert by_name["self-labelling", "recovered sub-tasks, posters: NMI with the truth"].ours == pytest.approx(0.6)
    compared = paired(listed, summary.COMPARED)
    assert re.search(
        rf"posters: NPV@1% +\| {FULL} +\| {PLAIN} +\|.* 1 of 2 +\| +1.000 +\| +level", compared
    )  # a tie is no win
    assert hd not in compared
    assert len(notes) > 5


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A few rows of every kind on one tiny task, and the pipeline's folder."""
    runs = tmp_path_factory.mktemp("table")
    tiny_models = {FIRST: ModelSettings("pocket_vit", options={"embed_dim": 16, "depth": 1, "num_heads": 2})}
    variants = replace(
        POCKET, models=tiny_models, swin=tiny.settings().specialist, epochs=(1, 2, 3), subtasks=(3, 4, 5)
    )
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(table, "pocket", tiny.settings)
    monkeypatch.setitem(table.VARIANTS, "pocket", variants)
    monkeypatch.setattr(table, "tasks", lambda *args: [tiny.task()])
    sl = "2 epochs SL K4"
    wanted = (
        FIRST,
        "DeiT + single teacher",
        "2 epochs SL K4 + Swin",
        f"{sl} + DeiT + AT",
        f"{sl} + Swin, filtered data",
        f"{sl} + DeiT + FT + SD + APC",
        f"{sl} + DeiT + FT + SD + CC + UL",
        FULL,
        f"{FULL}, weighed by AMAL",
        SERVED,
    )

    def again(only: tuple[str, ...] = wanted) -> list[Measured | Recovered]:
        return list(measure("pocket", seeds=1, data=None, runs=runs, only=only))

    yield again(), again, next(runs.rglob("seed-*"))
    monkeypatch.undo()


def test_the_figures_follow_from_the_models(measured):
    figures, _, folder = measured
    task = tiny.task()
    test = task.images.rows("test")
    truth = task.judged_by()[test].numpy()
    by_row = {(figure.row, figure.rate): figure for figure in figures}
    assert len(by_row) == 10 * 2
    stages = {"DeiT + single teacher": "single-teacher", "2 epochs SL K4 + Swin": "multi-class-4-2", FULL: "student"}
    stages[f"{FULL}, weighed by AMAL"] = "student-amal"
    for row, stage in stages.items():
        model, _ = load_model(folder / "stages" / stage / "model")
        with torch.no_grad():
            outputs = model(task.images.images.gather(test.tolist()))
        logits = outputs if isinstance(outputs, torch.Tensor) else (outputs["cls"] + outputs["dist"]) / 2
        scores = logits.double().softmax(1)[:, -1].numpy()
        for rate in (0.01, 0.05):
            found = by_row[row, rate]
            assert found.npv == npv_at_fpr(scores, truth, rate)
            assert found.floor == npv_floor(40, 80, rate) <= found.npv
            assert found.auroc == pytest.approx(auroc(scores, truth), abs=1e-6)
    assert load_model(folder / "stages" / "multi-class-4-2" / "model")[0].spec.num_classes == 4 + 1


def test_what_was_measured_is_not_measured_again(measured):
    figures, again, folder = measured
    log = folder / "log.jsonl"
    lines = len(log.read_text().splitlines())
    assert again() == figures
    events = [json.loads(line)["event"] for line in log.read_text().splitlines()[lines:]]
    assert set(events) == {"stage kept"}


def test_three_ways_of_dividing_the_defects(measured):
    _, _, folder = measured
    task = tiny.task()
    run = pipeline.Pipeline(task, tiny.settings(), folder, table.Log(None, quiet=True))
    found = {figure.way: figure for figure in table.recovered(run)}
    assert list(found) == [
        "self-labelling with Sinkhorn",
        "k-means on the starting features",
        "self-training by argmax",
    ]
    assert found["self-labelling with Sinkhorn"].in_use == 4
    assert all(0 <= figure.nmi <= 1 for figure in found.values())
    kmeans = baselines.k_means(run)
    defects = task.labels[task.images.rows("train")] == 0
    assert ((kmeans >= 0).nonzero().squeeze(1) == task.images.rows("train")[defects]).all()


def test_an_unknown_row(measured):
    _, again, _ = measured
    with pytest.raises(ValueError, match=r"only=\['CatNet'\]: no such row; there are \['ViT-Base/16', "):
        again(("CatNet",))


def test_structured_noise_is_measured_for_the_core_rows_only(measured, monkeypatch):
    _, again, _ = measured
    asked: list[str] = []

    def scores(name: str) -> Any:
        return lambda run: asked.append(f"{run.task.noise} {name}") or torch.rand(len(run.task.images))

    listed = [Row("core", None, scores("core"), core=True), Row("other", None, scores("other"))]
    monkeypatch.setattr(table, "rows", lambda *args: listed)
    monkeypatch.setattr(table, "tasks", lambda *args: [tiny.task("uniform"), tiny.task("structured")])
    again(("core", "other"))
    assert asked == ["uniform core", "uniform other", "structured core"]


def test_encoders_start_on_the_tasks_stand_in_and_are_trained_once(tmp_path, monkeypatch):
    monkeypatch.setattr(start, "ENCODER_BUDGET", Budget(steps=2))
    made: list[int] = []
    task = tiny.task()

    def pretraining() -> tuple[torch.Tensor, torch.Tensor]:
        made.append(1)
        return task.images.images.gather(range(60)), torch.arange(60) % 3

    task.pretraining = pretraining
    for seed in (0, 1):
        settings = replace(tiny.settings(), seed=seed)
        run = pipeline.Pipeline(
            task, settings, tmp_path / str(seed), table.Log(None, quiet=True), tmp_path / "encoders"
        )
        for model in (settings.student, settings.specialist):
            network = run.new(model, 2)
            weights = start.starting_weights(model, task, settings, run.encoders, run.log)
            assert weights is not None
            stored = load_model(Path(weights).parent)[0]
            assert stored.spec.num_classes == 3
            head = tuple(f"{name}." for name in network.heads)
            own = dict(network.named_parameters())
            for name, value in stored.named_parameters():
                assert torch.equal(own[name], value) != name.startswith(head), name
    assert len(made) == 2  # one encoder a model, for both seeds
    own_file = replace(settings.student, pretrained="own.safetensors")
    given = start.starting_weights(own_file, task, settings, run.encoders, run.log)
    assert given == "own.safetensors"


def test_reproduce_writes_the_table(tmp_path, monkeypatch):
    row = ResultRow.over_seeds("ours", "posters: NPV@1%", {7: 0.2, 8: 0.4}, paper=3.0)
    monkeypatch.setitem(tables.TABLES, "moderation", lambda *args, **options: ([row], ["Read it with care."]))
    paths = tables.reproduce(
        "moderation", "pocket", seeds=2, data=None, out=tmp_path / "results", runs=tmp_path / "runs", only=["a"]
    )
    assert {path.name for path in paths} == {"moderation-pocket.md", "moderation-pocket.json"}
    written = json.loads((tmp_path / "results" / "moderation-pocket.json").read_text())
    assert set(written[0]) == {
        "row",
        "metric",
        "ours",
        "spread",
        "seeds",
        "paper",
        "commit",
        "hardware",
        "date",
        "by_seed",
    }
    assert np.isclose(written[0]["ours"], 0.3)
    assert "Read it with care." in (tmp_path / "results" / "moderation-pocket.md").read_text()


@pytest.mark.parametrize(
    ("name", "seeds", "answer"),
    [
        ("moderatoin", 1, "name='moderatoin': the tables are moderation"),
        ("moderation", 0, "seeds=0 must be at least 1"),
    ],
)
def test_what_cannot_be_reproduced(name, seeds, answer, tmp_path):
    with pytest.raises(ValueError, match=answer):
        tables.reproduce(name, "pocket", seeds=seeds, data=None, out=tmp_path, runs=tmp_path)
