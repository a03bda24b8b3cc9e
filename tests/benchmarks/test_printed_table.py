"""The sub-task paper's Table 2 on features: the paper's rows and settings, tried on a few posters."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
from benchmarks.moderation import printed, table
from benchmarks.moderation.rows import paper_rows
from benchmarks.moderation.tasks import ALL, NOISES, TaskOf
from benchmarks.moderation.variants import ON_FEATURES, PAPER
from benchmarks.reproduce import reproduce
from benchmarks.results_table import read_results

from tutelage.recipes.encoding import EncoderSettings
from tutelage.recipes.moderation import ModerationSettings, ModerationTask
from tutelage.training import Budget


def test_the_rows_are_the_papers_under_the_names_of_their_models():
    ours, papers = printed.ROWS, paper_rows(PAPER)
    assert (ON_FEATURES.epochs, ON_FEATURES.subtasks) == (PAPER.epochs, PAPER.subtasks)
    named = [
        row.name.replace("Swin", ON_FEATURES.classifier).replace("DeiT", ON_FEATURES.student)
        for row in papers[len(PAPER.models) :]
    ]
    assert [row.name for row in ours[1:]] == named
    assert [row.paper for row in ours[1:]] == [row.paper for row in papers[len(PAPER.models) :]]
    assert ours[0].name == printed.FIRST
    taught = [row.name for row in ours if printed.is_taught(row.name)]
    assert len(taught) == 1 + 9 + 1 + 4 + 1  # AT, HD, SD, the curricula, and all of it


def test_the_settings_are_the_papers():
    settings, paper = printed.printed_settings(), ModerationSettings()
    assert settings.discovery == paper.discovery
    assert (settings.discovery.lam, settings.discovery.start) == (250.0, "random")
    assert settings.learning == paper.learning
    assert settings.budget == paper.budget == Budget(epochs=20)
    assert (settings.specialists.epochs, settings.specialists.smoothing) == (20, 0.05)
    assert settings.specialist.dropout == settings.student.dropout == 0.1
    assert not settings.doubt.used


def test_rows_are_measured_beside_the_papers_gains(tmp_path, monkeypatch):
    tiny.hurry(monkeypatch.setattr)
    small = tiny.settings()
    variants = replace(
        ON_FEATURES,
        models={printed.FIRST: small.student},
        swin=small.specialist,
        epochs=(1, 2, 3),
        subtasks=(2, 4, 6),
    )
    rows = paper_rows(variants)

    def make(data: Path, seed: int, size: int) -> ModerationTask:
        return replace(tiny.task("structured"), title=f"{ALL}, {NOISES[1]}")

    monkeypatch.setattr(printed, "ROWS", rows)
    monkeypatch.setattr(printed, "LAPTOP_TASKS", [TaskOf(ALL, make, lambda data, runs: Path("none"), NOISES[1])])
    monkeypatch.setattr(printed, "printed_settings", lambda: small)
    monkeypatch.setattr(table, "EncoderSettings", lambda **_: EncoderSettings())
    monkeypatch.setattr(table, "encoded", lambda images, settings: images)
    wanted = [
        printed.FIRST,
        f"1 epochs SL K6 + {ON_FEATURES.classifier}",
        f"2 epochs SL K4 + {ON_FEATURES.student} + FT + SD",
    ]
    arguments: dict[str, Any] = {"seeds": 1, "out": tmp_path / "out", "runs": tmp_path / "runs", "data": tmp_path}
    people, programs = reproduce("printed", "laptop", only=wanted, **arguments)
    found = {(row.metric, row.row): row for row in read_results(programs)}
    case = f"{ALL}, {NOISES[1]}"
    assert {row for metric, row in found if metric == f"{case}: AUROC"} == set(wanted)
    gain = found[f"{case}: gain@1%, points", wanted[2]]
    npv = [found[f"{case}: NPV@1%", row].ours for row in (wanted[2], wanted[0])]
    assert gain.ours == pytest.approx(100 * (npv[0] - npv[1]))
    assert gain.paper == 15.6
    assert "Not as in the paper" in people.read_text()
    with pytest.raises(ValueError, match=r"only=\['CatNet'\]: no such row"):
        reproduce("printed", "laptop", only=["CatNet"], **arguments)
    with pytest.raises(ValueError, match="data=None"):
        reproduce("printed", "laptop", **(arguments | {"data": None}))
