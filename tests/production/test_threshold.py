"""`tutelage threshold` on a run's folder."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tutelage.cli.production import threshold
from tutelage.production.guarantee import TooFewDefects, guaranteed_threshold


def run_folder(out: Path, defects: int, recipe: str = "moderation") -> Path:
    """A run as far as a threshold is concerned: the test part is followed by rows that must not count."""
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(-2, 1, defects), rng.normal(2, 1, 600), [9.0, 9.0]])
    labels = [0] * defects + [1] * 600 + [0, -1]
    split = ["test"] * (defects + 600) + ["train", "test"]
    ids = [f"ad{row}" for row in range(len(labels))]
    table = pd.DataFrame({"id": ids, "image": ids, "label": labels, "split": split, "score": scores})
    out.mkdir()
    table.to_parquet(out / "examples.parquet")
    (out / "metrics.json").write_text(json.dumps({"pipeline": {"recipe": recipe}}))
    return out


def test_the_command_says_what_is_promised_and_what_it_costs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run_folder(tmp_path / "run", 700)
    threshold(out, fpr=0.01, confidence=0.95)
    said = capsys.readouterr().out
    table = pd.read_parquet(out / "examples.parquet").iloc[:1300]
    promised = guaranteed_threshold(table["score"], table["label"], 0.01)
    assert said.startswith(f"threshold {promised.threshold!r}: with confidence 0.95, at most 0.00")
    assert f"({promised.passed} of the 700 held-out defects do; 0.01 is promised)" in said
    highest = table[table["label"] == 0].nlargest(promised.passed + 1, "score")["id"]
    assert all(id in said for id in highest)


def test_too_few_defects_and_other_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TooFewDefects, match=r"299 are needed; label 199 more, or promise 0\.030"):
        threshold(run_folder(tmp_path / "few", 100))
    with pytest.raises(ValueError, match="is a run of distill; only a run of moderation decides"):
        threshold(run_folder(tmp_path / "other", 400, "distill"))
