"""The table of choices: what is served beside its candidates, on a tiny task."""

from pathlib import Path

import numpy as np
import pytest
import tiny
from benchmarks.choice import table
from benchmarks.choice.cases import DIGITS, digits_task
from benchmarks.choice.table import PLAIN, SERVED, doubts, results

from tutelage.metrics import auroc


def test_the_rows_are_the_candidates_and_what_is_served(tmp_path, monkeypatch):
    tiny.hurry(monkeypatch.setattr)
    monkeypatch.setattr(table, "pocket", tiny.settings)
    monkeypatch.setattr(table, "cases", lambda data: [("posters", lambda seed: tiny.task())])
    rows, notes = results("pocket", seeds=1, data=None, runs=tmp_path)
    of = {(row.row, row.metric.partition(": ")[2]): row.ours for row in rows}
    all_of_them = f"{PLAIN} + the student + the specialists"
    assert {PLAIN, "the student", "the specialists", all_of_them, SERVED} <= {
        name for name, figure in of if figure == "AUROC"
    }
    served = notes[0].removeprefix("posters: served over the seeds: ").removesuffix(".")
    named = (
        served.replace("fine tuned", PLAIN).replace("student", "the student").replace("specialists", "the specialists")
    )
    for figure in ("NPV@1%", "AUROC", "AUROC of wrong labels"):
        assert of[SERVED, figure] == of[named.replace("+", " + "), figure]
    assert (f"{PLAIN}, as it comes", "AUROC of wrong labels") in of
    with pytest.raises(ValueError, match=r"only=\['cats'\]: no such case; there are \['posters'\]"):
        results("pocket", seeds=1, data=None, runs=tmp_path, only=("cats",))


def test_doubt_is_the_probability_of_the_other_label():
    rng = np.random.default_rng(0)
    scores, labels, truth = rng.random(500), rng.integers(0, 2, 500), rng.integers(0, 2, 500)
    found = {each.figure: each.value for each in doubts("case", "row", 0, scores, labels, truth)}
    other = np.where(labels == 1, 1 - scores, scores)
    assert found["AUROC of wrong labels"] == auroc(other, (labels != truth).astype(int))
    assert found["wrong among the top 96"] == (labels != truth)[np.argsort(-other)[:96]].mean()


def test_the_digits_are_a_users_data(tmp_path: Path):
    (tmp_path / "mnist").mkdir()
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "mnist" / "mnist.npz",
        x_train=rng.integers(0, 256, (400, 28, 28), dtype=np.uint8),
        y_train=rng.integers(0, 10, 400, dtype=np.uint8),
    )
    task = digits_task(tmp_path, 3, train=200, val=100, test=100)
    assert task.title == DIGITS
    assert task.images.images.gather([0]).shape == (1, 3, 24, 24)
    wrong = (task.labels != task.judged_by()).numpy()
    in_test = (task.table["split"] == "test").to_numpy()
    assert not wrong[in_test].any()
    assert 0.1 < wrong[~in_test].mean() < 0.3
    assert task.table["split"].value_counts().to_dict() == {
        "train": 200, "test": 100, "student_val": 60, "teacher_val": 20, "teacher_test": 20
    }  # fmt: skip
    with pytest.raises(FileNotFoundError, match=r"mnist\.npz: there is no such file"):
        digits_task(tmp_path / "elsewhere", 0)
