"""The labels that a finished run doubts."""

import numpy as np
import pandas as pd
import pytest

from tutelage.metrics import doubts
from tutelage.recipes import label_issues

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])
ONE = np.array([0.1, 0.3, 0.2, 0.9, 0.8, 0.9, 0.45, 0.3])  # of class 1: rows 3, 6 and 7 look like the other class
P = np.stack([1 - ONE, ONE], 1)


def test_a_runs_folder(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"has no examples\.parquet: give the folder of a run that has finished"
    ):
        label_issues(tmp_path)
    facts = {
        "id": [f"i{row}" for row in range(8)],
        "label": LABELS,
        "split": "train",
        **doubts(LABELS, P),
    }
    unlabelled = {"id": ["u"], "label": [-1], "split": ["unlabelled"], **doubts([-1], [[0.1, 0.9]])}
    left_out = {"id": ["copy"], "label": [1], "split": ["left_out"], **doubts([1], [[0.99, 0.01]])}
    rows = pd.concat([pd.DataFrame(part) for part in (left_out, facts, unlabelled)])
    rows.to_parquet(tmp_path / "examples.parquet")
    (tmp_path / "metrics.json").write_text('{"data": {"classes": ["defective", "acceptable"]}}')
    found = label_issues(str(tmp_path))
    assert found.table()["id"].tolist() == ["i3", "i7", "i6"]  # all whose other class is likelier
    assert found.table()["given"].tolist() == ["defective", "acceptable", "acceptable"]
    assert found.noise_rate == pytest.approx(1 - P[range(8), LABELS].mean())
