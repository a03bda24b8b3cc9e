"""`tutelage export`: what the folder says, what it refuses, what 8 bits cost, and the run's data read again."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from PIL import Image

from tutelage import recipes
from tutelage.cli import main
from tutelage.files import read_parquet
from tutelage.metrics import threshold_at_fpr
from tutelage.metrics.moderation import above_gap
from tutelage.production import export as exporting
from tutelage.production.card import read_card, version_of
from tutelage.production.export import export
from tutelage.production.exported import ExportedModel
from tutelage.production.guarantee import TooFewDefects, guaranteed_threshold
from tutelage.production.held_out import held_out
from tutelage.production.review import draw_test, take_answers
from tutelage.recipes.moderation import recipe


@pytest.fixture(scope="module")
def model(moderated: recipes.Run, task: recipes.Task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "model"
    export(moderated.folder, folder, task)
    return folder


def test_the_card_says_what_was_checked_and_its_version_is_its_content(model, moderated, task):
    card = read_card(model)
    examples = read_parquet(moderated.folder / "examples.parquet")
    test = examples[examples["split"] == "test"]
    assert card["parity"]["examples"] == len(test)
    assert card["parity"]["largest_difference_of_logits"] < 1e-4
    assert card["parity"]["same_class"] == 1
    assert card["data"]["fingerprint"] == task.fingerprint()
    assert card["metrics"] == moderated.metrics
    assert set(card["files"]) == {path.name for path in model.iterdir()} - {"model.json"}
    observed = card["answer"]["thresholds"]["0.05"]["run"]
    assert observed["low"] <= observed["value"] <= observed["high"]
    assert version_of({**card, "title": "another"}) != card["version"]


def test_scores_and_subtasks_are_those_of_the_run(model, moderated, task, tmp_path):
    examples = read_parquet(moderated.folder / "examples.parquet")
    served = ExportedModel(model)
    pixels = task.images.batch(range(len(examples)))["input"].numpy()
    found = served.answer(pixels)
    assert np.allclose([each["score"] for each in found], examples["score"], atol=1e-5)
    kept = sorted(set(examples["subtask"][examples["subtask_kept"].fillna(False).astype(bool)]))
    assert {each["subtask"] for each in found if each["decision"] == "defective"} <= {f"sub-task {k}" for k in kept}
    assert all(each["subtask"] is None for each in found if each["decision"] == "acceptable")
    run = shutil.copytree(moderated.folder, tmp_path / "run")
    (run / "subtask_names.csv").write_text(f"subtask,name\n{kept[0]}, Fake   buttons \n{kept[1]},\n", encoding="utf-8")
    card = export(run, tmp_path / "named", task)
    assert card["answer"]["subtasks"] == ["Fake buttons", *(f"sub-task {k}" for k in kept[1:])]
    named = ExportedModel(tmp_path / "named").answer(pixels)
    spoken = {f"sub-task {kept[0]}": "Fake buttons"}
    assert [each["subtask"] for each in named] == [spoken.get(each["subtask"], each["subtask"]) for each in found]


def test_a_damaged_or_edited_folder_is_not_served(model, tmp_path):
    copy = tmp_path / "copy"
    for name in ("graph", "card", "missing"):
        copy = tmp_path / name
        copy.mkdir()
        for path in model.iterdir():
            (copy / path.name).write_bytes(path.read_bytes())
    graph = next((tmp_path / "graph").glob("*.onnx"))
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match="is damaged"):
        read_card(tmp_path / "graph")
    card = json.loads((tmp_path / "card" / "model.json").read_text())
    card["answer"]["threshold"] = 0.0
    (tmp_path / "card" / "model.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match="was changed after it was written"):
        read_card(tmp_path / "card")
    (tmp_path / "missing" / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks the file 'config\.json'"):
        read_card(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match=r"holds no model\.json; write one with: tutelage export"):
        read_card(tmp_path)


def test_eight_bits_are_measured_and_the_thresholds_are_their_own(moderated, task, tmp_path):
    card = export(moderated.folder, tmp_path / "model", task, int8=True, fpr=0.05)
    facts = card["int8"]
    assert facts["calibrated_on"] == len(task.rows("student_val"))
    assert facts["bytes"]["int8"] < facts["bytes"]["float32"]
    assert 0 < facts["largest_difference_of_logits"] < 10
    served = ExportedModel(tmp_path / "model")
    rows = task.rows("test")
    scores = [each["score"] for each in served.answer(task.images.batch(rows.tolist())["input"].numpy())]
    for rate in ("0.01", "0.05"):
        told = facts[f"npv at {rate}"]
        assert told["float32"]["low"] <= told["float32"]["value"] <= told["float32"]["high"]
        assert told["by"] == card["answer"]["thresholds"][rate]["npv"]["by"]
    examples = read_parquet(moderated.folder / "examples.parquet")
    of_run = examples["score"][examples["split"] == "test"]
    flagged = (of_run <= recipe.load(moderated.folder, 0.05)[1]).sum()  # as many lie at or below the new threshold
    threshold = card["answer"]["threshold"]
    assert (np.array(scores) < threshold).sum() <= flagged <= (np.array(scores) <= threshold).sum()


def test_a_guarantee_takes_further_held_out_images_and_is_refused_without(moderated, task, tmp_path):
    with pytest.raises(
        TooFewDefects, match=r"40 held-out defects cannot promise .* 0\.05 .* 59 are needed; label 19 more"
    ):
        export(moderated.folder, tmp_path / "model", task, fpr=0.05, confidence=0.95)
    assert not (tmp_path / "model" / "model.json").exists()
    rng = np.random.default_rng(0)
    for name in range(40):
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    new = pd.DataFrame(
        {"image": [f"{name}.png" for name in range(40)], "label": ["defective"] * 30 + ["acceptable"] * 10}
    )
    new.to_csv(tmp_path / "new.csv", index=False)
    card = export(moderated.folder, tmp_path / "model", task, fpr=0.05, confidence=0.95, held_out=tmp_path / "new.csv")
    told = card["answer"]["thresholds"]["0.05"]["guaranteed"]
    assert (told["defects"], told["confidence"]) == (70, 0.95)
    assert card["answer"]["threshold"] == told["value"]
    served = ExportedModel(tmp_path / "model")
    rows = task.rows("test")
    scores = [each["score"] for each in served.answer(task.images.batch(rows.tolist())["input"].numpy())]
    more = served.answer(np.stack([served.prepare((tmp_path / f"{name}.png").read_bytes()) for name in range(40)]))
    labels = [*task.judged_by()[rows].tolist(), *[0] * 30, *[1] * 10]
    expected = guaranteed_threshold(scores + [each["score"] for each in more], labels, 0.05)
    assert told["value"] == pytest.approx(expected.threshold, abs=1e-6)


def test_no_guarantee_is_made_of_images_that_the_run_has_seen(moderated, task, tmp_path, monkeypatch):
    """Nor is anything long done before that is known."""
    seen = read_parquet(moderated.folder / "examples.parquet").query("split == 'train'")["id"].iloc[0]
    rng = np.random.default_rng(0)
    for name in ("old", "new"):
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    both = pd.DataFrame({"id": [str(seen), "new"], "image": ["old.png", "new.png"], "label": ["defective"] * 2})
    both.to_csv(tmp_path / "both.csv", index=False)
    monkeypatch.setattr(exporting, "write_graph", lambda *_: pytest.fail("a graph was written"))
    refused = rf"held_out='.*both\.csv' holds '{re.escape(str(seen))}', which the run has already \(1 such\)"
    with pytest.raises(ValueError, match=refused):
        export(moderated.folder, tmp_path / "model", task, fpr=0.05, confidence=0.95, held_out=tmp_path / "both.csv")
    with pytest.raises(ValueError, match=refused):
        held_out(moderated.folder, tmp_path / "both.csv")
    assert not (tmp_path / "model").exists()


def test_the_card_has_threshold_npv_and_guarantee_by_the_answers_of_a_review(moderated, task, tmp_path):
    run = shutil.copytree(moderated.folder, tmp_path / "run")
    examples = read_parquet(run / "examples.parquet").drop(columns=["true_label", "true_subtask"])
    examples.to_parquet(run / "examples.parquet")  # nobody knows the truth
    drawn = draw_test(run, 10_000)
    test = examples[examples["split"] == "test"].set_index("id")
    said = test["label"].where(test["score"].rank() % 5 > 0, 1 - test["label"])  # a fifth of the labels is wrong
    asked = drawn[["id"]].assign(label=np.array(["defective", "acceptable"])[said[drawn["id"]]])
    asked.to_csv(tmp_path / "answers.csv", index=False)
    take_answers(run, tmp_path / "answers.csv")
    card = export(run, tmp_path / "model", task, fpr=0.1, confidence=0.95)
    told, scores = card["answer"]["thresholds"]["0.1"], test["score"].to_numpy()
    exact = recipe.load(run, 0.1)[1]
    assert exact == above_gap(threshold_at_fpr(scores, said.to_numpy(), 0.1), scores, said.to_numpy() == 1)
    assert told["run"]["value"] == pytest.approx(exact, abs=1e-5)
    blocked = scores <= threshold_at_fpr(scores, said.to_numpy(), 0.1)  # NPV is the paper's, of the order statistic
    assert told["npv"]["value"] == pytest.approx((said[blocked] == 0).mean())
    promised = guaranteed_threshold(scores, said.to_numpy(), 0.1)
    assert told["guaranteed"]["passed"] == promised.passed
    assert card["answer"]["threshold"] == pytest.approx(promised.threshold, abs=1e-5)


def test_a_graph_that_is_not_the_model_is_refused(moderated, task, tmp_path, monkeypatch):
    write = exporting.write_graph

    def wrong(served, example, path):
        with torch.no_grad():
            for parameter in served.model.parameters():
                parameter.mul_(1.5)
            write(served, example, path)
            for parameter in served.model.parameters():
                parameter.div_(1.5)

    monkeypatch.setattr(exporting, "write_graph", wrong)
    with pytest.raises(ValueError, match="the ONNX graph is not the model: a logit differs"):
        export(moderated.folder, tmp_path / "model", task)
    assert not (tmp_path / "model" / "model.json").exists()


def test_other_folders_and_options_are_refused(moderated, task, tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="holds something else than an exported model"):
        export(moderated.folder, tmp_path, task)
    with pytest.raises(ValueError, match="checked on the run's own images"):
        export(moderated.folder, tmp_path / "model")
    for name, value, range in (
        ("fpr", 0.0, r"\(0, 1\)"),
        ("confidence", 1.0, r"\(0, 1\)"),
        ("wrong_labels", -0.1, r"\[0, 1\)"),
    ):
        with pytest.raises(ValueError, match=f"{name}={value} must be .*{range}"):
            export(moderated.folder, tmp_path / "model", task, **{name: value})


def test_the_command_reads_the_runs_data_again_wherever_they_lie(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    data = tmp_path / "ads"
    data.mkdir()
    posters = tiny.task().images
    rows = []
    for row in range(240):
        Image.fromarray(posters.images[row].permute(1, 2, 0).numpy()).save(data / f"{row}.png")
        rows.append((f"{row}.png", ["defective", "acceptable"][posters.labels[row]]))
    pd.DataFrame(rows, columns=["image", "label"]).to_csv(data / "ads.csv", index=False)
    settings = tiny.settings()
    made = recipes.moderation.moderation_task(data / "ads.csv", settings)
    given = {
        "manifest": str(data / "ads.csv"),
        "columns": {},
        "labels": {"acceptable": 1, "defective": 0, "unlabelled": -1},
    }
    run = recipes.run(
        "moderation", made, settings, tmp_path / "run", command="moderate", command_args=given, quiet=True
    )
    asked: list[tuple[Path, recipes.Task]] = []

    def exported(run_folder: Path, out: Path, task: recipes.Task, **options: object) -> dict:
        assert options["confidence"] == 0.9
        asked.append((out, task))
        return {"version": "v", "parity": {"examples": 7, "largest_difference_of_logits": 2e-7}}

    monkeypatch.setattr(exporting, "export", exported)
    words = ["export", str(run.folder), "--confidence", "0.9"]
    main([*words, "--out", str(tmp_path / "model")])
    assert "on 7 test examples no logit differs from PyTorch's by more than 2.0e-07" in capsys.readouterr().out
    marker = run.folder / "run.json"
    told = json.loads(marker.read_text())
    assert told["command"] == "moderate"
    for other in (None, "distill", "a-command-of-the-future"):
        marker.write_text(json.dumps({**told, "command": other}))
        with pytest.raises(SystemExit):
            main(words)
        assert "run.json names no command that made the run" in capsys.readouterr().err
    marker.write_text(json.dumps(told))
    data.rename(tmp_path / "moved")
    with pytest.raises(SystemExit):
        main(words)
    assert "there is no manifest" in capsys.readouterr().err
    main([*words, "--data", str(tmp_path / "moved" / "ads.csv")])
    assert [out for out, _ in asked] == [tmp_path / "model", Path("model")]
    for _, again in asked:
        assert again.table["id"].tolist() == made.table["id"].tolist()
        assert again.table["split"].tolist() == made.table["split"].tolist()
        assert torch.equal(again.labels, made.labels)


def test_a_loaded_model_is_told_to_nobody(model, tmp_path):
    """ONNX Runtime, left alone, makes a device's number in the home folder and sends it with the model's hash."""
    there = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    home = tmp_path / "home"
    home.mkdir()
    script = f"from tutelage.production.exported import ExportedModel; ExportedModel({str(model)!r}).warm_up()"
    environment = {**there, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=240)
    assert not [path for path in home.rglob("*") if "icrosoft" in path.name or "onnx" in path.name]
