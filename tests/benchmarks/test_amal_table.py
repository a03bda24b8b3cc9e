"""AMAL's table: its rows, the students over assistants, and the case with two kinds of harm."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.amal import cases, table, two_harms
from benchmarks.amal.rivals import over_assistant, self_supervised
from benchmarks.reproduce import reproduce

from tutelage.data import TensorData
from tutelage.models import ModelSettings, load_model
from tutelage.recipes.distill import DistillTask, NoiseSettings, Pipeline, TeacherSettings, pocket
from tutelage.recipes.distill.task import distill_task
from tutelage.training import Budget, Log
from tutelage.weighting.settings import AdaptSettings

pytestmark = pytest.mark.filterwarnings("ignore::tutelage.hypergradient.NeumannWarning")
SMALL = ModelSettings("pocket_mlp", options={"widths": [6]})
TINY = replace(
    pocket(),
    student=SMALL,
    teachers=(TeacherSettings(ModelSettings("pocket_mlp", options={"widths": [7]}), budget=Budget(steps=2)),),
    adapt=AdaptSettings(every=2, batch_size=8),
    trials=2,
    budget=Budget(steps=4),
    noise=NoiseSettings("symmetric", 0.4),
)


@pytest.fixture(scope="module")
def task() -> DistillTask:
    return distill_task("digits", TINY)


def pipeline(task: DistillTask, out: Path) -> Pipeline:
    return Pipeline(task, TINY, out, Log(None, quiet=True))


def test_a_student_of_an_assistant_hears_it_alone_and_a_densely_guided_one_the_teacher_too(task, tmp_path):
    assistant = ModelSettings("pocket_mlp", options={"widths": [5]})
    takd = over_assistant(pipeline(task, tmp_path), assistant, "takd")
    dgkd = over_assistant(pipeline(task, tmp_path), assistant, "dgkd")
    assert takd.losses == ["label", "teacher"]
    assert dgkd.losses == ["label", "teacher_0", "teacher_1"]
    between = load_model(tmp_path / "assistant" / "stages" / "student-kd" / "model")[0]
    assert between.spec.options == {"widths": [5]}
    asked = tmp_path / "takd" / "stages" / "teacher"
    inputs = task.images.subset(torch.arange(len(task.images))).batch([0, 1, 2])["input"]
    with torch.no_grad():
        said = between.eval()(inputs)
    torch.testing.assert_close(load_model(asked / "model")[0].eval()(inputs).detach(), said)
    for taught in (takd, dgkd):
        assert load_model(taught.folder)[0].spec.options == {"widths": [6]}


def test_a_self_supervised_student_is_a_classifier_like_any_other(task, tmp_path):
    taught = self_supervised(pipeline(task, tmp_path))
    network = load_model(taught.folder)[0].eval()
    assert network.spec.options == {"widths": [6]}
    everything = task.images.subset(torch.arange(len(task.images)))
    with torch.no_grad():
        torch.testing.assert_close(network(everything.batch([3, 4])["input"]), taught.logits[[3, 4]])


def test_the_data_have_both_harms():
    parts, wrong = two_harms.hinted(3)
    told: dict[str, TensorData] = parts
    assert wrong.double().mean() == pytest.approx(two_harms.NOISE, abs=0.1)
    teacher, train, test = told["teacher"].tensors, told["train"].tensors, told["test"].tensors
    assert set(teacher["label"].tolist()) == set(range(10 - two_harms.UNSEEN))
    assert set(test["label"].tolist()) == set(range(10))

    def named(part: dict[str, torch.Tensor]) -> float:
        return float((part["input"][:, 64:].argmax(1) == part["label"]).double().mean())

    assert named(teacher) == pytest.approx(two_harms.NAMED + (1 - two_harms.NAMED) / 10, abs=0.03)
    assert named(train) == pytest.approx(0.1, abs=0.06)
    assert named(test) == pytest.approx(0.1, abs=0.06)
    assert len(told["train and held out"]) == len(told["train"]) + len(told["held_out"])
    pixels = [
        {tuple(row.tolist()) for row in told[part].tensors["input"][:, :64]} for part in ("train", "held_out", "test")
    ]
    assert not pixels[0] & pixels[1]
    assert not pixels[0] & pixels[2]


@pytest.fixture
def small_table(monkeypatch: pytest.MonkeyPatch) -> None:
    students = {"CE": cases.by("ce"), "KD": cases.by("kd"), "AMAL": cases.by("amal")}
    students["AMAL, other"] = cases.by("amal", "student-other", **cases.RELEASED)
    students["AMAL, two teachers"] = cases.by("amal", teachers=TINY.teachers * 2)
    case = cases.Case("noisy", TINY, students, paper={"CE": 66.43})
    far = cases.Case("far", TINY, students, data="cifar100")
    monkeypatch.setattr(table, "cases", lambda scale: [case, far])
    monkeypatch.setattr(two_harms, "BUDGET", Budget(steps=4))
    monkeypatch.setattr(two_harms, "EVERY", 2)


def test_the_table_is_written_and_nothing_is_trained_twice(small_table, tmp_path, monkeypatch):
    arguments: dict[str, Any] = {"seeds": 2, "data": None, "out": tmp_path / "out", "runs": tmp_path / "runs"}
    people, programs = reproduce("amal", "pocket", **arguments)
    rows = json.loads(programs.read_text())
    accuracies = [row for row in rows if row["metric"] == "noisy: accuracy, %"]
    assert [row["row"] for row in accuracies] == ["CE", "KD", "AMAL", "AMAL, other", "AMAL, two teachers"]
    assert [row["paper"] for row in accuracies] == [66.43, None, None, None, None]
    told = {row["row"] for row in rows if row["metric"] == "noisy: AUROC of wrong labels"}
    assert told == {"AMAL", "AMAL, other", "AMAL, two teachers"}  # the others weigh all examples alike
    harms = {row["row"] for row in rows if row["metric"] == f"{table.TWO_HARMS}: accuracy, %"}
    assert harms == set(two_harms.METHODS)
    modules = {row["row"] for row in rows if "importance of the teacher, hint" in row["metric"]}
    assert modules == {"MAOAL", "Joint", "Joint, one step ahead"}
    text = people.read_text()
    compared = text.partition("## Against the strongest other row")[2]
    assert re.search(r"noisy: accuracy, % +\| +AMAL +\| +(CE|KD) +\|", compared)
    assert re.search(rf"{table.TWO_HARMS}: accuracy, % +\| +Joint +\|", compared)
    monkeypatch.setattr("tutelage.recipes.distill.pipeline.fit", None)
    monkeypatch.setattr(two_harms, "fit", None)
    assert json.loads(reproduce("amal", "pocket", **arguments)[1].read_text()) == rows


def test_a_case_that_is_none_is_named(small_table, tmp_path):
    with pytest.raises(
        ValueError, match=r"only=\['moon'\]: no such case or row; there are \['noisy', 'far', 'digits with"
    ):
        reproduce("amal", "pocket", seeds=1, data=None, out=tmp_path, runs=tmp_path, only=["moon"])


@pytest.mark.parametrize("scale", ["pocket", "paper"])
def test_every_case_is_one_that_can_be_made(scale):
    listed = cases.cases(scale)
    assert len({case.name for case in listed}) == len(listed)
    for case in listed:
        for model in (case.settings.student, *(teacher.model for teacher in case.settings.teachers)):
            model.spec(10, case.settings.image_size)
        if "coresets" in case.name:  # Table 1 of the paper
            assert list(case.paper.values()) == [66.43, 44.92, 45.5, 46.28, 46.31]
            assert list(case.paper) == list(case.students)
