"""From files on disk to label sets, through the command line; kills, methods, and the choice on validation."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from tutelage import cli, recipes
from tutelage.data.table import ImageTable
from tutelage.generations import IteratedSettings, NoisyStudentSettings
from tutelage.metrics import label_sets
from tutelage.models import load_model
from tutelage.recipes import multilabel as recipe
from tutelage.recipes.multilabel import (
    DistilledSettings,
    MultilabelSettings,
    SearchSettings,
    evaluation,
    grids_task,
    lesson,
    methods,
    multilabel_task,
    training,
)
from tutelage.recipes.multilabel.choice import choose
from tutelage.recipes.multilabel.lesson import balanced, new_model, training_rows
from tutelage.recipes.multilabel.training import TrainedCandidate, candidates
from tutelage.reports.multilabel import advice, verdict
from tutelage.training import Budget, Log, Stages

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True, scope="module")
def _quickly():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "RESAMPLES", 10)
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


def settings(**changed: Any) -> MultilabelSettings:
    small = replace(
        recipe.pocket(),
        budget=Budget(steps=14),
        iterated=IteratedSettings(3, 2, rho=0.1),
        model=replace(recipe.pocket().model, options={"width": 8, "depth": 1}),
    )
    return replace(small, **changed)


def grids(seed: int = 0) -> recipe.MultilabelTask:
    return grids_task(seed, train=160, val=60, test=60)


# --- a run's folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> recipes.Run:
    return recipes.run("multilabel", grids(), settings(), tmp_path_factory.mktemp("grids") / "run", quiet=True)


def test_the_folder_says_the_same_everywhere(run):
    metrics = json.loads((run.folder / "metrics.json").read_text())
    assert metrics == run.metrics
    assert metrics["pipeline"] == {"recipe": "multilabel", "title": "grids of digits", "method": "mile", "seed": 0}
    examples, labels = (pd.read_parquet(run.folder / f"{name}.parquet") for name in ("examples", "labels"))
    task = grids()
    model, facts = load_model(run.folder / "model")
    with torch.no_grad():
        scores = model(task.images.images.gather(range(280))).double().sigmoid().numpy()
    sets = label_sets(scores, facts["threshold"])
    assert [sorted(names) for names in examples["labels"]] == [[str(c) for c in np.flatnonzero(row)] for row in sets]
    assert all(np.diff(row).max(initial=0) <= 0 for row in examples["scores"])  # the surest first
    new = sets & ~task.given_NC.numpy()
    assert (examples["grown_by"] == new.sum(1)).all()
    assert len(labels) == new[task.images.rows("train")].sum() == metrics["labels"]["new"]
    truth = dict(zip(examples["id"], examples["truth"].str.split("|"), strict=True))
    assert (
        labels["right"] == [label in truth[id] for id, label in zip(labels["id"], labels["label"], strict=True)]
    ).all()
    assert metrics["test"]["chosen"]["mean_set_size"]["value"] == pytest.approx(
        sets[task.images.rows("test")].sum(1).mean()
    )


def test_generations_of_labels(run):
    labels = pd.read_parquet(run.folder / "labels.parquet")
    listed = pd.read_csv(run.folder / "relabel.csv", dtype={"id": str, "suspected": str})
    assert listed["suspicion"].is_monotonic_decreasing
    assert set(zip(listed["id"], listed["suspected"], strict=True)) == set(
        zip(labels["id"], labels["label"], strict=True)
    )
    assert not len(listed) or listed["reason"].str.contains(r"^the model names \w+, too \(\d+%\), (?:since|in)").all()
    known = labels["generation"].dropna()
    assert known.between(1, 2).all()  # two generations of five steps after four more
    assert len(run.metrics["generations"]["coverage"]) == 2
    assert "generation" not in labels["label"].tolist()


def test_the_report_stands_alone_and_is_the_same_again(run):
    html = (run.folder / "report.html").read_text()
    assert html.count("<h2") == 5
    assert "http" not in html.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert f"{run.metrics['test']['chosen']['f1']['value']:.3f}" in html
    assert recipes.report(run.folder).read_text() == html


def told(
    f1: tuple[float, float], value: float, judged_by: str = "all labels", threshold: float | None = 0.3, new: int = 9
) -> str:
    """The verdict on a model whose F1 lies between these."""
    chosen = {"threshold": threshold, "f1": {"low": f1[0], "high": f1[1]}}
    return verdict(
        {
            "test": {"judged_by": judged_by, "chosen": chosen},
            "validation": {"criterion": "added_label_score", "value": value},
            "anchors": {"one_right_label": {"f1": 0.5}, "every_label": {"f1": 0.4}},
            "labels": {"new": new},
        }
    )


def test_the_verdict_is_by_the_test_where_all_labels_are_known_and_else_by_validation():
    assert "worth having: their F1 is above the 0.500 of naming one right label alone" in told((0.51, 0.6), 0.0)
    assert "not worth having: their F1 is below the 0.500" in told((0.3, 0.49), 9.0)
    assert "This test cannot tell" in told((0.45, 0.55), 9.0)
    assert "they score 1.5 on validation" in told((0.9, 0.9), 1.5, "the given labels")
    assert "no better than naming every class" in told((0.9, 0.9), 1.0, "the given labels")
    assert told((0.9, 0.9), 0.0, "the given labels", new=0) == "It adds no label to the given ones."
    assert told((0.9, 0.9), 1.5, threshold=None) == ""


def test_the_verdict_leads_the_report_and_ends_the_run(run):
    said = verdict(run.metrics)
    assert said in recipe.RECIPE.closing(run.metrics)
    page = (run.folder / "report.html").read_text()
    assert page.index('id="headline"') < page.index(said) < page.index("<table")


class Cut(Exception):
    pass


class Nothing:
    """An augmentation that changes nothing, and fails at one call of all."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.calls = 0

    def config(self) -> dict[str, str]:
        return {"name": "nothing"}

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == self.at:
            raise Cut
        return images


@pytest.mark.parametrize("step", [7, 18, 23, 27])
def test_a_run_that_is_cut_and_run_again_ends_in_the_same_figures(run, step, tmp_path, monkeypatch):
    """Fourteen steps of plain training, and two generations after two more: 18 begins an imitation, 23 a generation."""
    monkeypatch.setattr("tutelage.training.checkpoint.due", lambda *_: True)
    nothing = Nothing(step)
    monkeypatch.setattr(training, "augmentation_of", lambda settings: nothing)
    with pytest.raises(Cut):
        recipes.run("multilabel", grids(), settings(), tmp_path, quiet=True)
    assert recipes.run("multilabel", grids(), settings(), tmp_path, quiet=True).metrics == run.metrics
    kept = nothing.calls
    recipes.run("multilabel", grids(), settings(), tmp_path, quiet=True)  # nothing is trained again
    assert nothing.calls == kept


# --- methods


@pytest.mark.parametrize("method", ["softmax", "sigmoid", "elr", "hard", "soft"])
def test_every_method_fills_the_folder(method, tmp_path):
    found = recipes.run("multilabel", grids(), settings(method=method), tmp_path, quiet=True)
    assert found.report.is_file()
    one = method not in ("sigmoid",)
    assert (found.metrics["validation"]["threshold"] is None) == one
    assert set(found.metrics["test"]["chosen"]) >= {"f1", "mean_set_size"}
    if one:
        assert found.metrics["test"]["chosen"]["mean_set_size"]["value"] == 1


def unlabelled_grids() -> recipe.MultilabelTask:
    """Grids of which every second one of the training part has no label."""
    task = grids()
    rows = task.images.rows("train")[::2]
    table = task.images.table.copy()
    for column, value in (("label", -1), ("split", "unlabelled")):
        table.iloc[rows.numpy(), table.columns.get_loc(column)] = value
    given_NC = task.given_NC.clone()
    given_NC[rows] = False
    return replace(task, images=ImageTable(task.images.images, table), given_NC=given_NC)


def spied(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What each training of a run was asked to do."""
    seen: list[dict[str, Any]] = []
    real = methods.fit

    def spy(model, train, **others):
        seen.append({"model": model, "size": len(train), "name": others["plan"].name, **others})
        return real(model, train, **others)

    for module in (methods, sys.modules["tutelage.generations.noisy_student"]):
        monkeypatch.setattr(module, "fit", spy)
    return seen


def test_a_student_learns_what_a_larger_teacher_says_of_all_images(monkeypatch, tmp_path):
    seen, log = spied(monkeypatch), Log(None, quiet=True)
    larger = replace(recipe.pocket().model, options={"width": 16, "depth": 1})
    asked = settings(method="distilled", distilled=DistilledSettings(larger, temperature=2.0), rebalance=0.5)
    training.train(unlabelled_grids(), asked, Stages(tmp_path, log), log)
    teacher, student = seen
    assert [teacher["name"], student["name"]] == ["teacher", "student"]
    assert (teacher["size"], student["size"]) == (80, 160)
    assert teacher["model"].spec.options["width"] == 2 * student["model"].spec.options["width"]
    (said,) = student["signals"]
    assert said.teacher._held[0] is teacher["model"]
    assert said.temperature == 2.0
    with pytest.raises(ValueError, match=r"distilled.self_supervised='moco.pth' is for a teacher of its own model"):
        DistilledSettings(self_supervised="moco.pth")


def test_noisy_students_follow_one_another(monkeypatch, tmp_path):
    seen = spied(monkeypatch)
    asked = settings(method="noisy_student", noisy_student=NoisyStudentSettings(students=2, confidence=0.0))
    run = recipes.run("multilabel", unlabelled_grids(), asked, tmp_path, quiet=True)
    assert [(call["name"], call["size"]) for call in seen[1:]] == [
        ("teacher", 80),
        ("student-1", 160),
        ("student-2", 160),
    ]
    assert run.metrics["pipeline"]["method"] == "noisy_student"
    assert "noisy student" in run.report.read_text()
    with pytest.raises(ValueError, match="noisy_student' needs images without a label"):
        recipes.run("multilabel", grids(), asked, tmp_path / "none", quiet=True)
    with pytest.raises(ValueError, match=r"rebalance=0.5: noisy student balances .* by noisy_student.per_class"):
        recipes.run("multilabel", unlabelled_grids(), replace(asked, rebalance=0.5), tmp_path / "both", quiet=True)


def test_a_domain_that_is_left_out_is_the_test(shop, tmp_path):
    frame = pd.read_csv(shop / "shop.csv", keep_default_na=False)
    frame["style"] = np.where(np.arange(90) % 3 == 0, "sketch", np.where(np.arange(90) % 3 == 1, "photo", "clip art"))
    frame["split"] = "train"  # which is not used
    path = shop / "styles.csv"
    frame.to_csv(path, index=False)
    task = multilabel_task(str(path), settings(radius=-1), recipe_columns(), domain="style", leave_out="sketch")
    table = task.images.table
    labelled = table["label"] >= 0
    sketch = table["domain"] == "sketch"
    assert (table["split"][labelled & sketch] == "test").all()
    assert set(table["split"][labelled & ~sketch]) == {"train", "val"}
    assert set(table["split"][~labelled & sketch]) == {"left_out"}  # nothing of the domain is seen in training
    assert set(table["split"][~labelled & ~sketch]) <= {"unlabelled"}
    by_image = dict(zip(frame["picture"], frame["style"], strict=True))
    assert [by_image[Path(image).name] for image in table["image"]] == table["domain"].tolist()
    with pytest.raises(ValueError, match="leave_out='cartoon': the domains are clip art, photo, sketch"):
        multilabel_task(str(path), settings(radius=-1), recipe_columns(), domain="style", leave_out="cartoon")
    with pytest.raises(ValueError, match="domain='style' and leave_out=None belong together"):
        multilabel_task(str(path), settings(radius=-1), recipe_columns(), domain="style")
    with pytest.raises(ValueError, match="grids of digits have no domains"):
        multilabel_task("digits", settings(), domain="style", leave_out="sketch")


def test_mile_takes_as_many_backward_passes_as_sigmoid(monkeypatch, tmp_path):
    from tutelage.weighting import Weighting

    passes: list[int] = []
    real = Weighting.backward
    monkeypatch.setattr(Weighting, "backward", lambda *told: (passes.append(1), real(*told))[1])
    log = Log(None, quiet=True)
    training.train(grids(), settings(), Stages(tmp_path / "mile", log), log)
    mile = len(passes)
    training.train(grids(), settings(method="sigmoid"), Stages(tmp_path / "sigmoid", log), log)
    assert mile == len(passes) - mile == 14


def test_sigmoids_start_at_one_label_and_softmaxes_do_not():
    task = grids()
    assert (new_model(task, settings()).backbone.fc.bias == -torch.log(torch.tensor(10.0))).all()
    assert (new_model(task, settings(method="softmax")).backbone.fc.bias != -torch.log(torch.tensor(10.0))).all()


@pytest.mark.parametrize("layout", ["moco_v2", "simclr_v2"])
def test_an_encoder_from_self_supervision_sees_what_it_was_trained_on(layout, monkeypatch):
    monkeypatch.setattr(lesson, "load_self_supervised", lambda encoder, path: layout)
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    seen = new_model(grids(), settings(self_supervised="weights.pth")).pixels(images)
    assert torch.equal(seen, images / 255) == (layout == "simclr_v2")


def test_a_share_of_the_training_examples():
    task = grids()
    few = training_rows(task, settings(share=0.1))
    assert len(few) == sum(-(-n // 10) for n in torch.bincount(task.images.labels[task.images.rows("train")]).tolist())


def test_balanced_classes_are_drawn_anew_in_each_pass():
    """80 of class 0, 20 of class 1, 10 without a label: each class comes 50 times a pass, and everyone sooner or later."""
    labels = torch.tensor([0] * 80 + [1] * 20 + [-1] * 10)
    passing, places = balanced(labels, settings(rebalance=1.0)), torch.arange(110)
    seen, counts = set(), torch.zeros(3)
    for number in range(30):
        drawn = passing(places, number)
        assert torch.equal(drawn, passing(places, number))
        counts += torch.bincount(labels[drawn] + 1)
        assert sorted(drawn[labels[drawn] < 0].tolist()) == list(range(100, 110))
        seen |= set(drawn.tolist())
    assert seen == set(range(110))
    torch.testing.assert_close(counts / 30, torch.tensor([10.0, 50.0, 50.0]), atol=2.0, rtol=0)


@pytest.mark.parametrize("method", ["mile", "sigmoid"])
def test_balanced_classes_reach_the_training(method, tmp_path, monkeypatch):
    task, seen = grids(), []
    task.images.labels[task.images.rows("train")[:120]] = 0
    task.images.table["label"] = task.images.labels.numpy()
    task.given_NC = torch.nn.functional.one_hot(task.images.labels, 10).bool()
    fetch = type(task.images.subset(torch.arange(1))).batch
    monkeypatch.setattr(
        type(task.images.subset(torch.arange(1))),
        "batch",
        lambda data, places: (seen.append((len(data), batch := fetch(data, places))), batch)[1],
    )
    chosen = settings(method=method, rebalance=1.0, budget=Budget(steps=10))  # four passes
    training.train(task, chosen, Stages(tmp_path, Log(None)), Log(None, quiet=True))
    counts = torch.bincount(torch.cat([batch["label"] for size, batch in seen if size == 160]), minlength=10)
    assert counts.max() < 2 * counts[counts > 0].min()  # of 120 beside four to five each


def test_a_search_tries_every_combination():
    plain, *tried = candidates(settings(search=SearchSettings(rhos=(0.1, 0.2), imitations=(1, 2, 3))))
    assert [(s.iterated.rho, s.iterated.interaction, s.iterated.imitation) for s in tried] == [
        (rho, 3, k) for rho in (0.1, 0.2) for k in (1, 2, 3)
    ]
    assert [s.method for s in (plain, *tried)] == ["sigmoid", *["mile"] * 6]
    assert [s.method for s in candidates(settings(method="elr"))] == ["softmax", "elr"]
    assert candidates(settings(method="sigmoid", search=SearchSettings(rhos=(0.1, 0.2)))) == [
        settings(method="sigmoid", search=SearchSettings(rhos=(0.1, 0.2)))
    ]


# --- the choice


def trained(name: str, scores_NC: torch.Tensor) -> TrainedCandidate:
    return TrainedCandidate(name, settings(), scores_NC, Path(), None, [])


def test_the_choice_does_not_fall_for_naming_everything():
    """Four models: one knows the truth, one a part of it, one names everything, one the best class alone."""
    task = grids_task(3, train=10, val=3000, test=10)
    truth_NC, best = task.truth_NC.float(), task.images.labels
    rng = torch.Generator().manual_seed(0)
    noise = 0.02 * torch.rand(truth_NC.shape, generator=rng)
    # The best class is the grid's centre where it can be known; here, a digit of the truth at random.
    lead = torch.nn.functional.one_hot((truth_NC + torch.rand(truth_NC.shape, generator=rng)).argmax(1), 10) * 0.1
    part = truth_NC * (torch.rand(truth_NC.shape, generator=rng) < 0.4)
    found = [
        trained("everything", 0.8 + lead + noise),
        trained("one", 0.1 * lead + 0.9 * (lead > 0) * 0.5 + 0 * noise),
        trained("part", 0.02 + 0.8 * part + lead + noise / 10),
        trained("truth", 0.02 + 0.8 * truth_NC + lead + noise / 10),
    ]
    choice = choose(task, [replace(each, settings=settings(threshold=0.5)) for each in found])
    assert choice.trained.name == "truth"
    by_name = {entry["name"]: entry["added_label_score"] for entry in choice.tried}
    assert by_name["everything"] == 1.0
    assert by_name["one"] == 0.0
    assert by_name["truth"] > by_name["part"]
    assert len(best) == 3020


def test_plain_sigmoids_are_served_where_the_generations_lose_the_labels(tmp_path):
    """A threshold above every sigmoid teaches a student that there is nothing."""
    lost = settings(iterated=IteratedSettings(3, 2, rho=0.99), budget=Budget(steps=60))
    found = recipes.run("multilabel", grids(), lost, tmp_path, quiet=True)
    choice = found.metrics["choice"]
    assert (choice["plain"], choice["asked"]) == ("sigmoid", "mile")
    values = {name: each["value"] for name, each in choice["candidates"].items()}
    worthless = values["sigmoid"] <= 1 < values["mile"]
    surely = choice["candidates"]["mile"]["better_in"] >= 0.9
    assert choice["chosen"] == ("mile" if surely or worthless else "sigmoid")
    assert choice["candidates"]["mile"]["gain"]["value"] == pytest.approx(values["mile"] - values["sigmoid"])
    assert found.metrics["validation"]["chosen"].startswith(choice["chosen"])
    page = found.report.read_text()
    assert "Served: " in page
    assert "iterated learning is at " in page
    assert "Served: " in repr(found)


def test_methods_of_one_class_are_judged_by_their_accuracy():
    task = grids()
    right = torch.nn.functional.one_hot(task.images.labels, 10).float()
    plain = replace(trained("softmax", right.roll(1, 1)), settings=settings(method="softmax"))
    asked = replace(trained("elr", right), settings=settings(method="elr"))
    choice = choose(task, [plain, asked])
    assert (choice.criterion, choice.value, choice.served.chosen, choice.threshold) == ("accuracy", 1.0, "elr", None)
    choice = choose(task, [replace(plain, scores_NC=right), asked])
    assert (choice.served.chosen, choice.asked.name) == ("softmax", "elr")


def test_what_the_served_method_has_is_what_is_advised():
    assert "rho" in advice({"chosen": "mile", "asked": "mile"})
    assert advice({"chosen": "sigmoid", "asked": "mile"}) == "more training"
    assert "--method mile" in advice({"chosen": "sigmoid", "asked": "sigmoid"})


def test_several_given_labels_are_judged_by_f1():
    task = grids()
    task.given_NC = task.truth_NC
    good, bad = task.truth_NC.float() * 0.6, 1 - task.truth_NC.float()
    choice = choose(task, [trained("bad", bad), trained("good", good)])
    assert (choice.trained.name, choice.criterion, choice.value) == ("good", "f1", 1.0)


def test_all_labels_of_validation_choose_where_the_settings_say_so():
    """A threshold that the one given label would set lower is set by what is true."""
    task = grids()
    truth = task.truth_NC.float()
    scores_NC = 0.3 + 0.3 * truth + 0.001 * torch.arange(10)
    each = trained("mile", scores_NC)
    by_truth = replace(each, settings=settings(choose_by="truth"))
    choice = choose(task, [by_truth])
    assert (choice.criterion, choice.value, choice.threshold) == ("f1", 1.0, 0.35)
    val = task.images.rows("val")
    assert task.truth_NC is not None
    task.truth_NC[val[1:]] = False  # known of one image alone
    assert choose(task, [by_truth]).served.judged_on == 1
    task.truth_NC[val] = False
    with pytest.raises(ValueError, match="all labels are known of no validation image"):
        choose(task, [by_truth])
    assert choose(task, [each]).criterion == "added_label_score"


def test_real_labels_judge_a_run(tmp_path, command):
    rng = np.random.default_rng(0)
    rows, sets = [], []
    for number in range(60):
        label = number % 3
        name = f"ILSVRC2012_val_{number + 1:08}.png" if number >= 30 else f"other-{number}.png"
        Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(tmp_path / name)
        rows.append({"image": name, "label": label, "split": "train" if number < 30 else ["val", "test"][number % 2]})
        sets.append([label, 2])
    pd.DataFrame(rows).to_csv(tmp_path / "images.csv", index=False)
    (tmp_path / "real.json").write_text(json.dumps(sets))
    flags = (
        "--out",
        str(tmp_path / "run"),
        "--real",
        str(tmp_path / "real.json"),
        "--choose_by",
        "truth",
        "--radius",
        "-1",
    )
    code, _, err = command(
        "multilabel", str(tmp_path / "images.csv"), *flags, "--scale", "pocket", "--budget.steps", "14",
        "--iterated.interaction", "3", "--iterated.imitation", "2",
    )  # fmt: skip
    assert code == 0, err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["test"]["judged_by"] == "all labels"
    assert metrics["test"]["labels_per_image"] == pytest.approx(5 / 3)
    assert metrics["validation"]["criterion"] == "f1"
    assert metrics["choice"]["judged_on"] == 15
    assert pd.read_parquet(tmp_path / "run" / "labels.parquet")["right"].isna().all()  # of training images nobody knows
    code, _, err = command(
        "multilabel", str(tmp_path / "images.csv"), "--out", str(tmp_path / "b"), "--choose_by", "truth"
    )
    assert code != 0
    assert "choose_by='truth' needs all labels of the validation images; give truth or real" in err


def test_several_given_labels_train_sigmoids_alone(tmp_path):
    task = grids()
    task.given_NC = task.truth_NC
    assert (
        recipes.run("multilabel", task, settings(), tmp_path / "mile", quiet=True).metrics["validation"]["criterion"]
        == "f1"
    )
    with pytest.raises(ValueError, match="method='softmax' learns one label an image"):
        recipes.run("multilabel", task, settings(method="softmax"), tmp_path / "softmax", quiet=True)


# --- from files, through the command line


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 90 grids with a manifest: names for digits, one of two labels a cell, all of them in another column."""
    folder = tmp_path_factory.mktemp("shop")
    task = grids_task(1, train=84, val=3, test=3)
    rows = []
    for row in range(90):
        name = f"{row}.png"
        Image.fromarray(task.images.images[row].permute(1, 2, 0).numpy()).save(folder / name)
        label = f"Digit {int(task.images.labels[row])}" if row % 15 else ""
        rows.append(
            {"picture": name, "verdict": label, "all": "|".join(f"digit {c}" for c in task.truth_NC[row].nonzero())}
        )
    rows[3]["verdict"] = "Digit 4 | digit 7"
    frame = pd.DataFrame(rows)
    frame["all"] = frame["all"].str.replace(r"tensor\(\[(\d)\]\)", r"\1", regex=True)
    frame.to_csv(folder / "shop.csv", index=False)
    return folder


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*words: object) -> tuple[int, str, str]:
        try:
            cli.main([str(word) for word in words])
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        found = capsys.readouterr()
        return code, found.out, found.err

    return call


COLUMNS = ("--columns.image", "picture", "--columns.label", "verdict")
SMALL = (
    *("--scale", "pocket", "--budget.steps", "8", "--iterated.interaction", "2", "--iterated.imitation", "2"),
    *("--model.options", '{"width": 8, "depth": 1}', "--radius", "-1"),
)


def test_train_and_predict_on_files(shop, tmp_path, command):
    out = tmp_path / "run"
    code, told, err = command("multilabel", shop / "shop.csv", "--out", out, "--truth", "all", *COLUMNS, *SMALL)
    assert code == 0, err
    assert told.strip() == f"report: {out / 'report.html'}"
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["data"]["classes"] == [f"digit {c}" for c in range(10)]
    assert metrics["test"]["judged_by"] == "all labels"
    assert metrics["data"]["counts"]["unlabelled"] == {"labelled": 0, "unlabelled": 6}
    assert metrics["validation"]["criterion"] == "f1"  # one image has two labels
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["truth"] == "all"
    again = tmp_path / "again"
    assert command("multilabel", "--config", out / "config.yaml", "--out", again)[0] == 0
    assert json.loads((again / "metrics.json").read_text()) == metrics

    for name in ("new.parquet", "new.csv"):
        code, told, err = command(
            "predict", out, shop / "shop.csv", "--out", tmp_path / name, "--columns.image", "picture"
        )
        assert code == 0, err
        assert told.startswith("90 images scored, ")
    table, text = pd.read_parquet(tmp_path / "new.parquet"), pd.read_csv(tmp_path / "new.csv")
    examples = pd.read_parquet(out / "examples.parquet")
    assert (
        ["|".join(row) for row in table["labels"]]
        == text["labels"].tolist()
        == ["|".join(r) for r in examples["labels"]]
    )
    assert command("predict", out, shop / "shop.csv", "--fpr", "0.01", *COLUMNS[:2])[2].count("leave fpr out") == 1
    assert command("predict", out, shop, "--out", tmp_path / "folder.csv")[0] == 0
    assert len(pd.read_csv(tmp_path / "folder.csv")) == len([*shop.rglob("*.png"), *shop.rglob("*.jpg")]) > 0
    assert command("report", out)[0] == 0


def test_a_folder_with_a_subfolder_for_each_class(shop, tmp_path):
    for row in range(30):
        target = tmp_path / "data" / ["cat", "dog"][row % 2]
        target.mkdir(parents=True, exist_ok=True)
        (target / f"{row}.png").write_bytes((shop / f"{row}.png").read_bytes())
    task = multilabel_task(str(tmp_path / "data"), settings(radius=-1))
    assert task.classes == ["cat", "dog"]
    assert task.given_NC.sum(0).tolist() == [15, 15]
    assert set(task.images.table["split"]) == {"train", "val", "test"}


def test_no_new_label_is_a_result(tmp_path):
    """Of plain colours a model names what was given and no more; images that lie in files have no picture to show then."""
    for row in range(90):
        name = ["red", "green"][row % 2]
        (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), name).save(tmp_path / "data" / name / f"{row}.png")
    small = settings(method="sigmoid", radius=-1, budget=Budget(steps=60))
    done = recipes.run(
        "multilabel", multilabel_task(str(tmp_path / "data"), small), small, tmp_path / "run", quiet=True
    )
    assert done.metrics["labels"] == {"new": 0, "images_that_grew": 0}
    assert pd.read_parquet(done.folder / "labels.parquet").empty
    assert "No set grew." in (done.folder / "report.html").read_text()
    assert pd.read_csv(done.folder / "relabel.csv").empty


def test_cells_that_name_nothing_and_labels_of_no_image(shop, tmp_path):
    """A cell of dividers has no label; a label that only a missing file has is no class; of equal ids the first counts."""
    frame = pd.read_csv(shop / "shop.csv", dtype=str).fillna("")
    frame.loc[4, "verdict"] = " | "
    frame.loc[len(frame)] = ["nowhere.png", "unicorn", "unicorn"]
    frame.loc[len(frame)] = [frame["picture"][1], "digit 9", "digit 9"]
    messy = Path(shutil.copytree(shop, tmp_path / "shop")) / "messy.csv"
    frame.to_csv(messy, index=False)
    task = multilabel_task(str(messy), settings(radius=-1), recipe_columns(), "all")
    assert task.classes == [f"digit {c}" for c in range(10)]
    row = task.images.table.set_index("id").loc["4.png"]
    assert (row["label"], row["split"]) == (-1, "unlabelled")
    assert not task.given_NC[4].any()
    assert task.problems.counts() == {"missing": 1, "duplicate_id": 1}
    assert task.truth_NC is not None
    assert [task.classes[c] for c in task.truth_NC[1].nonzero()] == frame["all"][1].split("|")


def test_unlabelled_images_get_labels_too(shop, tmp_path):
    task = multilabel_task(str(shop / "shop.csv"), settings(radius=-1), recipe_columns())
    found = recipes.run("multilabel", task, settings(iterated=IteratedSettings(3, 3, rho=0.05)), tmp_path, quiet=True)
    labels = pd.read_parquet(tmp_path / "labels.parquet")
    assert (labels["given"] == "").any()
    assert found.metrics["test"]["judged_by"] == "the given labels"


def recipe_columns():
    from tutelage.data import Columns

    return Columns(image="picture", label="verdict")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("nowhere.csv",), "there is no manifest"),
        (("shop.csv", "--truth", "everything"), "has no column 'everything'"),
        (("empty.csv",), "empty.csv is empty: it needs a line of column names"),
        (("digits", "--method", "softmax", "--threshold", "0.3"), "method='softmax' names the best class alone"),
        (("shop.csv", "--training.lr", "1e30", *SMALL), "the learning rate there was 1e+30: lower "),
        (("shop.csv", "--val", "0"), "val=0.0 must be a number in (0, 1)"),
        (("digits", "--truth", "all"), "truth='all': grids of digits know all labels"),
        (("digits", "--image_size", "25"), "needs a multiple of 3"),
        (("digits", "--iterated.rho", "1"), "rho=1.0 must be a number in [0, 1)"),
        (("digits", "--budget.steps", "3", "--iterated.interaction", "9"), "and the budget has 3"),
        (("digits", "--method", "best"), "method: Expected a Literal"),
        (("digits", "--share", "2"), "share=2.0 must be a number in (0, 1]"),
        (("digits", "--model.name", "pocket_patches", "--image_size", "27"), "no multiple of patch_size=8"),
        (("digits", "--self_supervised", "moco.pth"), "self_supervised='moco.pth': there is no such file"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*examples seen up to step .* were left out:UserWarning")
def test_mistakes_are_answered_in_one_line(words, says, shop, tmp_path, command):
    words = (shop / words[0] if words[0].endswith(".csv") else words[0], *words[1:])
    (shop / "empty.csv").touch()
    manifest = COLUMNS if str(words[0]).endswith("shop.csv") else ()
    code, _, err = command("multilabel", *words, "--out", tmp_path / "run", "--scale", "pocket", *manifest)
    assert (code, says in err) == (2, True), err
