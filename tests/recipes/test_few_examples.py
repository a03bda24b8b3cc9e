"""Tables of a few dozen images, at the defaults: what is asked for follows from the counts."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from PIL import Image

from tutelage import cli, recipes
from tutelage.data import ImageArray, ImageTable, Problems, digit_posters, split_table
from tutelage.recipes.moderation import ModerationSettings, ModerationTask, moderation_task, pocket
from tutelage.recipes.moderation.counts import suited, too_few


def task(count: int, defective: float = 0.25) -> ModerationTask:
    """Grey pictures, of which a share is labelled defective."""
    labels = (np.arange(count) * 37 % 100 >= 100 * defective).astype(int)
    facts = pd.DataFrame({"id": [str(row) for row in range(count)], "label": labels, "split": "unassigned"})
    problems = Problems()
    images = ImageTable(ImageArray(torch.zeros(count, 3, 24, 24, dtype=torch.uint8)), facts)
    return ModerationTask("few", "few", split_table(images, problems), problems=problems)


@pytest.mark.parametrize(
    ("count", "subtasks", "window"),
    [(140, 2, 4), (240, 4, 6), (1_000, 16, 19), (4_000, 16, 20)],
)
def test_sub_tasks_and_windows_come_from_the_counts(count, subtasks, window):
    few = task(count)
    settings, changed = suited(few, pocket())
    assert too_few(few, settings) == ""
    assert (settings.discovery.subtasks, settings.selection.window) == (subtasks, window)
    assert len(changed) == (subtasks < 16) + (window < 20)
    defects = int((few.labels[few.rows("train")] == 0).sum())
    assert subtasks == 16 or defects // 8 == subtasks
    unchanged = {"discovery": pocket().discovery, "selection": pocket().selection}
    assert replace(settings, **unchanged) == pocket()
    again, changed = suited(few, settings)
    assert (again, changed) == (settings, [])


def test_what_can_be_had_stays_as_it_is():
    asked = replace(pocket(), discovery=replace(pocket().discovery, subtasks=3))
    assert suited(task(1_000), asked)[0].discovery.subtasks == 3
    paper = ModerationSettings()
    assert suited(task(8_000), paper)[0] == paper


def test_too_few_says_why():
    assert too_few(task(50), pocket()) == "8 defective training examples are too few for two sub-tasks of 8"
    images = task(240).images
    lumped = images.with_split(
        np.where(images.table["split"].str.startswith("teacher"), "train", images.table["split"])
    )
    assert (
        too_few(ModerationTask("x", "x", lumped), pocket())
        == "there are too few validation examples to judge specialists by"
    )


@pytest.mark.parametrize(("count", "subtasks"), [(50, 0), (240, None)])
def test_a_small_table_runs_to_its_end_and_answers(count, subtasks, tmp_path, monkeypatch):
    """From files, with the default numbers of sub-tasks and examples in a window; only the networks are smaller."""
    tiny.hurry(monkeypatch.setattr)
    posters = digit_posters(3, train=(count // 4, count - count // 4), validation=(2, 2), test=(2, 2), unlabelled=1)
    (tmp_path / "ads").mkdir()
    rows = posters.rows("train").tolist()
    for row in rows:
        Image.fromarray(posters.images[row].permute(1, 2, 0).numpy()).save(tmp_path / "ads" / f"{row}.png")
    labels = [["defective", "acceptable"][posters.labels[row]] for row in rows]
    pd.DataFrame({"image": [f"ads/{row}.png" for row in rows], "label": labels}).to_csv(
        tmp_path / "ads.csv", index=False
    )
    small = tiny.settings()
    chosen = replace(pocket(), student=small.student, specialist=small.specialist, budget=small.budget)
    made = moderation_task(tmp_path / "ads.csv", chosen)
    run = recipes.run("moderation", made, chosen, tmp_path / "run", quiet=True)
    found = run.metrics["subtasks"]
    assert found["count"] == (suited(made, chosen)[0].discovery.subtasks if subtasks is None else subtasks)
    json.loads((run.folder / "metrics.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    page = run.report.read_text()
    if subtasks == 0:
        why = too_few(made, chosen)
        assert f"None were looked for: {why}. The result is a plain model." in page
        assert run.metrics["choice"]["chosen"] == "fine_tuned"
        assert len(pd.read_csv(run.folder / "subtasks.csv")) == 0
    table, _ = recipes.predict(run.folder, tmp_path / "ads", tmp_path / "scores.csv", fpr=0.2)
    examples = pd.read_parquet(run.folder / "examples.parquet").set_index("image")
    assert len(table) == count
    assert np.allclose(table["score"], examples.loc["ads/" + table["image"], "score"], atol=1e-5)


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        ("moderate --labels {a:0,b:1}", "40 are needed"),
        ("multilabel", "6 are needed"),
        ("distill", "32 are needed"),
        ("auxiliary --primary {name:label} --sides [{name:kind}]", "32 are needed"),
    ],
)
def test_where_no_image_can_be_read_the_reasons_are_listed(command, needed, tmp_path, capsys):
    facts = {"image": [f"{row}.png" for row in range(60)], "label": ["a", "b"] * 30, "kind": ["u", "u", "v"] * 20}
    pd.DataFrame(facts).to_csv(tmp_path / "all.csv", index=False)
    name, *rest = [word.replace(":", ": ").replace(",", ", ") for word in command.split(" ")]
    with pytest.raises(SystemExit, match="2"):
        cli.main([name, str(tmp_path / "all.csv"), "--scale", "pocket", "--out", str(tmp_path / "run"), *rest])
    said = capsys.readouterr().err
    assert f"{needed}; 60 left out: missing 60. See problems.csv." in said
    assert pd.read_csv(tmp_path / "run" / "problems.csv")["reason"].tolist() == ["missing"] * 60
