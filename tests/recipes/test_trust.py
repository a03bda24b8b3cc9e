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
from tutelage.recipes.moderation.corrected import corrected
from tutelage.recipes.moderation.evaluation import ignorance
from tutelage.recipes.moderation.judged import JudgedTest
from tutelage.recipes.moderation.recipe import summary, weights_message
from tutelage.recipes.moderation.trust import alarms, alarms_of, label_facts

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
    (alarm,) = alarms(task, choice, thresholds(task, choice), Path())
    assert "at 1.00% of the defects passing" in alarm
    assert "set the threshold" in alarm
    found = corrected(task, choice, (0.01,), 0, Path())
    assert found is not None
    assert alarms(task, choice, found["model"]["threshold"], Path()) == []


def of_test(
    scores: np.ndarray, labels: np.ndarray, at: dict[str, float], errors: tuple[float, float] = (0.0, 0.0)
) -> list[str]:
    """The alarms of a run that has a test and no training part."""
    table = pd.DataFrame({"score": scores, "label": labels})
    test = JudgedTest.of(table, errors, None)
    return alarms_of(scores, labels, np.full(len(scores), "test", dtype=object), errors, at, test)


def test_a_useless_threshold_of_a_model_that_ranks_poorly_raises_an_alarm_too():
    rng = np.random.default_rng(0)
    scores, labels = rng.random(400), rng.integers(0, 2, 400)
    blocked, few = of_test(scores, labels, {"0.01": 0.99, "0.5": 0.5})
    assert "at 1.00% of the defects passing" in blocked
    assert "it ranks poorly (AUROC 0." in blocked
    assert "which takes 299 for 1%;" in few


def test_a_small_test_raises_no_alarm_about_what_chance_explains():
    scores = np.array([0.5, 0.45, 0.4, 0.35, 0.42, 0.68, 0.5, 0.55, 0.45, 0.52, 0.4])
    labels = np.repeat([0, 1], [7, 4])  # the mean score is 0.11 above the share of acceptable images; none of 4 passes
    (few,) = of_test(scores, labels, {"0.01": 0.68, "0.05": 0.68})
    assert few == (
        "7 images of the test are defects by their labels, too few for a guarantee with 95% confidence, which takes 299 for 1% "
        "and 59 for 5%; 0 of them score higher than the threshold, the same for 1% and 5%, so that up to 35% of all defects "
        "may pass"
    )


def test_labelled_defects_that_pass_raise_an_alarm_where_the_errors_of_labels_explain_it_and_where_they_do_not():
    rng = np.random.default_rng(0)
    scores = np.concatenate([np.linspace(0.3, 0.99, 300), rng.random(3000)])
    labels = np.repeat([0, 1], [300, 3000])

    def said(scores: np.ndarray, threshold: float, false_defective: float) -> list[str]:
        found = of_test(scores, labels, {"0.05": threshold}, (0.0, false_defective))
        return [alarm for alarm in found if "labelled defective pass" in alarm]

    (beyond,) = said(scores, 0.7, 0.005)
    assert "126 of the 300 test images labelled defective pass at the threshold for 5%" in beyond
    assert "more than the estimated errors of the labels explain" in beyond
    (explained,) = said(scores, 0.5, 0.07)
    assert "of these labels are taken to be wrong, only by estimated error rates" in explained
    assert said(np.sort(scores), 0.5, 0.005) == []  # no labelled defect passes


def test_held_out_labels_of_which_no_score_is_sure_are_too_few_to_tell():
    task, _, _, choice = drawn(noise=0.0)
    facts = label_facts(task, choice)
    assert (facts["held_out"], facts["too_few"]) == (2000, False)
    assert facts["contradicted"] / facts["sure"] < facts["at_most"] < 0.02
    few = np.flatnonzero(task.table["split"] == "student_val")[20:]
    task.table.loc[few, "split"] = "left_out"
    facts = label_facts(task, choice)
    assert (facts["held_out"], facts["too_few"]) == (20, True)


def test_a_level_that_is_not_the_tests_raises_an_alarm():
    task, _, _, choice = drawn(shift=-4.0)
    assert any("the mean score on the test is" in alarm for alarm in alarms(task, choice, {}, Path()))


def test_more_contradicted_labels_than_can_be_wrong_raise_an_alarm():
    task, _, _, choice = drawn()
    train = task.images.rows("train")
    task.labels[train] = torch.from_numpy(np.random.default_rng(1).integers(0, 2, len(train)))
    assert any("do not trust the list of doubtful labels" in alarm for alarm in alarms(task, choice, {}, Path()))


def test_a_weight_that_is_the_same_for_all_is_said_to_change_nothing():
    assert weights_message(1.0, 1.0) == "the column weight is 1 for every example, so training counts all equally"
    assert weights_message(0.5, 3.0) == "training weights the examples by their column weight, from 0.5 to 3"


def test_predict_warns_where_nearly_everything_is_blocked():
    def table(blocked: int, passed: int) -> pd.DataFrame:
        return pd.DataFrame({"decision": ["defective"] * blocked + ["acceptable"] * passed})

    assert summary(table(3, 7)) == "10 examples scored, 3 found defective"
    assert "WARNING: nearly everything is blocked" in summary(table(13, 0))
    assert "WARNING" not in summary(table(3, 0))  # too few to tell


def test_a_model_that_knows_nothing_doubts_no_label_and_says_so():
    (told,) = ignorance({"value": 0.506, "low": 0.46, "high": 0.55})
    assert told.endswith("relabel.csv lists none")
    assert ignorance({"value": 0.57, "low": 0.49, "high": 0.65}) == []
    assert ignorance({"value": 0.54, "low": 0.51, "high": 0.57}) == []


def test_what_was_scored_is_called_an_image_only_where_it_is_one():
    table = pd.DataFrame({"id": ["a", "b"], "decision": ["acceptable", "defective"]})
    assert summary(table) == "2 examples scored, 1 found defective"
    assert summary(table.assign(image="x.png")) == "2 images scored, 1 found defective"
