"""Runs on features that a user has computed: learned from, predicted and exported as features, without an encoder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from tutelage import recipes
from tutelage.data.encoded import EncodedTable
from tutelage.models import ModelSettings
from tutelage.production.export import export
from tutelage.production.score import score
from tutelage.recipes import auxiliary, distill, moderation, multilabel
from tutelage.recipes.encoding import EncoderSettings, encoded
from tutelage.training import Budget

COUNT, WIDTH = 300, 6
ANSWERS = {"moderation": "score", "distill": "probability", "multilabel": "scores", "auxiliary": "answer"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with labels, and features of two views by which the label can be told."""
    folder = tmp_path_factory.mktemp("data")
    draws = np.random.default_rng(0)
    label, kind = draws.integers(0, 2, COUNT), draws.integers(0, 2, COUNT)
    views = draws.normal(size=(COUNT, 2, WIDTH)).astype(np.float32) * 3 + 50  # to be standardised
    views[np.arange(COUNT), :, np.where(label == 0, kind, 2 + kind)] += 9
    ids = [f"text-{row}" for row in range(COUNT)]
    names = np.array(["defective", "acceptable"])[label]
    pd.DataFrame({"id": ids, "label": names, "kind": kind.astype(str)}).to_csv(folder / "data.csv", index=False)
    np.save(folder / "views.npy", views)
    first = pd.DataFrame({"id": ids, "features": list(views[:, 0])})
    first.iloc[::-1].to_parquet(folder / "first.parquet")
    return folder


def run(name: str, data: Path, out: Path) -> tuple[recipes.Run, Any]:
    given = EncoderSettings("never_looked_at", features=data / "views.npy")
    wide = ModelSettings("feature_mlp", options={"widths": [8]})
    table = data / "data.csv"
    task: Any
    made: Any
    if name == "moderation":
        student = ModelSettings("feature_student", options={"widths": [8]})
        made = replace(tiny.settings(), encoder=given, student=student, specialist=ModelSettings("feature_mlp"))
        task = moderation.moderation_task(table, made)
    elif name == "distill":
        teachers = (distill.TeacherSettings(wide, budget=Budget(epochs=1)),)
        made = replace(
            distill.pocket(), encoder=given, student=wide, teachers=teachers, budget=Budget(epochs=2), baselines=()
        )
        task = distill.distill_task(str(table), made)
    elif name == "multilabel":
        made = replace(multilabel.pocket(), encoder=given, model=wide, method="sigmoid", budget=Budget(steps=8))
        task = multilabel.multilabel_task(str(table), made)
    else:
        made = replace(
            auxiliary.laptop(),
            encoder=given,
            shares=auxiliary.Shares(val=0.2, held_out=0.2),
            body=auxiliary.BodySettings("feature_mlp", options={"widths": [8]}),
            budget=Budget(epochs=2),
            method="single",
            baselines=(),
        )
        task = auxiliary.auxiliary_task(str(table), made, primary={"name": "label"}, sides=({"name": "kind"},))
    return recipes.run(name, task, made, out, quiet=True), task


@pytest.mark.parametrize("name", ["moderation", "distill", "multilabel", "auxiliary"])
def test_what_a_run_says_of_features_predict_and_the_exported_graph_say_too(name, data, tmp_path, monkeypatch):
    tiny.hurry(monkeypatch.setattr)
    made, task = run(name, data, tmp_path / "run")
    table, problems = recipes.predict(made.folder, data / "first.parquet", tmp_path / "answers.parquet")
    assert problems.counts() == {}
    assert "image" not in table
    said, column = table.set_index("id"), ANSWERS[name]
    if name != "auxiliary":
        known = pd.read_parquet(made.folder / "examples.parquet").set_index("id")
        if name == "distill":  # what it has learned from it answers there without their labels
            known = known[known["split"] == "test"]
        known = known[column]
        for id in said.index.intersection(known.index)[::3]:
            assert np.allclose(said[column][id], known[id], atol=1e-5), id
    if name not in ("moderation", "auxiliary"):  # a graph takes seconds to write
        return
    card = export(made.folder, tmp_path / "exported", task)
    assert card["input"]["kind"] == "features"
    assert card["input"]["features"] == WIDTH
    assert "no images" in card["input"]["preprocessing"]
    score(tmp_path / "exported", data / "first.parquet", tmp_path / "scores.parquet")
    scored = pd.read_parquet(tmp_path / "scores.parquet").set_index("id")
    if name == "auxiliary":
        assert (scored[column] == said[column]).all()
    else:
        assert np.allclose(scored[column][said.index], said[column], atol=1e-5)


def test_features_are_standardised_over_the_training_part_and_change_a_run_s_identity(data):
    given, small = EncoderSettings(features=data / "views.npy"), ModelSettings("feature_mlp")
    student = ModelSettings("feature_student", options={"widths": [8]})
    settings = replace(tiny.settings(), encoder=given, student=student, specialist=small)
    task = moderation.moderation_task(data / "data.csv", settings)
    assert isinstance(task.images, EncodedTable)
    table = encoded(task.images, settings)
    assert isinstance(table, EncodedTable)
    views = torch.from_numpy(np.load(data / "views.npy"))
    train = views[table.rows("train")].flatten(0, 1)
    wanted = (views[:5] - train.mean(0)) / train.std(0, correction=0)
    assert torch.allclose(table.batch(range(5))["input"], wanted, atol=1e-4)
    with_noise = np.load(data / "views.npy")
    with_noise[7] += 1
    np.save(data / "other.npy", with_noise)
    other = replace(settings, encoder=EncoderSettings(features=data / "other.npy"))
    assert moderation.moderation_task(data / "data.csv", other).fingerprint() != task.fingerprint()


def test_what_features_cannot_do_is_refused(data, tmp_path):
    given = EncoderSettings(features=data / "views.npy")
    made = replace(distill.pocket(), encoder=given, student=ModelSettings("feature_mlp"))
    with pytest.raises(ValueError, match=r"encoder\.features=.*belongs to a table or folder of your own"):
        recipes.run("distill", distill.distill_task("digits", made), made, tmp_path / "a", quiet=True)
    sides = ({"name": "turn", "kind": "rotation"},)
    settings = replace(auxiliary.laptop(), encoder=given)
    with pytest.raises(ValueError, match="'rotation' turns images, and the features are given; leave it out"):
        auxiliary.auxiliary_task(str(data / "data.csv"), settings, primary={"name": "label"}, sides=sides)


def test_what_is_not_used_is_not_named_and_copies_are_those_of_features(data: Path, tmp_path: Path) -> None:
    assert EncoderSettings("never_looked_at", features=data / "views.npy").name is None
    pd.DataFrame({"label": ["a", "b"] * 80}).to_csv(tmp_path / "table.csv", index=False)
    rows = np.random.default_rng(0).normal(size=(160, WIDTH)).astype(np.float32)
    rows[7] = rows[5]
    np.save(tmp_path / "rows.npy", rows)
    of = replace(distill.pocket(), encoder=EncoderSettings(features=tmp_path / "rows.npy"))
    of = replace(
        of, student=ModelSettings("feature_mlp"), teachers=(distill.TeacherSettings(ModelSettings("feature_mlp")),)
    )
    task = distill.distill_task(str(tmp_path / "table.csv"), of)
    assert task.problems.counts() == {"duplicate_features": 1}
    assert next(iter(task.problems)).detail == "of 5 by features"
    assert set(task.duplicates["reason"]) == {"features"}
