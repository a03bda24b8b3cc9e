"""The sub-task paper's sweeps on a few posters."""

import re
from dataclasses import replace
from typing import Any

import pytest
import tiny
from benchmarks.moderation import sweeps
from benchmarks.reproduce import reproduce
from benchmarks.results_table import read_results

from tutelage.recipes.encoding import EncoderSettings


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.hurry(monkeypatch.setattr)
    monkeypatch.setattr(sweeps, "laptop", tiny.settings)
    monkeypatch.setattr(sweeps, "shop_encoder", lambda data, runs: runs)
    monkeypatch.setattr(sweeps, "EncoderSettings", lambda **_: EncoderSettings())
    monkeypatch.setattr(sweeps, "encoded", lambda images, settings: images)
    monkeypatch.setattr(
        sweeps, "products_task", lambda folder, seed, noise, size: replace(tiny.task(noise), pretraining=None)
    )
    monkeypatch.setattr(sweeps, "LAMBDAS", (10.0, 250.0))
    monkeypatch.setattr(sweeps, "THRESHOLDS", (0.1, 0.99))
    monkeypatch.setattr(sweeps, "RATES", (1e-4, 1e-3))


def test_each_sweep_is_measured_and_drawn(small, tmp_path):
    arguments: dict[str, Any] = {"seeds": 1, "data": tmp_path, "out": tmp_path / "out", "runs": tmp_path / "runs"}
    people, programs, *drawn = reproduce("sweeps", "laptop", **arguments)
    assert [path.stem for path in drawn] == [
        f"sweeps-laptop-{part}" for part in ("lambda", "threshold", "learning-rate")
    ]
    found = {(row.metric, row.row): row.ours for row in read_results(programs)}
    assert (
        found["threshold: specialists kept", "0.1"] == 4
    )  # the paper's threshold is below the floor, and rejects nobody
    assert found["threshold: specialists kept", "0.99"] == 0
    assert ("threshold: AUROC", "0.1") in found
    assert ("threshold: AUROC", "0.99") not in found  # nobody is left to teach
    cosines = {row for metric, row in found if metric == f"threshold: {sweeps.COSINE}"}
    assert cosines == {"0.1", sweeps.PLAIN, "before any training"}
    assert {row for metric, row in found if metric == "lambda: Sinkhorn iterations"} == {"10", "250"}
    assert {row for metric, row in found if metric == "learning rate: AUROC"} == {"0.0001", "0.001"}
    shown = re.findall(r"!\[(.*)\]\((.*)\)", people.read_text())
    assert [file for _, file in shown] == [path.name for path in drawn]
    assert f"{sweeps.PLAIN} {found['threshold: AUROC', sweeps.PLAIN]:.3f}" in shown[1][0]
    with pytest.raises(ValueError, match="no such part"):
        reproduce("sweeps", "laptop", **arguments, only=["moon"])
