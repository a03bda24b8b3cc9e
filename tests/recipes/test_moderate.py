"""The main job from end to end: what a run's folder holds, and that it says what it means."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
import yaml
from safetensors.torch import load_file

from tutelage import recipes
from tutelage.metrics import auroc, lift_at_fpr, normalised_mutual_information, npv_at_fpr, npv_floor, threshold_at_fpr
from tutelage.metrics.moderation import above_gap
from tutelage.models import load_committee, load_model
from tutelage.recipes.moderation import ModerationTask
from tutelage.subtasks import acceptability
from tutelage.training import fit
from tutelage.weighting.settings import AdaptSettings

FILES = {
    "config.yaml",
    "duplicates.csv",
    "examples.csv",
    "examples.parquet",
    "gallery.safetensors",
    "log.jsonl",
    "metrics.json",
    "model",
    "problems.csv",
    "relabel.csv",
    "report.html",
    "run.json",
    "run.lock",
    "stages",
    "subtask_names.csv",
    "subtasks.csv",
    "subtasks.parquet",
}


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but those that say when it was written."""
    timed = ("log.jsonl", "report.html")
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name not in timed}


@pytest.fixture(scope="module")
def metrics(moderated: recipes.Run) -> dict[str, Any]:
    return json.loads((moderated.folder / "metrics.json").read_text())


@pytest.fixture(scope="module")
def examples(moderated: recipes.Run) -> pd.DataFrame:
    return pd.read_parquet(moderated.folder / "examples.parquet")


@pytest.fixture(scope="module")
def subtasks(moderated: recipes.Run) -> pd.DataFrame:
    return pd.read_parquet(moderated.folder / "subtasks.parquet")


@pytest.mark.trains
def test_the_runs_folder(moderated, metrics):
    assert {path.name for path in moderated.folder.iterdir()} == FILES
    assert {path.name for path in (moderated.folder / "model").iterdir()} == {"config.json", "model.safetensors"}
    assert metrics == moderated.metrics
    assert "NaN" not in (moderated.folder / "metrics.json").read_text()
    assert moderated.report == moderated.folder / "report.html"


def test_the_figures_of_both_models_follow_from_the_listed_scores(metrics, examples):
    test = examples[examples["split"] == "test"]
    truth = test["true_label"].to_numpy()
    for name, column in (("model", "score"), ("fine_tuned", "score_fine_tuned")):
        scores, found = test[column].to_numpy(np.float64), metrics[name]
        for figure, metric in (("npv_at_fpr", npv_at_fpr), ("lift_at_fpr", lift_at_fpr)):
            assert set(found[figure]) == {"0.01", "0.05"}
            for rate, interval in found[figure].items():
                assert set(interval) == {"value", "low", "high"}
                assert interval["value"] == metric(scores, truth, float(rate))
                assert interval["low"] <= interval["high"]
        assert found["auroc"]["value"] == auroc(scores, truth)
        assert found["threshold"]["0.05"] == above_gap(threshold_at_fpr(scores, truth, 0.05), scores, truth == 1)
        assert {"recall_at_fpr", "average_precision"} < set(found)
    difference = metrics["difference"]["npv_at_fpr"]["0.01"]["value"]
    each = [metrics[name]["npv_at_fpr"]["0.01"]["value"] for name in ("model", "fine_tuned")]
    assert difference == pytest.approx(each[0] - each[1])
    assert metrics["floor"] == {"0.01": npv_floor(40, 80, 0.01), "0.05": npv_floor(40, 80, 0.05)}


def test_the_figures_of_the_data(metrics, examples, task):
    counts = metrics["data"]["counts"]
    assert counts["unlabelled"] == {"defective": 0, "acceptable": 0, "unlabelled": 50}
    assert sum(counts["train"].values()) == 180
    train = examples[examples["split"] == "train"]
    assert metrics["data"]["label_noise"] == pytest.approx((train["label"] != train["true_label"]).mean())
    assert metrics["data"]["left_out"] == {}
    assert metrics["data"]["duplicates"] == 0
    assert metrics["pipeline"] == {"recipe": "moderation", "title": task.title, "seed": 0, "fpr": 0.01}


def test_the_list_of_examples(examples, task, moderated):
    assert examples["id"].tolist() == task.table["id"].tolist()
    assert examples["label"].tolist() == task.labels.tolist()
    inside = examples["subtask"] >= 0
    assert (inside == ((examples["split"] == "train") & (examples["label"] == 0))).all()
    assert examples["subtask_kept"].isna().equals(~inside)
    assert examples.loc[inside, "subtask_confidence"].between(0, 1).all()
    assert examples.loc[~inside, "subtask_confidence"].isna().all()
    by_label = {0: examples["score"], 1: 1 - examples["score"]}
    for label, doubt in by_label.items():
        of_label = examples["label"] == label
        assert examples.loc[of_label, "suspicion"].between(0, 1).all()
        assert (np.diff(examples.loc[of_label, "suspicion"].to_numpy()[np.argsort(doubt[of_label])]) >= -1e-12).all()
        assert (examples.loc[of_label, "suspected"] == 1 - label).all()
    assert examples["doubted"].sum() == round(examples["suspicion"].sum())
    assert examples.loc[examples["doubted"], "suspicion"].min() >= examples.loc[~examples["doubted"], "suspicion"].max()
    assert examples.loc[examples["label"] == -1, "suspicion"].isna().all()


def test_the_list_of_sub_tasks(subtasks, examples, metrics):
    assert subtasks["subtask"].tolist() == [0, 1, 2, 3]
    sizes = examples[examples["subtask"] >= 0]["subtask"].value_counts()
    assert subtasks["size"].tolist() == [sizes[k] for k in range(4)]
    kept = examples[examples["subtask"] >= 0].groupby("subtask")["subtask_kept"].first()
    assert subtasks["kept"].tolist() == kept.tolist()
    assert subtasks["kept"].sum() == tiny.KEPT == metrics["subtasks"]["kept"]
    assert metrics["subtasks"]["count"] == 4
    assert subtasks["reason"].str.len().min() > 0
    for k, confidence in enumerate(subtasks["confidence"]):
        assert confidence == pytest.approx(examples.loc[examples["subtask"] == k, "subtask_confidence"].mean())
    assert {"npv", "auroc", "local_precision", "competence", "competence_low", "competence_high"} < set(subtasks)


def test_how_well_the_true_sub_tasks_are_recovered(metrics, examples):
    """Over the training examples that the moderator calls defective and that are."""
    known = examples[(examples["subtask"] >= 0) & (examples["true_subtask"] >= 0)]
    nmi = normalised_mutual_information(known["true_subtask"].to_numpy(), known["subtask"].to_numpy())
    assert metrics["subtasks"]["nmi"] == nmi


def test_the_gallery_holds_the_pictures_of_its_rows(moderated, task, examples):
    found = load_file(moderated.folder / "gallery.safetensors")
    assert torch.equal(found["images"], task.images.images.gather(found["rows"].tolist()))
    assert found["images"].dtype == torch.uint8
    surest = examples[examples["subtask"] >= 0].groupby("subtask")["subtask_confidence"].idxmax()
    assert set(surest) <= set(found["rows"].tolist())
    assert examples["suspicion"].idxmax() in found["rows"].tolist()


def test_the_model_is_the_one_that_was_chosen_and_its_scores_are_calibrated(moderated, task, examples, metrics):
    model, facts = load_committee(moderated.folder / "model")
    assert facts["chosen"] == metrics["choice"]["chosen"]
    assert facts["calibration"] == metrics["choice"]["candidates"][facts["chosen"]]["calibration"]
    assert facts["labels"] == ["defective", "acceptable"]
    assert facts["fpr"] == 0.01
    assert facts["thresholds"] == metrics["model"]["threshold"]
    with torch.no_grad():
        scores = acceptability(model(task.images.images.gather(range(len(task.images)))))
    assert np.allclose(scores.numpy(), examples["score"], atol=1e-4)


def test_how_alike_the_two_tokens_are(moderated, task, metrics):
    pixels = task.images.images.gather(task.images.rows("test").tolist())
    for name, stage in (("student", "student"), ("fine_tuned", "fine-tuned")):
        network, _ = load_model(moderated.folder / "stages" / stage / "model")
        with torch.no_grad():
            cls, dist = network.eval().backbone.forward_features(network.pixels(pixels))[:, :2].double().unbind(1)
        cosine = (cls * dist).sum(1) / (cls.norm(dim=1) * dist.norm(dim=1))
        assert metrics["token_cosine"][name] == pytest.approx(float(cosine.mean()), abs=1e-5)
        assert 0 < metrics["token_cosine"][name] < 0.999  # two tokens, and not one twice


def test_the_log(moderated):
    listed = events(moderated.folder)
    assert all({"time", "event"} <= set(event) for event in listed)
    trained = {event["name"] for event in listed if event["event"] == "evaluation"}
    assert trained == {"discovery", "specialists", "student", "fine-tuned"}
    done = [event["stage"] for event in listed if event["event"] == "stage done"]
    assert len(done) == len(set(done)) == 4


def test_running_it_again_changes_nothing(moderated, task):
    before, told = contents(moderated.folder), len(events(moderated.folder))
    again = recipes.run("moderation", task, tiny.settings(), moderated.folder, quiet=True)
    assert again.metrics == moderated.metrics
    assert contents(moderated.folder) == before
    assert {event["event"] for event in events(moderated.folder)[told:]} == {"stage kept"}


def test_a_change_runs_only_what_it_concerns(moderated, task, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(moderated.folder, folder)
    told = len(events(folder))
    settings = replace(tiny.settings(), learning=replace(tiny.settings().learning, weight=0.3))
    before = contents(folder)
    with pytest.raises(
        ValueError, match=r"with other settings: learning.weight was 1.0 and is 0.3; give another folder"
    ):
        recipes.run("moderation", task, settings, folder, quiet=True)
    assert contents(folder) == before
    (folder / "config.yaml").unlink()  # as the message says
    changed = recipes.run("moderation", task, settings, folder, quiet=True)
    assert {e["stage"] for e in events(folder)[told:] if e["event"] == "stage done"} == {"student"}
    before, after = (pd.read_parquet(run / "examples.parquet") for run in (moderated.folder, folder))
    assert not after["score_student"].equals(before["score_student"])
    before, after = (
        each[[name for name in each if "student" not in name and name not in ("score", "suspicion", "doubted")]]
        for each in (before, after)
    )
    same = [name for name in before if name in after and "+" not in name]  # means of several models come and go
    assert {"score_fine_tuned", "subtask"} <= set(same)
    assert after[same].equals(before[same])
    assert changed.metrics["fine_tuned"] == moderated.metrics["fine_tuned"]
    assert yaml.safe_load((folder / "config.yaml").read_text())["learning"]["weight"] == 0.3


def test_without_a_specialist_who_knows_more_than_chance_the_result_is_plain(moderated, task, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(moderated.folder, folder)
    (folder / "config.yaml").unlink()  # else a folder keeps its settings
    settings = replace(tiny.settings(), selection=replace(tiny.settings().selection, significance=1e-6))
    done = recipes.run("moderation", task, settings, folder, quiet=True)
    assert done.metrics["subtasks"]["kept"] == 0
    assert done.metrics["choice"]["chosen"] == "fine_tuned"
    assert list(done.metrics["candidates"]) == ["fine_tuned"]
    assert done.metrics["model"] == done.metrics["fine_tuned"]
    assert done.metrics["lesson"] is None
    listed = pd.read_parquet(folder / "examples.parquet")
    assert listed["score"].equals(listed["score_fine_tuned"])
    assert "score_student" not in listed
    assert "none could teach: the result is a plain model" in " ".join(done.report.read_text().split())
    assert len(load_committee(folder / "model")[0].members) == 1


def test_the_student_follows_label_specialists_and_fine_tuned_model_as_far_as_held_out_labels_say(
    task, tmp_path, monkeypatch
):
    from tutelage.subtasks import student

    seen: dict[str, Any] = {}
    monkeypatch.setattr(student, "fit", lambda *given, **others: seen.update(others) or fit(*given, **others))
    given = replace(tiny.settings(), weighting="joint", weighting_options={"neumann_steps": 1}, adapt=AdaptSettings(2))
    done = recipes.run("moderation", task, given, tmp_path, quiet=True)
    held_out = seen["held_out"].batch(range(len(seen["held_out"])))
    assert sorted(held_out["index"].tolist()) == sorted(task.images.rows("teacher_val", "teacher_test").tolist())
    assert torch.equal(held_out["judged"], held_out["label"])
    told = done.metrics["weighting"]
    assert told["name"] == "joint"
    assert told["sources"] == ["label", "specialists", "substitute", "fine_tuned"]
    assert [len(row) for row in told["learned"]["importance"]] == [len(told["modules"])] * 3
    weights = pd.read_parquet(tmp_path / "weights.parquet")
    assert {*told["sources"], "id", "visits"} <= set(weights)
    assert told["mean"] == {name: pytest.approx(weights[name].mean()) for name in told["sources"]}
    trained = set(task.images.rows("train", "unlabelled").tolist())
    assert set(weights["index"]) <= trained
    assert (weights["specialists"] != 1).any()
    assert "Weighted by Joint" in done.report.read_text()
    assert (tmp_path / "stages" / "fine-tuned").is_dir()
    (tmp_path / "config.yaml").unlink()
    recipes.run("moderation", task, tiny.settings(), tmp_path, quiet=True)
    assert not (tmp_path / "weights.parquet").exists()


def test_tasks_differ_by_what_training_sees(task):
    assert tiny.task().fingerprint() == task.fingerprint()
    assert tiny.task("structured").fingerprint() != task.fingerprint()
    other = tiny.task()
    other.images.images.images[0] += 1  # type: ignore[attr-defined]
    assert other.fingerprint() != task.fingerprint()


def test_without_the_truth_nothing_is_claimed_of_it(task: ModerationTask, tmp_path):
    """No true sub-tasks, no true labels: the moderator's own are what the test is judged by."""
    table = task.table.drop(columns=["true_label", "true_subtask"])
    blind = replace(task, images=type(task.images)(task.images.images, table))
    found = recipes.run("moderation", blind, tiny.settings(), tmp_path, quiet=True)
    assert found.metrics["data"]["label_noise"] is None
    assert found.metrics["subtasks"]["nmi"] is None
    listed = pd.read_parquet(tmp_path / "examples.parquet")
    assert not {"true_label", "true_subtask"} & set(listed)
    test = listed[listed["split"] == "test"]
    assert found.metrics["model"]["auroc"]["value"] == auroc(test["score"], test["label"])
