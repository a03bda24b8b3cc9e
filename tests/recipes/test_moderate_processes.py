"""The main job under torchrun: the same command, started twice."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import tiny

from tutelage import recipes


def test_two_processes_make_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one process finds all of it done."""
    out = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    found = subprocess.run([*torchrun, tiny.__file__, "--once", str(out)], capture_output=True, text=True, timeout=240)
    assert found.returncode == 0, found.stderr[-3000:]
    assert found.stdout.count(str(out)) == 2  # both processes have seen the figures, and write to one pipe
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["subtasks"]["kept"] == tiny.KEPT
    assert len(pd.read_parquet(out / "examples.parquet")) == metrics_total(metrics)
    events = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    stages = [event["stage"] for event in events if event["event"] == "stage done"]
    assert len(stages) == len(set(stages)) == 4  # told once, not by each process
    tiny.hurry(monkeypatch.setattr)
    recipes.run("moderation", tiny.task(), tiny.settings(), out, quiet=True)
    kept = [json.loads(line)["event"] for line in (out / "log.jsonl").read_text().splitlines()][len(events) :]
    assert kept == ["stage kept"] * 5  # plain fine-tuning is asked twice: it helps to calibrate the teacher
    assert json.loads((out / "metrics.json").read_text()) == metrics


def metrics_total(metrics: dict) -> int:
    return sum(sum(counts.values()) for counts in metrics["data"]["counts"].values())
