"""A primary task with auxiliary losses: declarations, parts, modules, and a run from end to end."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tutelage import cli, recipes
from tutelage.cli.parser import parser_for
from tutelage.data import TensorData, fields
from tutelage.data.drawn import draw_parts
from tutelage.metrics import bootstrap_rows, mean_iou, pixel_accuracy
from tutelage.models import autoint, build_multi_head, load_ensemble, load_multi_head
from tutelage.recipes.auxiliary import (
    AuxiliarySettings,
    AuxiliaryTask,
    BodySettings,
    Shares,
    TaskSpec,
    auxiliary_task,
    declared,
    judgement,
    pocket,
)
from tutelage.recipes.auxiliary.judgement import MEASURES, difference, outcomes
from tutelage.recipes.auxiliary.network import partition_of, signals_of, spec_of
from tutelage.recipes.auxiliary.settings import by_modules
from tutelage.recipes.auxiliary.sources import table_task
from tutelage.recipes.auxiliary.task import LEAST
from tutelage.signals import Objective
from tutelage.training import Budget, Log, Optimization
from tutelage.weighting import WEIGHTINGS
from tutelage.weighting.settings import AdaptSettings

pytestmark = pytest.mark.filterwarnings("ignore::tutelage.hypergradient.NeumannWarning")
N = 120


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judgement, "bootstrap_rows", partial(bootstrap_rows, resamples=20))
    monkeypatch.setattr("tutelage.training.checkpoint.due", lambda *_: True)


def settings(**changed: Any) -> AuxiliarySettings:
    given = {
        "image_size": 8,
        "augmentation": "none",
        "body": BodySettings(options={"widths": [4, 8], "stem_stride": 1}),
        "training": Optimization(lr=1e-2, batch_size=16),
        "budget": Budget(epochs=2),
        "weighting_defaults": {**by_modules(neumann_steps=1, constraint="relu"), "auxilearn": {"neumann_steps": 1}},
        "adapt": AdaptSettings(every=2),
        "trials": 2,
        "baselines": (),
    }
    return replace(pocket(), **{**given, **changed})


FIELDS = settings(body=BodySettings(options={"width": 4, "attention_heads": 2}))


def squares(sides: tuple[TaskSpec, ...], primary: TaskSpec | None = None) -> AuxiliaryTask:
    """Small images in four shades, and every kind of label of them."""
    draws = torch.Generator().manual_seed(0)
    kind = torch.randint(0, 4, (N,), generator=draws)
    images = (40 * kind[:, None, None, None] + torch.randint(0, 40, (N, 3, 8, 8), generator=draws)).to(torch.uint8)
    images[:, :, :3, :3] = 255
    map = kind[:, None, None].expand(-1, 8, 8).clone()
    normals = torch.nn.functional.normalize(torch.randn(N, 3, 8, 8, generator=draws), dim=1)
    labels = {
        "kind": kind,
        "even": torch.where(torch.arange(N) % 3 == 0, -1, kind % 2),
        "size": kind.float(),
        "map": map.to(torch.int8),
        "depth": map.float(),
        "normals": normals,
        "wrong": (kind + 1) % 4,
    }
    labels["size"][::5] = torch.nan
    split = draw_parts([""] * N, Shares().parts, 0)
    return AuxiliaryTask("squares", primary or TaskSpec("kind"), sides, TensorData(input=images), labels, split)


SIDES = (
    TaskSpec("even"),
    TaskSpec("size", "regression", weight=0.5),
    TaskSpec("turn", "rotation"),
    TaskSpec("l2", "l2", weight=1e-3),
    TaskSpec("other", column="wrong", head="kind"),
)
DENSE = (TaskSpec("depth", "map"), TaskSpec("normals", "normals"), TaskSpec("even"))


def network(problem: AuxiliaryTask, of: AuxiliarySettings | None = None) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_multi_head(spec_of(problem, problem.tasks, of or settings()))


@pytest.mark.parametrize(
    "problem", [squares(SIDES), squares(DENSE, TaskSpec("map", "segmentation"))], ids=["sides", "dense"]
)
def test_declared_tasks_become_heads_and_losses_whose_batch_mean_is_that_over_the_labelled(
    problem: AuxiliaryTask,
) -> None:
    rows = problem.rows("train")
    turned = 0.75 if any(task.kind == "rotation" for task in problem.sides) else 0.0
    model = network(problem).eval()
    signals = signals_of(problem, problem.tasks, rows)
    objective = Objective(model, signals)
    assert objective.names == [task.name for task in problem.tasks]
    torch.manual_seed(0)
    batch = problem.part(rows, problem.tasks, turned).batch(list(range(len(rows))))
    losses_BK = objective(batch).detach()
    for k, task in enumerate(problem.tasks):
        if task.name in ("even", "size"):
            labels = batch[task.target]
            has = labels >= 0 if task.name == "even" else ~torch.isnan(labels)
            assert has.sum() < len(rows)
            unscaled = getattr(signals[k], "signal", signals[k])
            alone = unscaled(model(batch["input"]), batch).detach()[has].mean()
            torch.testing.assert_close(losses_BK[:, k].mean(), task.weight * alone)


def test_a_head_that_several_losses_reach_is_a_module() -> None:
    def names(*sides: TaskSpec, level: Any = "block") -> list[str]:
        problem = squares(sides)
        return list(partition_of(network(problem), level, problem.tasks).names)

    body = ["stem", "stages.0", "stages.1"]
    assert names(TaskSpec("even")) == body
    assert names(TaskSpec("other", column="wrong", head="kind"), TaskSpec("even")) == [*body, "head of kind"]
    assert names(TaskSpec("even"), TaskSpec("l2", "l2")) == [*body, "head of kind", "head of even"]
    assert names(TaskSpec("even"), level="model") == ["model"]
    dense = squares(DENSE, TaskSpec("map", "segmentation"))
    assert list(partition_of(network(dense), "block", dense.tasks).names) == [*body, "decoder"]


def test_modules_of_autoint_are_the_paper_s_six() -> None:
    problem = fields_problem()
    model = network(problem, FIELDS)
    found = partition_of(model, "block", problem.tasks)
    assert list(found.names) == ["embedding", *(f"layers.{i}" for i in range(4)), "head of stars"]
    assert set(found.module_of) == {name for name, _ in model.named_parameters()}


def fields_problem() -> AuxiliaryTask:
    draws = torch.Generator().manual_seed(0)
    fields = torch.stack([torch.randint(0, 6, (N,), generator=draws), torch.randint(0, 3, (N,), generator=draws)], 1)
    stars = fields.sum(1).float()
    return AuxiliaryTask(
        "stars",
        TaskSpec("stars", "regression"),
        (TaskSpec("l2", "l2", weight=1e-3),),
        TensorData(input=fields),
        {"stars": stars},
        draw_parts([""] * N, Shares().parts, 0),
        fields=(6, 3),
    )


VERIFYING = [name for name, weighting in WEIGHTINGS.items() if weighting.shows_wrong_labels]


@pytest.mark.parametrize("name", VERIFYING)
def test_a_weighting_that_needs_wrong_classes_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.*such as maoal"):
        settings(weighting=name)


@pytest.mark.parametrize("method", ["single", *(name for name in WEIGHTINGS if name not in VERIFYING), "hpo"])
def test_every_method_trains_and_is_judged_on_the_test_alone(method: Any, tmp_path: Path) -> None:
    constant = {name: {"weights": [1.0, 0.5, 0.5]} for name in ("fixed", "dropped_teachers")}
    chosen = {"method": method} if method in ("single", "hpo") else {"weighting": method}
    of = settings(budget=Budget(epochs=1), weighting_defaults=constant, adapt=AdaptSettings(every=3), **chosen)
    problem = squares((TaskSpec("even"), TaskSpec("turn", "rotation")))
    found = recipes.run("auxiliary", problem, of, tmp_path, quiet=True)
    figures = found.metrics["methods"][method]
    assert 0 <= figures["accuracy"]["low"] <= figures["accuracy"]["value"] <= figures["accuracy"]["high"] <= 1
    again = replace(problem, labels={**problem.labels, "kind": problem.labels["kind"].clone()})
    test = problem.rows("test")
    again.labels["kind"][test] = (again.labels["kind"][test] + 1) % 4
    from tutelage.recipes.auxiliary.pipeline import Pipeline

    one, other = (
        Pipeline(p, of, tmp_path / name, Log(None, quiet=True)).learned(method)
        for p, name in ((problem, "one"), (again, "other"))
    )
    assert one.val == other.val  # the test part teaches and selects nothing
    assert one.weighting_history == other.weighting_history


def test_weights_of_examples_are_written_with_their_ids_and_those_of_another_run_go(tmp_path: Path) -> None:
    problem = replace(squares((TaskSpec("even"), TaskSpec("turn", "rotation"))), ids=[f"image {i}" for i in range(N)])
    of = settings(weighting="joint", weighting_options={"neumann_steps": 0}, adapt=AdaptSettings(every=1))
    report = recipes.run("auxiliary", problem, of, tmp_path, quiet=True).report
    found, rows = pd.read_parquet(tmp_path / "weights.parquet"), problem.rows("train").tolist()
    assert list(found) == ["index", "id", "weight_kind", "weight_even", "weight_turn", "visits"]
    assert found["index"].tolist() == rows
    assert found["id"].tolist() == [f"image {row}" for row in rows]
    assert (found["visits"] > 0).all()
    assert found["weight_kind"].between(0, 2).all()
    assert found["weight_kind"].nunique() > 10
    assert f"kind {found['weight_kind'].mean():.2f}," in report.read_text()
    (tmp_path / "config.yaml").unlink()
    recipes.run("auxiliary", problem, replace(of, weighting="equal", weighting_options={}), tmp_path, quiet=True)
    assert not (tmp_path / "weights.parquet").exists()


@pytest.mark.parametrize("weighting", ["equal", "maoal"])
def test_weightings_that_learn_nothing_train_on_the_held_out_part(weighting: str, tmp_path: Path, monkeypatch) -> None:
    from tutelage.recipes.auxiliary import pipeline

    problem, of = squares((TaskSpec("even"),)), settings(weighting=weighting)
    seen: dict[str, Any] = {}

    def noted(model: Any, train: Any, **others: Any) -> Any:
        seen.update(train=train, held_out=others["held_out"])
        raise InterruptedError

    monkeypatch.setattr(pipeline, "fit", noted)
    with pytest.raises(InterruptedError):
        pipeline.Pipeline(problem, of, tmp_path, Log(None, quiet=True)).learned(weighting)
    held_out, train = problem.rows("held_out").tolist(), seen["train"].index.tolist()
    if weighting == "equal":
        assert seen["held_out"] is None
        assert set(held_out) <= set(train)
    else:
        assert sorted(seen["held_out"].index.tolist()) == sorted(held_out)
        assert not set(held_out) & set(train)


def test_what_was_asked_for_is_not_served_where_the_primary_loss_alone_is_better(tmp_path: Path) -> None:
    """A second annotator of the same question who is always wrong, believed as much as the first."""
    of = settings(weighting="equal", budget=Budget(epochs=15))
    found = recipes.run("auxiliary", squares((SIDES[-1],)), of, tmp_path, quiet=True).metrics
    assert found["choice"]["asked"] == "equal"
    assert found["choice"]["chosen"] == found["choice"]["plain"] == "single"
    values = {name: told["value"] for name, told in found["choice"]["candidates"].items()}
    assert values["single"] > values["equal"]
    assert set(found["difference"]) == {"equal"}
    assert "Served: the primary loss alone, not all losses equally" in (tmp_path / "report.html").read_text()
    model, _ = load_ensemble(tmp_path / "model")
    assert set(model(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))) == {"kind"}


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_the_mean_of_networks_that_validation_cannot_tell_apart_is_served(
    kind: str, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr("tutelage.recipes.auxiliary.evaluation.unbeaten", lambda *_, **__: ("equal", "single"))
    of, problem = settings(weighting="equal", budget=Budget(epochs=2), copies=3), squares((TaskSpec("even"),))
    if kind == "regression":
        of, problem = replace(FIELDS, weighting="equal", budget=Budget(epochs=1), copies=3), fields_problem()
    primary = problem.primary
    found = recipes.run("auxiliary", problem, of, tmp_path)
    assert "not run again; then 2 more of each network in the mean that is served" in capsys.readouterr().err
    choice = found.metrics["choice"]
    assert (choice["chosen"], choice["members"]) == ("ensemble", ["equal", "single"])
    model, _ = load_ensemble(tmp_path / "model")
    images = problem.part(problem.rows("test"), (primary,)).batch(list(range(len(problem.rows("test")))))["input"]
    folders = [f"{name}{copy}" for name in choice["members"] for copy in ("", "-copy-1", "-copy-2")]
    networks = [load_multi_head(tmp_path / "stages" / folder)[0] for folder in folders]
    with torch.inference_mode():
        [told], each = model(images).values(), torch.stack([network(images)[primary.name] for network in networks])
    assert len({answers.double().sum().item() for answers in each}) == 6
    labels = problem.labels[primary.name][problem.rows("test")]
    if primary.kind == "regression":
        torch.testing.assert_close(told, each.mean(0))
        figure, value = "rmse", (told[:, 0] - labels)[~labels.isnan()].square().mean().sqrt()
    else:
        torch.testing.assert_close(told.exp(), each.softmax(2).mean(0))
        figure, value = "accuracy", (told.argmax(1) == labels)[labels >= 0].double().mean()
    assert found.metrics["methods"]["ensemble"][figure]["value"] == pytest.approx(value.item())
    assert set(found.metrics["difference"]) == {"equal", "single"}
    page = found.report.read_text()
    named = "Served: the mean of 3 trainings of each of all losses equally and the primary loss alone, none of which is"
    assert named in page


def test_what_counts_nowhere_is_left_out_of_the_training_on_all_labels(tmp_path: Path, monkeypatch: Any) -> None:
    """Of four tasks two count, one of them by the head of a third; the turned images of the fourth are not seen."""
    from tutelage.recipes.auxiliary import pipeline

    again = TaskSpec("again", column="even", head="even")
    sides = (TaskSpec("turn", "rotation"), TaskSpec("even"), again, TaskSpec("l2", "l2"))
    made = pipeline.Pipeline(squares(sides), settings(), tmp_path, Log(None, quiet=True))
    modules = ["stem", "stages.0", "stages.1", "head of kind", "head of turn", "head of even"]
    last = {"turn": [0.0] * 6, "even": [0.0] * 6, "again": [0.5] * 6, "l2": [0.0, 2.0, 0.0, 0.0, 9.0, 3.0]}
    history = [{"step": step, "importance": list(last.values())} for step in (0, 2)]
    first = pipeline.Learned("maoal", np.zeros(0), np.zeros(0), 0.0, history, modules, tmp_path, {}, made.problem.tasks)
    seen: dict[str, Any] = {}

    def noted(model: Any, train: Any, **others: Any) -> Any:
        seen.update(others, model=model, batch=train.batch([0, 1]))
        raise InterruptedError

    monkeypatch.setattr(pipeline, "fit", noted)
    with pytest.raises(InterruptedError):
        made._again(first)
    assert [signal.name for signal in seen["signals"]] == ["kind", "even", "again", "l2"]
    assert "rotation" not in seen["batch"]
    a = seen["weighting"].module_weights(seen["model"])
    assert seen["weighting"].module_names() == ["stem", "stages.0", "stages.1", "head of kind", "head of even"]
    assert a.values_KM.tolist() == [[1.0] * 5, [0.0] * 5, [0.5] * 5, [0.0, 2.0, 0.0, 0.0, 3.0]]


def test_without_evidence_of_use_the_last_training_is_that_of_the_primary_loss_on_all_labels(tmp_path: Path) -> None:
    from tutelage.recipes.auxiliary.pipeline import Pipeline

    problem = squares((TaskSpec("other", column="wrong"),))
    of = settings(weighting_defaults=by_modules(1e-9, meta_optimizer={"lr": 0.1}))
    pipeline = Pipeline(problem, of, tmp_path, Log(None, quiet=True))
    assert pipeline.learned("maoal").weighting_history[-1]["importance"] == [[0.0] * 3]
    again, alone = (pipeline.learned(name) for name in ("refit", "single"))
    assert np.array_equal(again.outcomes, alone.outcomes)
    assert again.val == alone.val


KINDS = {
    "dense": (lambda: squares(DENSE[:2], TaskSpec("map", "segmentation")), settings(), "mean_iou"),
    "fields": (fields_problem, FIELDS, "rmse"),
}


@pytest.mark.trains
@pytest.mark.parametrize("kind", KINDS)
def test_maps_and_fields_from_end_to_end(kind: str, tmp_path: Path) -> None:
    make, of, figure = KINDS[kind]
    found = recipes.run("auxiliary", make(), replace(of, baselines=("single",)), tmp_path, quiet=True)
    assert {"maoal", "refit", "single"} <= set(found.metrics["methods"]) <= {"maoal", "refit", "single", "ensemble"}
    assert figure in found.metrics["methods"]["maoal"]
    differences = found.metrics["difference"]
    assert set(differences) == set(found.metrics["methods"]) - {found.metrics["choice"]["chosen"]}
    assert all(each["low"] <= each["high"] for each in differences.values())
    html = found.report.read_text()
    assert "Importance of" in html
    assert "http" not in html.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_a_run_that_is_killed_again_and_again_ends_in_the_same_figures(tmp_path: Path, monkeypatch: Any) -> None:
    problem, of = squares(SIDES[2:]), settings(baselines=("equal",))
    straight = recipes.run("auxiliary", problem, of, tmp_path / "straight", quiet=True)

    class Power(Exception):
        pass

    examples = type(problem.examples)
    whole, calls = examples.batch, 0
    patience = 3

    def cut(self: Any, rows: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > patience:
            raise Power
        return whole(self, rows)

    ends = 0
    monkeypatch.setattr(examples, "batch", cut)
    while True:
        calls, patience = 0, 2 * patience
        try:
            found = recipes.run("auxiliary", problem, of, tmp_path / "killed", quiet=True)
            break
        except Power:
            ends += 1
    assert ends > 2
    assert (tmp_path / "killed" / "metrics.json").read_bytes() == (tmp_path / "straight" / "metrics.json").read_bytes()
    for out in (straight.folder, found.folder):
        assert (out / "config.yaml").is_file()
    course = [pd.read_parquet(tmp_path / name / "importance.parquet") for name in ("straight", "killed")]
    pd.testing.assert_frame_equal(*course)
    assert set(course[0]["task"]) == {task.name for task in problem.sides}
    assert course[0]["step"].min() == 0
    assert (course[0].loc[course[0]["step"] == 0, "value"] == 1).all()


def test_a_share_of_the_labels_is_hidden_outside_validation_and_test() -> None:
    problem = squares(SIDES)
    few = problem.with_share_of_labels(0.5, seed=1)
    learning, rest = problem.rows("train", "held_out"), problem.rows("val", "test")
    assert few.present(few.primary, learning) == pytest.approx(0.5 * len(learning), abs=LEAST)
    assert few.present(few.primary, rest) == len(rest)
    held_out = few.rows("held_out")
    assert (
        LEAST <= len(held_out) < len(problem.rows("held_out"))
    )  # those that keep their label; the others are for training
    assert few.present(few.primary, held_out) == len(held_out)
    assert torch.equal(few.rows("train", "held_out"), learning)
    assert torch.equal(few.labels["even"], problem.labels["even"])
    stars = fields_problem()
    assert torch.isnan(stars.with_share_of_labels(0.5, 1).judged_by()).any()


def test_what_is_held_out_does_not_change_which_labels_are_hidden() -> None:
    problem = squares(SIDES)
    split = np.where(problem.split == "held_out", "train", problem.split)
    split[problem.rows("train")[::2].numpy()] = "held_out"
    one, other = (each.with_share_of_labels(0.5, seed=1) for each in (problem, replace(problem, split=split)))
    differ = (one.judged_by() != other.judged_by()).sum()
    assert differ <= LEAST  # of which each part keeps so many at least


def test_parts_are_drawn_once_from_what_has_none() -> None:
    given = ["train"] * 50 + ["test"] * 20 + [""] * 30
    known = torch.arange(100) % 2 == 0
    found = draw_parts(given, Shares(val=0.2, held_out=0.1).parts, 3, known)
    assert (found[50:70] == "test").all()
    assert (found == "test").sum() == 20
    assert (found == "val").sum() == round(0.2 * 40)
    assert (found == "held_out").sum() == round(0.1 * 32)
    assert known[torch.from_numpy(np.isin(found, ("val", "held_out")))].all()
    assert (found == draw_parts(given, Shares(val=0.2, held_out=0.1).parts, 3, known)).all()


def test_figures_by_hand() -> None:
    answers, labels = (
        torch.tensor([[[0, 1], [1, 1]], [[0, 0], [0, 0]]]),
        torch.tensor([[[0, 1], [0, -1]], [[-1] * 2] * 2]),
    )
    counts = outcomes(answers, labels, "segmentation", 3)
    assert counts.shape == (1, 9)  # the second image has no known pixel
    assert mean_iou(counts) == pytest.approx((1 / 2 + 1 / 2) / 2)  # the third class does not occur
    assert pixel_accuracy(counts) == pytest.approx(2 / 3)
    squared = outcomes(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([1.0, 4.0, torch.nan]), "regression", 1)
    measure = MEASURES["regression"][0]
    assert measure.figure(squared) == pytest.approx(2**0.5)
    gain = difference(measure, squared, squared + 1, seed=0)
    assert gain.value == pytest.approx(3**0.5 - 2**0.5)  # a smaller error is better: positive


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({"primary": TaskSpec("turn", "rotation")}, "primary task 'turn' is of kind 'rotation'; give one of"),
        ({"sides": (TaskSpec("kind"),)}, r"tasks have equal names \['kind', 'kind'\]"),
        ({"sides": (TaskSpec("colour"),)}, "task 'colour' reads the column 'colour'; the data have: kind, even"),
        ({"sides": (TaskSpec("a", "rotation"), TaskSpec("b", "rotation"))}, "one rotation to predict"),
        ({"sides": (TaskSpec("even", head="size"),)}, "shares head='size', which is no task of kind 'classification'"),
        ({"sides": (TaskSpec("turn", "rotation"),), "fields": (3,)}, "turns images, and the input is fields"),
        (
            {"labels": {"kind": torch.full((N,), -1)}, "sides": ()},
            "train has 0 examples with the label 'kind'; 8 are needed",
        ),
    ],
)
def test_what_cannot_be_worked_on_is_refused(change: dict[str, Any], answer: str) -> None:
    with pytest.raises(ValueError, match=answer):
        replace(squares((TaskSpec("even"),)), **change)


@pytest.mark.parametrize(
    ("task", "answer"),
    [
        ({"name": "a", "colum": "b"}, "unknown key 'colum'; known: name, kind, column, weight, head"),
        ({"kind": "l2"}, "has no name"),
        ({"name": "a", "kind": "regresion"}, "kind='regresion' must be one of"),
        ({"name": "a", "weight": "1"}, "weight='1' must be a number above 0"),
        ({"name": "a", "weight": 0}, "task 'a'.weight=0 must be a number above 0"),
    ],
)
def test_mistakes_in_declarations_are_named(task: dict[str, Any], answer: str) -> None:
    with pytest.raises(ValueError, match=answer):
        declared(task)


def test_further_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sides is empty"):
        recipes.run("auxiliary", squares(()), settings(), tmp_path)
    with pytest.raises(
        ValueError, match="data='moveilens' is no table and no known set; known: digits, people, movielens"
    ):
        auxiliary_task("moveilens", settings())
    with pytest.raises(ValueError, match="give folder, where they lie"):
        auxiliary_task("movielens", settings())
    with pytest.raises(ValueError, match="declare its primary task and its sides"):
        auxiliary_task("mine.csv", settings())
    with pytest.raises(ValueError, match="needs a map for each example, which no table holds"):
        table_task(tmp_path / "mine.csv", TaskSpec("a"), [TaskSpec("b", "map")], settings())
    of = settings(weighting="fixed", weighting_options={"weights": [1.0]})
    with pytest.raises(ValueError, match=r"weights=\[1.0\] must be one for each of num_signals=2"):
        recipes.run("auxiliary", squares((TaskSpec("even"),)), of, tmp_path, quiet=True)
    with pytest.raises(ValueError, match=r"shares\.labels=0 must be a number in"):
        Shares(labels=0)


def test_the_built_in_digits() -> None:
    problem = auxiliary_task(
        "digits", settings(), sides=({"name": "parity"}, {"name": "other", "column": "mistaken", "head": "digit"})
    )
    assert {part: len(problem.rows(part)) for part in ("train", "test")}["test"] == 450
    assert problem.outputs(problem.primary) == 10
    assert problem.images[0]["input"].shape == (3, 8, 8)
    assert [task.name for task in auxiliary_task("digits", settings()).sides] == [
        "parity",
        "high",
        "rotation",
        "arbitrary",
    ]


Command = Callable[..., tuple[int, str, str]]


def test_a_table_of_ones_own_by_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(80):
        kind, colour = rng.integers(0, 2, 2)
        pixels = np.zeros((8, 8, 3), dtype=np.uint8)
        pixels[: 4 + 4 * kind, :, colour] = 200
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        rows.append((f"{i}.png", ["short", "long"][kind], ["red", "green"][colour] if i % 4 else "", 1.0 + kind))
    table = pd.DataFrame(rows, columns=["image", "shape", "colour", "length"])
    table.to_csv(tmp_path / "table.csv", index=False)
    words = ["auxiliary", tmp_path / "table.csv", "--out", tmp_path / "run", "--scale", "pocket", "--image_size", "8"]
    words += ["--primary", "{name: shape}", "--sides", "[{name: colour}, {name: length, kind: regression}]"]
    words += ["--body.options", "{widths: [4, 8], stem_stride: 1}", "--budget.epochs", "1", "--weighting", "equal"]
    words += ["--baselines", "[single]", "--training.batch_size", "16"]
    words += ["--shares.held_out", "0.2", "--shares.val", "0.2"]
    cli.main([str(word) for word in words])
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["pipeline"]["recipe"] == "auxiliary"
    assert metrics["data"]["labelled"]["colour"] < metrics["data"]["labelled"]["shape"]
    table[["image"]].assign(image=["9.png" if i == 9 else f"{i}.png" for i in range(80)]).to_csv(
        tmp_path / "new.csv", index=False
    )
    (tmp_path / "9.png").write_bytes(b"broken")
    cli.main(["predict", str(tmp_path / "run"), str(tmp_path / "new.csv"), "--out", str(tmp_path / "answers.csv")])
    answers = pd.read_csv(tmp_path / "answers.csv")
    assert len(answers) == 79
    assert set(answers["answer"]) <= {"short", "long"}
    assert answers["probability"].between(0.5, 1).all()  # of the likelier of two
    assert "79 examples answered; 1 left out: format 1" in capsys.readouterr().out
    (tmp_path / "run" / "report.html").unlink()
    cli.main(["report", str(tmp_path / "run")])
    assert (tmp_path / "run" / "report.html").is_file()


def test_fields_of_ones_own_and_values_that_a_run_has_not_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"who": rng.choice(list("abc"), 120), "what": rng.choice(list("xy"), 120)})
    table["stars"] = (table["who"] == "a") + 2.0 * (table["what"] == "x")
    table.to_csv(tmp_path / "table.csv", index=False)
    words = [
        "auxiliary",
        tmp_path / "table.csv",
        "--out",
        tmp_path / "run",
        "--scale",
        "pocket",
        "--budget.epochs",
        "1",
    ]
    words += ["--primary", "{name: stars, kind: regression}", "--sides", "[{name: l2, kind: l2, weight: 0.001}]"]
    words += ["--fields", "[who, what]", "--baselines", "[]", "--training.batch_size", "32", "--weighting", "equal"]
    cli.main([str(word) for word in words])
    pd.DataFrame({"who": ["a", "z"], "what": ["y", "x"]}).to_csv(tmp_path / "new.csv", index=False)
    cli.main(["predict", str(tmp_path / "run"), str(tmp_path / "new.csv"), "--out", str(tmp_path / "answers.parquet")])
    assert len(pd.read_parquet(tmp_path / "answers.parquet")) == 2
    told = "".join(capsys.readouterr())
    assert "fields read as names: who, what" in told
    assert "warning: unknown value: 1 row kept, such as 1: who is 'z', which the run has not seen" in told


def test_numbers_among_the_fields_are_read_as_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"who": rng.choice(list("ab"), 240), "age": rng.normal(40, 12, 240).round(2)})
    table["stars"] = (table["who"] == "a") + table["age"] / 12
    table["stars"] = table["stars"].astype(object)
    table.loc[3, "stars"] = "n/a"
    table.to_csv(tmp_path / "table.csv", index=False)
    of = replace(FIELDS, budget=Budget(steps=300), weighting="equal")
    primary = {"name": "stars", "kind": "regression"}
    problem = auxiliary_task(
        str(tmp_path / "table.csv"), of, primary=primary, sides=({"name": "l2", "kind": "l2"},), fields=("who", "age")
    )
    assert len(problem.split) == 240  # a number that cannot be read is an absent label
    assert problem.problems.warnings()[0].startswith("warning: bad number: 1 row kept, such as 3: stars is 'n/a'")
    run = recipes.run("auxiliary", problem, of, tmp_path / "run", quiet=True)
    pd.DataFrame({"who": ["a", "z", "b"], "age": [33.333, 52.123, "none"]}).to_csv(tmp_path / "new.csv", index=False)
    answers, problems = recipes.predict(run.folder, tmp_path / "new.csv", tmp_path / "answers.csv")
    assert len(answers) == 3
    assert answers["answer"][0] == pytest.approx(1 + 33.333 / 12, abs=0.7)
    assert {problem.reason for problem in problems} == {"unknown_value", "bad_number"}
    assert fields.ABSENT == autoint.ABSENT > fields.FARTHEST


def test_numbers_of_a_table_are_learned_in_any_unit_and_answered_in_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Predicting the mean has an RMSE of a standard deviation; a price in thousands is as well learned as one in units."""
    monkeypatch.setattr("tutelage.training.checkpoint.due", lambda *_: False)
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"who": rng.choice(list("abc"), 120), "what": rng.choice(list("xy"), 120)})
    unit = (table["who"] == "a") + 2.0 * (table["what"] == "x")
    found: dict[str, tuple[float, pd.DataFrame]] = {}
    for name, prices in {"units": unit, "cents": 100 * unit + 5000}.items():
        table.assign(price=prices, old=prices * 7).to_csv(tmp_path / f"{name}.csv", index=False)
        primary, sides = {"name": "price", "kind": "regression"}, ({"name": "old", "kind": "regression"},)
        of = replace(FIELDS, budget=Budget(steps=60), training=Optimization(lr=0.05, batch_size=16), weighting="equal")
        problem = auxiliary_task(
            str(tmp_path / f"{name}.csv"), of, primary=primary, sides=sides, fields=("who", "what")
        )
        train = problem.labels["price"][problem.rows("train")]
        assert problem.standard(problem.primary) == pytest.approx((float(train.mean()), float(train.std(correction=0))))
        run = recipes.run("auxiliary", problem, of, tmp_path / name, quiet=True)
        rmse = run.metrics["methods"][run.metrics["choice"]["chosen"]]["rmse"]["value"]
        answers, _ = recipes.predict(run.folder, tmp_path / f"{name}.csv", tmp_path / f"{name}-answers.csv")
        found[name] = rmse, answers
    assert found["units"][0] < 0.5 < float(unit.std())
    assert found["cents"][0] == pytest.approx(100 * found["units"][0], rel=0.02)
    np.testing.assert_allclose(found["cents"][1]["answer"], 100 * found["units"][1]["answer"] + 5000, atol=1)


def test_only_numbers_of_a_table_are_standardised() -> None:
    problem = fields_problem()
    assert problem.standard(problem.primary) == (0.0, 1.0)  # as MovieLens is, whose figures are in the tables
    other = replace(problem, standardised=True)
    assert other.standard(other.sides[0]) == (0.0, 1.0)
    same = replace(other, labels={"stars": torch.full_like(other.labels["stars"], 3.0)})
    assert same.standard(same.primary) == (3.0, 1.0)


def test_the_example_of_the_card_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs" / "methods" / "auxiliary.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.setattr("tutelage.recipes.auxiliary.pocket", lambda: settings(budget=Budget(steps=2)))
    names = {"out": tmp_path}
    exec(block, names)
    assert (tmp_path / "report.html").is_file()
    for word in re.findall(r"--([\w.]+)", text):
        flag = re.sub(r"^(weighting_options)\..*", r"\1", word)
        assert f"--{flag}" in {
            option for action in parser_for("auxiliary")._actions for option in action.option_strings
        }
