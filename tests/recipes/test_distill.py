"""Distillation from end to end: parts, noise, every method, a run's folder, and what an interruption leaves of it."""

import json
import os
import re
import shutil
import signal
import sys
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
from tutelage.data.digits import handwritten_digits
from tutelage.data.drawn import PARTS
from tutelage.data.table import ImageArray, ImageTable
from tutelage.metrics import auroc, bootstrap, paired_bootstrap
from tutelage.models import ModelSettings, load_model
from tutelage.recipes.distill import (
    CoresetSettings,
    DistillSettings,
    DistillTask,
    NoiseSettings,
    Pipeline,
    Shares,
    TeacherSettings,
    distill_task,
    evaluation,
    pocket,
)
from tutelage.recipes.distill.rehearsal import rehearse
from tutelage.recipes.distill.settings import kd_weights
from tutelage.recipes.distill.task import divided, with_noise
from tutelage.recipes.distill.taught import doubt_of
from tutelage.signals import Objective
from tutelage.training import Budget, Interrupted, Log
from tutelage.weighting import WEIGHTINGS, Equal, Fixed
from tutelage.weighting.settings import AdaptSettings

pytestmark = pytest.mark.filterwarnings("ignore::tutelage.hypergradient.NeumannWarning")
NOISE = NoiseSettings("symmetric", 0.4)
SMALL = ModelSettings("pocket_mlp", options={"widths": [6]})
FILES = {
    *("config.yaml", "examples.parquet", "gallery.safetensors", "importance.parquet", "log.jsonl", "metrics.json"),
    *("model", "problems.csv", "report.html", "run.json", "run.lock", "stages", "relabel.csv", "weights.parquet"),
    *("duplicates.csv", "examples.csv", "importance.csv", "weights.csv"),
}


@pytest.fixture(autouse=True, scope="module")
def _quickly():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "bootstrap", partial(bootstrap, resamples=20))
        patch.setattr(evaluation, "paired_bootstrap", partial(paired_bootstrap, resamples=20))
        patch.setattr("tutelage.training.checkpoint.due", lambda *_: True)
        yield


QUICKLY: dict[str, dict[str, Any]] = {
    **{name: {"neumann_steps": 1} for name in ("auxilearn", "joint", "maoal")},
    "crust": {"radius": None, "start": 1},
    "superloss": {"regularisation": 0.25},
}


def settings(**changed: Any) -> DistillSettings:
    base = pocket()
    given = {"student": SMALL, "teachers": (TeacherSettings(SMALL, budget=Budget(epochs=1)),)}
    given |= {"adapt": AdaptSettings(every=1, batch_size=8), "trials": 2, "weighting_defaults": QUICKLY}
    return replace(base, **given | {"budget": Budget(epochs=2), "noise": NOISE} | changed)


def digits(count: int = 200) -> ImageTable:
    """Every ninth digit, the last quarter of them by other writers."""
    whole = handwritten_digits()
    rows = np.linspace(0, len(whole) - 1, count).round().astype(int)
    table = whole.table.iloc[rows]
    return ImageTable(ImageArray(whole.images.gather(rows.tolist())), table.assign(true_label=table["label"]))


def tiny(given: DistillSettings | None = None) -> DistillTask:
    given = given or settings()
    task = DistillTask("digits", divided(digits(), given.shares), tuple(map(str, range(10))))
    return with_noise(task, given.noise, given.seed)


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> recipes.Run:
    given = settings()
    return recipes.run("distill", tiny(given), given, tmp_path_factory.mktemp("distill") / "run", quiet=True)


def pipeline(out: Path, **changed: Any) -> Pipeline:
    given = settings(**changed)
    return Pipeline(tiny(given), given, out, Log(None, quiet=True))


# ------------------------------------------------------------------------------------------------ what is learned from


def test_parts_are_stratified_and_what_is_there_is_kept():
    images = digits()
    found = divided(images, Shares(held_out=0.2, val=0.1, seed=3)).table
    assert (found["split"] == "test").equals(images.table["split"] == "test")
    counts = found["split"].value_counts()
    rest = counts.sum() - counts["test"]
    assert counts["held_out"] == pytest.approx(0.2 * rest, abs=10)  # less than one of each class
    assert counts["val"] == pytest.approx(0.1 * rest, abs=10)
    assert found[found["split"] == "held_out"]["label"].nunique() == 10
    again = divided(images, Shares(held_out=0.2, val=0.1, seed=3)).table
    assert again.equals(found)
    assert not divided(images, Shares(held_out=0.2, val=0.1, seed=4)).table["split"].equals(found["split"])
    given = images.table["split"].to_numpy(object, copy=True)
    given[:40], given[40:60], given[60:100] = "held_out", "val", "train"
    told = divided(images.with_split(given), Shares(val=0.1)).table["split"]
    assert (told[:40] == "held_out").all()
    assert (told[60:100] == "train").all()
    assert (told == "held_out").sum() == 40
    without_test = divided(
        images.with_split(np.full(200, "unassigned", object)), Shares(val=0.2, held_out=0.2, test=0.5)
    ).table
    assert (without_test["split"] == "test").sum() == pytest.approx(100, abs=10)


def test_parts_that_cannot_be_are_named():
    split = digits().table["split"].to_numpy(object, copy=True)
    with pytest.raises(ValueError, match="split 'teacher_val' has no use here; allowed: train, held_out, val, test"):
        divided(digits().with_split(np.where(split == "test", "teacher_val", split)), Shares())
    with pytest.raises(
        ValueError, match=r"part 'val' has 0 images; give at least 8, by more .* larger --shares\.val than"
    ):
        divided(digits(), Shares(val=0.001))
    for wrong in ({"held_out": 0.0}, {"held_out": 0.6, "val": 0.4}, {"test": 1.0}):
        with pytest.raises(ValueError, match=r"shares\.(held_out|test)="):
            Shares(**wrong)


@pytest.mark.parametrize("held_out", [False, True])
def test_noise_is_in_the_training_part_and_the_truth_is_kept(held_out):
    clean = tiny(settings(noise=NoiseSettings()))
    noisy = with_noise(clean, NoiseSettings("symmetric", 0.5, held_out=held_out), seed=1)
    assert torch.equal(noisy.judged_by(), clean.labels)
    wrong = noisy.labels != clean.labels
    for part in PARTS:
        share = float(wrong[noisy.images.rows(part)].double().mean())
        noisy_part = part == "train" or (held_out and part != "test")
        assert (share == pytest.approx(0.5, abs=0.25)) if noisy_part else (share == 0.0), part
    assert torch.equal(
        with_noise(clean, NoiseSettings("symmetric", 0.5, held_out=held_out), seed=1).labels, noisy.labels
    )
    fixed = NoiseSettings("symmetric", 0.5, held_out=held_out, seed=1)
    assert torch.equal(with_noise(clean, fixed, seed=7).labels, noisy.labels)


def test_class_conditional_noise_takes_each_class_for_the_next_or_is_a_matrix(tmp_path):
    clean = tiny(settings(noise=NoiseSettings()))
    train = clean.images.rows("train")
    shifted = with_noise(clean, NoiseSettings("class_conditional", 1.0), seed=0)
    assert torch.equal(shifted.labels[train], (clean.labels[train] + 1) % 10)
    matrix = np.eye(10)[::-1]
    np.savetxt(tmp_path / "matrix.csv", matrix, delimiter=",")
    mirrored = with_noise(clean, NoiseSettings("class_conditional", matrix=tmp_path / "matrix.csv"), seed=0)
    assert torch.equal(mirrored.labels[train], 9 - clean.labels[train])
    np.savetxt(tmp_path / "small.csv", np.eye(3), delimiter=",")
    with pytest.raises(ValueError, match=r"noise.matrix is \(3, 3\); give 10 x 10"):
        with_noise(clean, NoiseSettings("class_conditional", matrix=tmp_path / "small.csv"), seed=0)
    (tmp_path / "words.csv").write_text("a,b\n")
    with pytest.raises(ValueError, match="is no CSV file of numbers"):
        with_noise(clean, NoiseSettings("class_conditional", matrix=tmp_path / "words.csv"), seed=0)
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        with_noise(clean, NoiseSettings("class_conditional", matrix=tmp_path / "none.csv"), seed=0)
    with pytest.raises(ValueError, match=r"noise\.rate=1\.5 must be a number in \[0, 1\]"):
        NoiseSettings("symmetric", 1.5)


def test_peoples_labels_are_noise_where_there_are_some():
    clean = tiny(settings(noise=NoiseSettings()))
    people = clean.labels.clone()
    people[::2] = (people[::2] + 3) % 10
    people[1] = -1  # nobody said anything
    images = ImageTable(clean.images.images, clean.images.table.assign(worse_label=people.numpy()))
    noisy = with_noise(replace(clean, images=images), NoiseSettings("human", column="worse_label"), seed=0)
    train = clean.images.rows("train")
    expected = torch.where(people >= 0, people, clean.labels)
    assert torch.equal(noisy.labels[train], expected[train])
    with pytest.raises(ValueError, match=r"noise.column='worst': people's labels here are worse_label"):
        with_noise(replace(clean, images=images), NoiseSettings("human", column="worst"), seed=0)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """A folder of pictures of three shades, one of them broken, and a manifest of the same."""
    root = tmp_path_factory.mktemp("shades")
    rows = []
    for place in range(90):
        name = ["black", "grey", "white"][place % 3]
        (root / name).mkdir(exist_ok=True)
        path = f"{name}/{place}.png"
        pixels = np.random.default_rng(place).integers(100 * (place % 3), 100 * (place % 3) + 50, (16, 16, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(root / path)
        rows.append({"image": path, "label": name if place < 84 else ""})
    (root / "grey" / "broken.png").write_bytes(b"nothing")
    pd.DataFrame(rows).to_csv(root / "shades.csv", index=False)
    return root


def test_ones_own_images(photographs):
    given = settings(image_size=8, shares=Shares(held_out=0.2, val=0.2))
    folder = distill_task(str(photographs), replace(given, noise=NoiseSettings()))
    assert folder.classes == ("black", "grey", "white")
    assert len(folder.images) == 90
    assert folder.problems.counts() == {"no_label": 1, "format": 1}  # the broken picture, and the manifest
    assert folder.truth is None
    noisy = distill_task(str(photographs), given)
    assert noisy.truth is not None
    assert torch.equal(noisy.truth, folder.labels)
    manifest = distill_task(str(photographs / "shades.csv"), replace(given, noise=NoiseSettings()))
    assert manifest.classes == folder.classes
    assert len(manifest.images.rows("unlabelled")) == 6
    assert (manifest.labels[manifest.images.rows("unlabelled")] == -1).all()
    path = photographs / "images.csv"
    path.write_text("image\nblack/0.png\n")
    with pytest.raises(ValueError, match="has no column 'label'"):
        distill_task(str(path), given)


def test_copies_of_a_picture_count_once_wherever_they_stand(photographs):
    table = pd.read_csv(photographs / "shades.csv", keep_default_na=False)
    given = settings(image_size=8, shares=Shares(held_out=0.2, val=0.2), noise=NoiseSettings())
    copies = table.assign(image=[f"{Path(path).parent}/copy{Path(path).name}" for path in table["image"]])
    for path, copy in zip(table["image"], copies["image"], strict=True):
        shutil.copy(photographs / path, photographs / copy)
    copies.loc[3, "label"] = "white"  # the picture is black by its first row
    both = pd.concat([table, copies])
    both.to_csv(photographs / "copies.csv", index=False)
    task = distill_task(str(photographs / "copies.csv"), given)
    assert task.problems.counts() == {"near_duplicate": 90}
    for part in (*PARTS, "unlabelled"):
        assert set(task.images.table["image"][task.rows(part).numpy()]) <= set(table["image"])
    listed = task.duplicates.set_index("id")
    assert len(listed) == 180
    assert listed.index[listed["conflict"]].tolist() == [table["image"][3], copies["image"][3]]
    assert listed["label"][[table["image"][3], copies["image"][3], table["image"][89]]].tolist() == [
        "black",
        "white",
        "",
    ]
    both.assign(split=["train"] * 60 + ["held_out"] * 9 + ["val"] * 9 + ["test"] * 12 + ["test"] * 90).to_csv(
        photographs / "copies.csv", index=False
    )
    with pytest.raises(ValueError, match="part 'test' has 6 images; give at least 8"):
        distill_task(str(photographs / "copies.csv"), given)
    both.assign(split=["train"] * 60 + ["held_out"] * 8 + ["val"] * 8 + ["test"] * 14 + ["test"] * 90).to_csv(
        photographs / "copies.csv", index=False
    )
    task = distill_task(str(photographs / "copies.csv"), given)  # a split of one's own: the first row stays where it is
    assert {part: len(task.rows(part)) for part in PARTS} == {"train": 60, "held_out": 8, "val": 8, "test": 8}
    assert len(distill_task(str(photographs / "copies.csv"), replace(given, radius=-1)).rows("test")) == 92
    for copy in copies["image"]:
        (photographs / copy).unlink()
    (photographs / "copies.csv").unlink()


def test_built_in_data_and_what_is_missing():
    task = distill_task("digits", pocket())
    assert {part: len(task.images.rows(part)) for part in PARTS} == {
        "train": 1013, "held_out": 200, "val": 135, "test": 449}  # fmt: skip
    with pytest.raises(FileNotFoundError, match="data='cifar10' needs the folder of its files"):
        distill_task("cifar10", pocket())
    with pytest.raises(ValueError, match="image_size=32: the digits have 8 pixels"):
        distill_task("digits", DistillSettings())


# ------------------------------------------------------------------------------------------------------- what is trained


def test_weights_of_one_are_kd(tmp_path):
    """SuperLoss, CRUST and L2R weigh what kd sums: neutral weights are (1 - lambda, lambda / teachers), and sum to 1."""
    teachers = tuple(TeacherSettings(SMALL, budget=Budget(epochs=epochs)) for epochs in (1, 2))
    made = pipeline(tmp_path, teachers=teachers, kd_weight=0.8)
    taught, network = made.teachers(), made.new(SMALL, "student")
    subset = made.task.images.subset(made.rows("train"))
    weights = kd_weights(0.8, 2)
    assert weights == pytest.approx([0.2, 0.4, 0.4])
    gradients = []
    for mixed, weighting in ((True, Equal()), (False, Fixed(weights))):
        examples, signals = made._lesson(subset, taught, mixed)
        objective, batch = Objective(network, signals), examples.batch(list(range(20)))
        assert objective.names == ["label", "teacher_0", "teacher_1"]
        network.zero_grad()
        weighting.backward(objective(batch), batch, network)
        gradients.append([p.grad.clone() for p in network.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_teacher_beside_the_data_says_what_the_teacher_says(tmp_path):
    """Where images are changed the teacher is asked about what the student sees; unchanged, that is the same."""
    made = pipeline(tmp_path)
    taught, network = made.teachers(), made.new(SMALL, "student")
    live = Pipeline(made.task, replace(made.settings, augmentation="light"), tmp_path, made.log)
    subset = made.task.images.subset(made.rows("val"))
    losses = []
    for each in (made, live):
        examples, signals = each._lesson(subset, taught, False)
        losses.append(Objective(network, signals)(examples.batch(list(range(10)))))
    torch.testing.assert_close(losses[0], losses[1])


@pytest.mark.parametrize("method", ["ce", "kd", *WEIGHTINGS, "hpo", "coreset"])
def test_every_method_trains(method: str, tmp_path):
    made = pipeline(tmp_path)
    taught = made.student(method)
    assert taught.logits.shape == (200, 10)
    assert taught.logits.isfinite().all()
    train, test = made.rows("train"), made.rows("test")
    if method in ("ce", "coreset"):
        assert taught.losses == ["label"]
    else:
        assert taught.losses == ["label", "teacher"]
    if method in ("learning_to_reweight", "ieg", "dropped_teachers"):  # which forget the weights of a batch
        assert taught.weights is None
    else:
        assert taught.weights is not None
        assert taught.weights[test].isnan().all()
        seen = taught.weights[train].isfinite().all(1)
        assert int(seen.sum()) == (round(0.2 * len(train)) if method == "coreset" else len(train))
        held = taught.weights[made.rows("held_out")].isfinite().all(1)
        learns = method in WEIGHTINGS and WEIGHTINGS[method].learns
        assert bool(held.all()) == (not learns and method != "coreset")
        assert held.any() == held.all()
    before = {path.name for path in (tmp_path / "stages").iterdir()}
    again = pipeline(tmp_path).student(method)
    assert torch.equal(again.logits, taught.logits)
    assert {path.name for path in (tmp_path / "stages").iterdir()} == before


def test_held_out_examples_may_be_kept_from_everybody(tmp_path):
    taught = pipeline(tmp_path, train_on_held_out=False).student("kd")
    assert taught.weights is not None
    assert taught.weights[pipeline(tmp_path).rows("held_out")].isnan().all()


def test_a_tuned_weight_is_the_best_of_those_tried(tmp_path):
    made = pipeline(tmp_path)
    best = made.student("hpo")
    tried = [
        json.loads((tmp_path / "stages" / f"student-hpo-{n}" / "done.json").read_text())["facts"]["val"] for n in (0, 1)
    ]
    assert best.facts["val"] == max(tried)
    assert sum(best.facts["weights"].values()) == pytest.approx(1)
    label = {0: 1 / 1.1, 1: 1 / 11}[tried.index(max(tried))]  # the search's two ends
    assert best.facts["weights"]["label"] == pytest.approx(label)


def test_a_coreset_is_drawn_by_the_weights(tmp_path):
    made = pipeline(tmp_path)
    for rule in ("random", "sum_of_squares", "difference", "ratio"):
        taught = made.coreset(CoresetSettings(rule, 0.3))
        assert taught.weights is not None
        assert int(taught.weights.isfinite().sum()) == round(0.3 * len(made.rows("train")))
    assert not (tmp_path / "stages" / "student-amal-1").exists()


def test_unlabelled_images_are_taught_by_teachers_alone(photographs, tmp_path):
    given = settings(image_size=8, shares=Shares(held_out=0.2, val=0.2), noise=NoiseSettings())
    task = distill_task(str(photographs / "shades.csv"), given)
    made = Pipeline(task, given, tmp_path, Log(None, quiet=True))
    rows = made.rows("unlabelled")
    kd, ce = made.student("kd"), made.student("ce")
    assert kd.weights is not None
    assert ce.weights is not None
    assert kd.weights[rows].isfinite().all()
    assert ce.weights[rows].isnan().all()


def test_a_teacher_from_a_folder_is_asked_and_not_changed(tmp_path):
    first = pipeline(tmp_path / "first").teachers()[0]
    before = (first.folder / "model.safetensors").read_bytes()
    made = pipeline(tmp_path / "second", teachers=(TeacherSettings(folder=first.folder), TeacherSettings(SMALL)))
    taught = made.teachers()
    assert torch.equal(taught[0].logits, first.logits)
    assert made.student("amal").losses == ["label", "teacher_0", "teacher_1"]
    assert (first.folder / "model.safetensors").read_bytes() == before
    other = replace(tiny(), classes=("even", "odd"))
    with pytest.raises(ValueError, match="has 10 classes, the data 2"):
        Pipeline(other, made.settings, tmp_path / "third", made.log).teachers()
    with pytest.raises(FileNotFoundError, match="does not exist"):
        pipeline(tmp_path / "fourth", teachers=(TeacherSettings(folder=tmp_path),)).teachers()
    with pytest.raises(ValueError, match="teachers is empty"):
        settings(teachers=())
    with pytest.raises(ValueError, match=r"student.name='pocket_deit'.*has a distillation token and two heads"):
        rehearse(tiny(), settings(student=ModelSettings("pocket_deit")))


def test_doubt_is_the_difference_of_the_weights_or_how_little_both_count():
    weights = torch.tensor([[1.0, 0.5, 0.1], [0.2, 0.4, 2.0]])
    torch.testing.assert_close(doubt_of(weights), torch.tensor([-0.7, 1.0]))
    assert torch.equal(doubt_of(weights[:, :1]), -weights[:, 0])
    assert torch.equal(doubt_of(weights[:, :1].expand(-1, 2)), -weights[:, 0])


# -------------------------------------------------------------------------------------------------------------- the run


def test_the_runs_folder(done):
    assert {path.name for path in done.folder.iterdir()} == FILES
    assert json.loads((done.folder / "metrics.json").read_text()) == done.metrics
    assert done.metrics["pipeline"] == {"recipe": "distill", "title": "digits", "seed": 0, "method": "amal"}
    assert set(done.metrics["methods"]) == {"amal", "ce", "kd"}
    examples, listed = (
        pd.read_parquet(done.folder / "examples.parquet"),
        pd.read_csv(done.folder / "relabel.csv", dtype=str),
    )
    doubted = examples[(examples["predicted"] != examples["label"]) & (examples["label"] != "")]
    assert set(listed["id"]) == set(doubted["id"])
    names = set(done.metrics["data"]["classes"])  # not numbers, as in relabel.csv and predict
    for file in ("examples", "weights"):
        table = pd.read_parquet(done.folder / f"{file}.parquet")
        assert set(table["label"]) | set(table["predicted"]) | set(table["true_label"]) == names
    assert listed.set_index("id")["suspected"].to_dict() == doubted.set_index("id")["suspected"].to_dict()
    assert recipes.label_issues(done.folder).table()["id"].tolist() == listed["id"].tolist()
    assert listed["reason"].str.contains(r"^the model says \w+ \(\d+%\) and gives \w+ \d+%").all()
    assert set(done.metrics["difference"]) == {"amal", "ce", "kd"} - {done.metrics["choice"]["chosen"]}


def test_the_figures_follow_from_the_lists(done):
    examples = pd.read_parquet(done.folder / "examples.parquet")
    test = examples[examples["split"] == "test"]
    ours = float((test["predicted"] == test["true_label"]).mean())
    choice = done.metrics["choice"]
    surely = [name for name in ("amal", "kd") if choice["candidates"][name]["better_in"] >= 0.95]
    assert choice["chosen"] == max(surely, key=lambda name: done.metrics["methods"][name]["val"], default="ce")
    assert choice["candidates"]["amal"]["value"] == pytest.approx(done.metrics["methods"]["amal"]["val"])
    found = done.metrics["methods"][choice["chosen"]]["accuracy"]
    assert found["value"] == pytest.approx(ours)
    assert found["low"] <= found["value"] <= found["high"]
    for other, gain in done.metrics["difference"].items():
        assert gain["value"] == pytest.approx(ours - done.metrics["methods"][other]["accuracy"]["value"])
    model, facts = load_model(done.folder / "model")
    assert facts["classes"] == list("0123456789")
    with torch.no_grad():
        logits = model(tiny().images.images.gather(range(200)))
    assert torch.equal(logits.argmax(1), torch.from_numpy(examples["predicted"].to_numpy(np.int64)))
    noise = examples[examples["split"] == "train"]
    assert done.metrics["data"]["label_noise"]["train"] == pytest.approx((noise["label"] != noise["true_label"]).mean())


def test_the_list_of_weights(done):
    weights = pd.read_parquet(done.folder / "weights.parquet")
    task = tiny()
    assert weights["id"].tolist() == task.images.table["id"].iloc[task.images.rows("train").numpy()].tolist()
    assert {"label", "true_label", "weight_label", "weight_teacher", "doubt", "probability_of_label"} <= set(weights)
    np.testing.assert_allclose(weights["doubt"], weights["weight_teacher"] - weights["weight_label"], atol=1e-6)
    told = done.metrics["weights"]
    assert told["auroc"] == pytest.approx(auroc(weights["doubt"], weights["label"] != weights["true_label"]))
    assert told["mean"]["label"] == pytest.approx(weights["weight_label"].mean(), abs=1e-6)


def test_the_report_shows_the_labels_that_relabel_csv_has_first(done):
    from safetensors.numpy import load_file

    listed = pd.read_csv(done.folder / "relabel.csv", dtype={"id": str})
    examples = pd.read_parquet(done.folder / "examples.parquet")
    pictures = load_file(done.folder / "gallery.safetensors")
    first = listed["id"].head(evaluation.PICTURES).tolist()
    assert 0 < len(first) == len(pictures["images"])
    assert examples["id"].iloc[pictures["rows"]].tolist() == first
    assert np.array_equal(pictures["images"], tiny().images.images.gather(pictures["rows"].tolist()).numpy())
    html = (done.folder / "report.html").read_text()
    assert "The column <code>doubt</code>" not in html
    assert "most likely to be wrong, by the model" in html
    assert [html.index(f"<b>{id}</b>") for id in first] == sorted(html.index(f"<b>{id}</b>") for id in first)


def test_the_report_says_what_the_figures_say(done):
    html = (done.folder / "report.html").read_text()
    shown = dict(re.findall(r'data-figure="([^"]+)" value="([^"]+)"', html))
    for method, told in done.metrics["methods"].items():
        assert float(shown[f"methods/{method}"]) == told["accuracy"]["value"]
    for other, gain in done.metrics["difference"].items():
        assert float(shown[f"difference/{other}"]) == gain["value"]
    assert float(shown["weights/auroc"]) == done.metrics["weights"]["auroc"]
    assert "<script" not in html
    assert not re.findall(r'(?:src|href)="(?!data:|#)', html)
    assert html.count("<img ") == min(evaluation.PICTURES, len(tiny().images.rows("train")))
    assert "wrong labels: mean" in html  # Figure 2's description


def test_refitting_trains_with_the_learned_weights_and_on_the_held_out_examples(tmp_path, monkeypatch):
    made = pipeline(tmp_path, refit=True)
    seen: list[dict[str, torch.Tensor]] = []
    real = Fixed.example_weights
    monkeypatch.setattr(
        Fixed,
        "example_weights",
        lambda weighting, losses, batch: (
            seen.append({"index": batch["index"], "weights": (found := real(weighting, losses, batch))}),
            found,
        )[1],
    )
    taught = made.student("amal")
    assert taught.name == "student-amal-refit"
    index = torch.cat([each["index"] for each in seen])
    weights = torch.cat([each["weights"] for each in seen])
    held_out, train = made.rows("held_out"), made.rows("train")
    assert set(index.tolist()) == {*held_out.tolist(), *train.tolist()}
    trusted = torch.isin(index, held_out)
    assert (weights[trusted] == torch.tensor([2.0, 0.0])).all()
    assert taught.weights is not None
    torch.testing.assert_close(weights[~trusted], taught.weights[index[~trusted]])
    assert taught.weights[train].std() > 0  # they were learned
    assert taught.weights[held_out].isnan().all()  # and not of what they were learned by
    assert (made.stages.folder / "stages" / "student-amal").is_dir()
    assert made.student("kd").name == "student-kd"  # learns no weights
    changed = replace(made.settings, refit=False)
    again = Pipeline(made.task, changed, tmp_path, made.log).student("amal")
    assert torch.equal(again.weights.nan_to_num(), taught.weights.nan_to_num())
    assert not torch.equal(again.logits, taught.logits)


def test_teachers_who_know_nothing_are_not_listened_to(tmp_path):
    """The student is taught by them alone, nearly; held-out labels show it, and the labels alone are served."""
    never = TeacherSettings(SMALL, budget=Budget(steps=1), select=False)
    given = settings(method="kd", kd_weight=0.99, teachers=(never, never), baselines=(), budget=Budget(epochs=8))
    found = recipes.run("distill", tiny(given), given, tmp_path / "run", quiet=True)
    assert found.metrics["pipeline"]["method"] == "kd"
    assert found.metrics["choice"]["chosen"] == "ce"
    assert found.metrics["difference"]["kd"]["value"] > 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Served: the labels alone, not distillation at a fixed weight, since" in page
    assert "Served: the labels alone" in repr(found)
    examples = pd.read_parquet(tmp_path / "run" / "examples.parquet")
    model, _ = load_model(tmp_path / "run" / "model")
    with torch.no_grad():
        said = model(tiny(given).images.images.gather(range(200))).argmax(1)
    assert torch.equal(said, torch.from_numpy(examples["predicted"].to_numpy(np.int64)))


def test_running_it_again_changes_nothing_and_a_change_runs_only_what_it_concerns(done):
    before = {
        path.name: path.read_bytes() for path in done.folder.iterdir() if path.is_file() and path.suffix != ".jsonl"
    }
    told = len((done.folder / "log.jsonl").read_text().splitlines())
    recipes.run("distill", tiny(), settings(), done.folder, quiet=True)
    assert all((done.folder / name).read_bytes() == bytes for name, bytes in before.items())
    events = [json.loads(line) for line in (done.folder / "log.jsonl").read_text().splitlines()]
    assert {event["event"] for event in events[told:]} == {"stage kept"}
    changed = settings(weighting_options={"lr": 0.1})
    made = Pipeline(tiny(), changed, done.folder, Log(done.folder / "log.jsonl", quiet=True))
    told = len(events)
    made.student("kd")
    events = [json.loads(line) for line in (done.folder / "log.jsonl").read_text().splitlines()]
    assert {event["event"] for event in events[told:]} == {"stage kept"}  # amal's step is none of kd's business


def test_a_weighting_is_checked_when_it_is_named():
    with pytest.raises(ValueError, match="weighting 'amla' is unknown; did you mean 'amal'"):
        settings(weighting="amla")
    with pytest.raises(ValueError, match="weighting 'joint' has no option 'step'"):
        settings(weighting="joint", weighting_options={"step": 3})
    with pytest.raises(ValueError, match="weighting 'superlos' is unknown; did you mean 'superloss'"):
        settings(weighting_defaults={"superlos": {}})
    with pytest.raises(ValueError, match="keep=2 is a probability"):
        settings(weighting="dropped_teachers", weighting_options={"keep": 2})
    with pytest.raises(ValueError, match="are of no use with method='kd'"):
        settings(method="kd", weighting_options={"lr": 0.3})
    with pytest.raises(ValueError, match="weighting 'cd' is unknown"):
        settings(baselines=("cd",))


@pytest.mark.parametrize("method", ["amal", "joint", "crust", "learning_to_reweight"])
def test_killed_and_run_again_is_the_same_run(method: str, tmp_path):
    """The signal comes in the middle of an epoch of the student."""
    given = settings(weighting=method, baselines=())
    straight = recipes.run("distill", tiny(given), given, tmp_path / "straight", quiet=True)
    fit = sys.modules["tutelage.training.loop"].Loop
    step = fit.train_step

    def interrupted(self, batch, steps):
        step(self, batch, steps)
        if self.plan.name.startswith("student") and self.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    out = tmp_path / "killed"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "train_step", interrupted)
        with pytest.raises(Interrupted, match=f"student-{method} stopped at step 4"):
            recipes.run("distill", tiny(given), given, out, quiet=True)
    assert not (out / "metrics.json").exists()
    recipes.run("distill", tiny(given), given, out, quiet=True)
    for name in ("metrics.json", "weights.parquet", "examples.parquet", "importance.parquet"):
        assert (out / name).read_bytes() == (straight.folder / name).read_bytes(), name


def test_joint_shows_its_importance(tmp_path):
    given = settings(weighting="joint", baselines=("ce",))
    found = recipes.run("distill", tiny(given), given, tmp_path, quiet=True)
    importance = pd.read_parquet(tmp_path / "importance.parquet")
    assert set(importance["task"]) == {"teacher"}
    assert list(dict.fromkeys(importance["module"])) == found.metrics["importance"]["modules"]
    assert 'id="importance"' in found.report.read_text()


def test_new_images_are_classified(photographs, tmp_path):
    given = settings(
        image_size=8, shares=Shares(held_out=0.2, val=0.2), noise=NoiseSettings(), method="kd", baselines=()
    )
    recipes.run("distill", distill_task(str(photographs), given), given, tmp_path / "run", quiet=True)
    html = (tmp_path / "run" / "report.html").read_text()
    assert "not known" in html  # how many labels are wrong
    table, problems = recipes.predict(tmp_path / "run", photographs / "shades.csv", tmp_path / "new.csv")
    assert len(problems) == 0
    assert len(table) == 90
    assert set(table["predicted"]) <= {"black", "grey", "white"}
    assert table["probability"].between(1 / 3, 1).all()
    assert pd.read_csv(tmp_path / "new.csv")["predicted"].tolist() == table["predicted"].tolist()


def test_the_command(photographs, tmp_path, capsys):
    out = tmp_path / "run"
    words = [*("distill", str(photographs), "--out", str(out), "--scale", "pocket", "--image_size", "8"),
             *("--budget.epochs", "1", "--shares.val", "0.2", "--weighting", "superloss", "--baselines", '["ce"]'),
             *("--weighting_options.regularisation", "0.5"),
             *("--teachers", '[{"model": {"name": "pocket_mlp"}, "budget": {"epochs": 1}}]')]  # fmt: skip
    cli.main(words)
    assert f"report: {out / 'report.html'}" in capsys.readouterr().out
    assert set(json.loads((out / "metrics.json").read_text())["methods"]) == {"superloss", "ce"}
    cli.main(["distill", "--config", str(out / "config.yaml"), "--scale", "pocket", "--out", str(tmp_path / "again")])
    assert (tmp_path / "again" / "metrics.json").read_bytes() == (out / "metrics.json").read_bytes()
    cli.main(["predict", str(out), str(photographs / "shades.csv"), "--out", str(tmp_path / "scores.csv")])
    assert "90 images classified; nothing left out" in capsys.readouterr().out
    cli.main(["report", str(out)])
    with pytest.raises(SystemExit):
        cli.main(["predict", str(out), str(photographs / "shades.csv"), "--fpr", "0.01"])
    assert "a run of distill has no use for it; leave fpr out" in capsys.readouterr().err
