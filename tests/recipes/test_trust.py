"""What a run says of labels, levels and thresholds that cannot be right, and its figures under wrong test labels."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit

from tutelage.metrics import npv_at_fpr, threshold_at_fpr
from tutelage.recipes.moderation.choice import Choice, choose
from tutelage.recipes.moderation.recipe import summary
from tutelage.recipes.moderation.trust import alarms, alarms_of, corrected

PARTS = {"train": 2000, "student_val": 2000, "test": 4000}


def drawn(seed: int = 0, noise: float = 0.2, shift: float = 0.0) -> tuple[Any, np.ndarray, np.ndarray, Choice]:
    """A task whose labels are wrong everywhere, the test's too; the truth, which it does not know; the scores, the choice."""
    rng = np.random.default_rng(seed)
    split = np.repeat(list(PARTS), list(PARTS.values()))
    z = rng.normal(2.0, 4.0, len(split))
    truth = (rng.random(len(split)) < expit(1.5 * z)).astype(np.int64)
    labels = np.where(rng.random(len(split)) < noise, 1 - truth, truth)
    told = z + np.where(split == "test", shift, 0.0)
    rows = {name: torch.from_numpy(np.flatnonzero(split == name)) for name in PARTS}
    task = SimpleNamespace(
        images=SimpleNamespace(rows=lambda name: rows[name]),
        labels=torch.from_numpy(labels),
        table=pd.DataFrame({"id": np.arange(len(split)).astype(str), "split": split}),
        truth=lambda column: None,
        judged_by=lambda: torch.from_numpy(labels),
    )
    held_out = rows["student_val"].numpy()
    return task, truth, z, choose({"fine_tuned": told}, labels, held_out, held_out)


def thresholds(task: Any, choice: Choice, rate: float = 0.01) -> dict[str, float]:
    test = task.images.rows("test").numpy()
    return {f"{rate:g}": threshold_at_fpr(choice.served.scores[test], task.labels.numpy()[test], rate)}


def test_npv_and_threshold_are_corrected_for_the_errors_of_the_tests_labels():
    task, truth, _, choice = drawn()
    assert choice.errors == pytest.approx((0.2, 0.2), abs=0.04)
    found = corrected(task, choice, (0.01, 0.05), 0, Path())
    assert found is not None
    test = task.images.rows("test").numpy()
    scores = choice.served.scores[test]
    for rate in ("0.01", "0.05"):
        interval = found["model"]["npv_at_fpr"][rate]
        true = npv_at_fpr(scores, truth[test], float(rate))
        by_labels = npv_at_fpr(scores, task.labels.numpy()[test], float(rate))
        assert interval["low"] <= interval["value"] <= interval["high"]
        assert abs(interval["value"] - true) < 0.06 < abs(by_labels - true)
        threshold = found["model"]["threshold"][rate]
        passing = (scores > threshold) & (truth[test] == 0)
        assert passing.sum() / (truth[test] == 0).sum() == pytest.approx(float(rate), rel=0.7)


def test_nothing_is_corrected_where_the_truth_is_known_or_no_errors_are_seen():
    task, _, _, choice = drawn(noise=0.0)
    assert choice.errors == (0, 0)
    assert corrected(task, choice, (0.01,), 0, Path()) is None
    task, truth, _, choice = drawn()
    task.truth = lambda column: torch.from_numpy(truth)
    assert corrected(task, choice, (0.01,), 0, Path()) is None


def test_a_threshold_by_wrong_labels_raises_an_alarm_and_a_corrected_one_does_not():
    task, _, _, choice = drawn()
    (alarm,) = alarms(task, choice, thresholds(task, choice))
    assert "at 1.00% of the defects passing" in alarm
    assert "set the threshold" in alarm
    found = corrected(task, choice, (0.01,), 0, Path())
    assert found is not None
    assert alarms(task, choice, found["model"]["threshold"]) == []


def test_a_useless_threshold_of_a_model_that_ranks_poorly_raises_an_alarm_too():
    rng = np.random.default_rng(0)
    scores, labels, split = rng.random(400), rng.integers(0, 2, 400), np.repeat(["train", "test"], 200)
    (alarm,) = alarms_of(scores, labels, split, (0.0, 0.0), {"0.01": 0.99, "0.5": 0.5})
    assert "at 1.00% of the defects passing" in alarm
    assert "it ranks poorly (AUROC 0." in alarm


def test_a_level_that_is_not_the_tests_raises_an_alarm():
    task, _, _, choice = drawn(shift=-4.0)
    assert any("the mean score on the test is" in alarm for alarm in alarms(task, choice, {}))


def test_more_contradicted_labels_than_can_be_wrong_raise_an_alarm():
    task, _, _, choice = drawn()
    train = task.images.rows("train")
    task.labels[train] = torch.from_numpy(np.random.default_rng(1).integers(0, 2, len(train)))
    assert any("do not trust the list of doubted labels" in alarm for alarm in alarms(task, choice, {}))


def test_predict_warns_where_nearly_everything_is_blocked():
    def table(blocked: int, passed: int) -> pd.DataFrame:
        return pd.DataFrame({"decision": ["defective"] * blocked + ["acceptable"] * passed})

    assert summary(table(3, 7)) == "10 images scored, 3 found defective"
    assert "WARNING: nearly everything is blocked" in summary(table(13, 0))
    assert "WARNING" not in summary(table(3, 0))  # too few to tell
