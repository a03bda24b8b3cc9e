"""The multi-label job under torchrun: the same command, started twice."""

import json
import subprocess
import sys
from pathlib import Path

import multilabel_alone
import pandas as pd
from safetensors.torch import load_file


def test_two_processes_name_labels_together(tmp_path: Path) -> None:
    out = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    found = subprocess.run(
        [*torchrun, multilabel_alone.__file__, str(out)], capture_output=True, text=True, timeout=240
    )
    assert found.returncode == 0, found.stderr[-3000:]
    assert found.stdout.count(str(out)) == 2  # both processes have seen the figures, and write to one pipe
    events = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    told = [event["event"] for event in events]
    assert [event for event in told if event.startswith("stage")] == 2 * ["stage started", "stage done"]
    assert told[-4:] == ["stage started", "evaluation", "evaluation", "stage done"]
    metrics = json.loads((out / "metrics.json").read_text())
    assert len(metrics["generations"]["coverage"]) == 2
    labels, examples = (pd.read_parquet(out / f"{name}.parquet") for name in ("labels", "examples"))
    assert len(labels) == metrics["labels"]["new"]
    [scores] = (out / "stages").glob("mile-*/scores.safetensors")
    said = (load_file(scores)["first_said"] >= 0).any(1).nonzero()[:, 0]
    assert set((said % 2).tolist()) == {0, 1}  # what either process remembers
    assert (examples["given"].iloc[said.numpy()] == "").any()  # and of images without a label
