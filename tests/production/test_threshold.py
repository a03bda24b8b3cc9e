"""`tutelage threshold` on a run's folder."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tutelage.cli.production import threshold
from tutelage.metrics import threshold_at_fpr
from tutelage.metrics.moderation import above_gap
from tutelage.production.guarantee import TooFewDefects, guaranteed_threshold
from tutelage.production.held_out import held_out
from tutelage.recipes.moderation.recipe import threshold_of


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
    labels = {"false_acceptable": 0.0, "false_defective": 0.0}
    (out / "metrics.json").write_text(json.dumps({"pipeline": {"recipe": recipe}, "labels": labels}))
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
    with pytest.raises(
        ValueError, match="is a run of distill, which decides by no threshold; give one of tutelage moderate"
    ):
        threshold(run_folder(tmp_path / "other", 400, "distill"))


def reviewed(out: Path, probability: np.ndarray, answered: np.ndarray, said: np.ndarray) -> None:
    """Lay answers about the test images into a run's folder."""
    ids = np.array([f"ad{row}" for row in range(len(said))])
    (out / "review").mkdir()
    pd.DataFrame({"id": ids, "image": ids, "probability": probability}).to_parquet(out / "review" / "drawn.parquet")
    verdicts = np.array(["defective", "acceptable"])[said[answered]]
    pd.DataFrame({"id": ids[answered], "label": verdicts}).to_csv(out / "review" / "answers.csv", index=False)


def test_the_guarantee_is_by_the_answers_of_a_review(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run_folder(tmp_path / "run", 700)
    table = pd.read_parquet(out / "examples.parquet").iloc[:1300]
    scores, said = table["score"].to_numpy(), table["label"].to_numpy().copy()
    said[np.argsort(-scores[:700])[:20]] = 1  # the labels of the highest defects are wrong
    reviewed(out, np.ones(1300), np.ones(1300, bool), said)
    threshold(out, fpr=0.05)
    told = capsys.readouterr().out
    promised = guaranteed_threshold(scores, said, 0.05)
    assert promised.threshold < guaranteed_threshold(scores, table["label"], 0.05).threshold
    assert told.startswith(f"threshold {promised.threshold!r}: with confidence 0.95")
    assert f"without the guarantee: threshold {threshold_of(out, 0.05)!r} " in told
    assert threshold_of(out, 0.05) == above_gap(threshold_at_fpr(scores, said, 0.05), scores, said == 1)
    assert "1300 answers about 1300 drawn images alone; assumed: that the answers are right;" in told
    blocked = scores <= promised.threshold
    assert f"NPV {(said[blocked] == 0).mean():.3f}" in told


def test_of_a_part_that_is_answered_each_counts_as_in_a_plain_sample(tmp_path: Path) -> None:
    out = run_folder(tmp_path / "run", 700)
    table = pd.read_parquet(out / "examples.parquet").iloc[:1300]
    rng = np.random.default_rng(0)
    probability = np.where(np.arange(1300) % 2 == 0, 0.8, 0.4)
    drawn = rng.random(1300) < probability
    said = table["label"].to_numpy()
    ids = table["id"].to_numpy()
    reviewed(out, probability, drawn, said)
    listed = pd.DataFrame({"id": ids[drawn], "image": ids[drawn], "probability": probability[drawn]})
    listed.to_parquet(out / "review" / "drawn.parquet")
    found = held_out(out)
    assert found.weight[~drawn].tolist() == [0.0] * int((~drawn).sum())
    assert np.allclose(found.weight[drawn], np.where(probability == 0.8, 0.5, 1.0)[drawn])
    promise = guaranteed_threshold(found.scores, found.labels, 0.05, 0.95, weights=found.weight)
    assert promise.defects == (drawn & (said == 0)).sum()
    assert promise.weighing == pytest.approx(found.weight[said == 0].sum())
    passing = found.weight[(said == 0) & (found.scores > promise.threshold)].sum()
    bound = stats.beta.ppf(0.95, passing + 1, promise.weighing - passing)
    assert promise.bound == pytest.approx(bound)
    assert bound <= 0.05


def test_what_is_assumed_of_the_labels_is_said_with_and_without_an_audit_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run_folder(tmp_path / "run", 700)
    threshold(out, fpr=0.05, wrong_labels=0.2)
    told = capsys.readouterr().out
    assert "of the labels 'defective' 20.0% are wrong (--wrong_labels), whichever they are, and no more" in told
    assert "the labels are right" not in told
    metrics = json.loads((out / "metrics.json").read_text())
    metrics["labels"] = {"false_acceptable": 0.1, "false_defective": 0.1}
    (out / "metrics.json").write_text(json.dumps(metrics))
    threshold(out, fpr=0.05, wrong_labels=0.2)
    told = capsys.readouterr().out
    assert "takes no more than 20.0% of the labels 'defective' for wrong, although held-out labels show errors" in told
