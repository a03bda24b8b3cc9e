"""`predict` is one function: what holds of one recipe's run holds of all, and every recipe's task says the same things."""

import html
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from tutelage import recipes
from tutelage.generations import IteratedSettings
from tutelage.production.export import export
from tutelage.production.exported import ExportedModel
from tutelage.recipes import auxiliary, denoise, distill, moderation, multilabel
from tutelage.recipes.run_lock import claimed
from tutelage.training import Budget, Optimization

pytestmark = pytest.mark.filterwarnings("ignore::tutelage.hypergradient.NeumannWarning")
GOOD = 5  # new examples that can be read; one more cannot


@dataclass(frozen=True)
class Made:
    """A finished run, the task that it learned from, and a file of new examples."""

    run: recipes.Run
    task: recipes.Task
    new: Path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 posters with two labels, and six new ones, the last of which is no image."""
    folder = tmp_path_factory.mktemp("images")
    rows = tiny.written(folder)
    pd.DataFrame(rows, columns=["image", "label"]).to_csv(folder / "all.csv", index=False)
    (folder / "broken.png").write_bytes(b"this is no image")
    new = [*(row[0] for row in rows[:GOOD]), "broken.png"]
    pd.DataFrame({"image": new}).to_csv(folder / "new.csv", index=False)
    return folder


def moderated(images: Path, out: Path) -> Made:
    settings = tiny.settings()
    task = moderation.moderation_task(images / "all.csv", settings)
    return Made(recipes.run("moderation", task, settings, out, quiet=True), task, images / "new.csv")


def distilled(images: Path, out: Path) -> Made:
    small = replace(distill.pocket().student, options={"widths": [6]})
    settings = replace(
        distill.pocket(),
        student=small,
        teachers=(distill.TeacherSettings(small, budget=Budget(epochs=1)),),
        budget=Budget(epochs=1),
        method="kd",
        baselines=(),
    )
    task = distill.distill_task(str(images / "all.csv"), settings)
    return Made(recipes.run("distill", task, settings, out, quiet=True), task, images / "new.csv")


def multilabelled(images: Path, out: Path) -> Made:
    settings = replace(
        multilabel.pocket(),
        radius=-1,
        budget=Budget(steps=4),
        iterated=IteratedSettings(2, 2, rho=0.1),
        model=replace(multilabel.pocket().model, options={"width": 8, "depth": 1}),
    )
    task = multilabel.multilabel_task(str(images / "all.csv"), settings)
    return Made(recipes.run("multilabel", task, settings, out, quiet=True), task, images / "new.csv")


def answered(images: Path, out: Path) -> Made:
    settings = replace(
        auxiliary.pocket(),
        image_size=8,
        body=auxiliary.BodySettings(options={"widths": [4, 8], "stem_stride": 1}),
        budget=Budget(epochs=1),
        weighting="equal",
        baselines=(),
    )
    sides = ({"name": "turned", "kind": "rotation"},)
    task = auxiliary.auxiliary_task(str(images / "all.csv"), settings, primary={"name": "label"}, sides=sides)
    return Made(recipes.run("auxiliary", task, settings, out, quiet=True), task, images / "new.csv")


def denoised(images: Path, out: Path) -> Made:
    draw = np.random.default_rng(0)
    words = {"spam": ["subscribe", "click"], "ham": ["love", "great"]}
    rows = [
        (" ".join(draw.choice([*words[label], "song"], size=4)), label if number < 60 else "")
        for number, label in ((number, ("ham", "spam")[number % 2]) for number in range(120))
    ]
    folder = out.parent
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(folder / "texts.csv", index=False)
    (folder / "rules.py").write_text(
        "from tutelage.data import ABSTAIN, rule\n\n@rule\ndef begs(x):\n"
        "    return 'spam' if 'subscribe' in x.text else 'ham' if 'love' in x.text else ABSTAIN\n"
    )
    pd.DataFrame({"id": range(GOOD + 1), "text": [*(row[0] for row in rows[:GOOD]), ""]}).to_csv(
        folder / "new.csv", index=False
    )
    settings = replace(
        denoise.pocket(), budget=Budget(steps=4), training=Optimization(lr=0.05, batch_size=16), method="spear"
    )
    task = denoise.text_task(folder / "texts.csv", settings, rules=folder / "rules.py", quiet=True)
    return Made(recipes.run("denoise", task, settings, out, quiet=True), task, folder / "new.csv")


MAKE: dict[str, Callable[[Path, Path], Made]] = {
    "auxiliary": answered,
    "denoise": denoised,
    "distill": distilled,
    "moderation": moderated,
    "multilabel": multilabelled,
}


@pytest.fixture(scope="module", params=list(MAKE))
def made(request: Any, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return MAKE[request.param](images, tmp_path_factory.mktemp(request.param) / "run")


def test_every_recipe_is_tried() -> None:
    assert list(MAKE) == list(recipes.RECIPES)


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_new_examples_are_answered_into_a_new_folder_and_what_cannot_be_read_is_listed(made, ending, tmp_path):
    out = tmp_path / "a" / "new" / f"answers{ending}"
    table, problems = recipes.predict(made.run.folder, made.new, out)
    assert len(table) == GOOD
    written = pd.read_csv(out) if ending == ".csv" else pd.read_parquet(out)
    assert list(written) == list(table)
    assert len(written) == GOOD
    assert len(problems) == 1
    listed = pd.read_csv(out.parent / "answers-problems.csv", dtype=str)
    assert listed.to_numpy().tolist() == [list(map(str, problem)) for problem in problems]
    assert f"{GOOD} " in recipes.recipe_of(made.run.folder).summary(table)


def test_another_ending_is_refused(made, tmp_path):
    with pytest.raises(ValueError, match=r"answers\.xlsx' must end in \.parquet or \.csv"):
        recipes.predict(made.run.folder, made.new, tmp_path / "answers.xlsx")
    assert not list(tmp_path.iterdir())


def test_options_that_a_recipe_does_not_take_are_refused(made, tmp_path):
    recipe = recipes.recipe_of(made.run.folder)
    for name, value in {"fpr": 0.01, "vectors": made.new}.items():
        if name not in recipe.options:
            with pytest.raises(ValueError, match=f"{name}=.*: a run of {recipe.name} .* leave {name} out"):
                recipes.predict(made.run.folder, made.new, tmp_path / "answers.csv", **{name: value})


def test_nothing_to_answer_lists_why(made, tmp_path):
    rows = pd.read_csv(made.new).iloc[GOOD:]
    rows.to_csv(made.new.parent / "bad.csv", index=False)
    with pytest.raises(ValueError, match=r"only 0 \w+ are left and 1 are needed; .* See answers-problems\.csv\."):
        recipes.predict(made.run.folder, made.new.parent / "bad.csv", tmp_path / "deep" / "answers.csv")
    assert len(pd.read_csv(tmp_path / "deep" / "answers-problems.csv")) == 1


def test_a_task_says_what_every_task_says(made):
    task = made.task
    assert task.title
    assert len(task.problems) >= 0
    parts = [task.rows(split) for split in ("train", "val", "test")]
    assert all(isinstance(rows, torch.Tensor) for rows in parts)
    assert len(task.rows("train", "test")) == len(parts[0]) + len(parts[2])
    assert len(task.judged_by()[parts[2]]) == len(parts[2]) > 0
    assert task.labels is not None
    assert task.fingerprint() == task.fingerprint()


def test_the_folder_says_who_made_it_and_what_was_left_out(made):
    folder = made.run.folder
    facts = json.loads((folder / "metrics.json").read_text())
    assert facts == made.run.metrics
    assert facts["pipeline"]["recipe"] in MAKE
    assert {"config.yaml", "problems.csv", "log.jsonl", "report.html", "model"} <= {p.name for p in folder.iterdir()}
    html = made.run.report.read_text()
    assert recipes.report(folder).read_text() == html
    for section in ("Data", "Training", "Settings"):
        assert f">{section}</h2>" in html
    assert "<script" not in html
    assert "Not everything was there" not in html


def test_metrics_are_written_last_and_at_once(made, monkeypatch, tmp_path):
    """A run that is cut while it evaluates leaves no metrics.json, not even that of the run before."""
    name = made.run.metrics["pipeline"]["recipe"]
    recipe = recipes.load(name)
    with claimed(tmp_path, name):  # by the run before
        (tmp_path / "metrics.json").write_text("{}")

    def cut(*given: Any) -> Any:
        raise KeyboardInterrupt

    package = __import__(recipes.RECIPES[name], fromlist=["RECIPE"])
    monkeypatch.setattr(package, "RECIPE", replace(recipe, train=lambda *given: None, evaluate=cut))
    with pytest.raises(KeyboardInterrupt):
        recipes.run(name, made.task, recipe.presets.chosen("pocket")[0], tmp_path, quiet=True)
    assert not (tmp_path / "metrics.json").exists()
    assert {"config.yaml", "problems.csv"} <= {path.name for path in tmp_path.iterdir()}


def test_a_recipe_that_is_none_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"recipe='destill' is not one of auxiliary, .*; did you mean 'distill'"):
        recipes.load("destill")


def test_a_folder_that_names_no_recipe(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no metrics\.json"):
        recipes.report(tmp_path)
    (tmp_path / "metrics.json").write_text('{"pipeline": {"title": "old"}}')
    with pytest.raises(ValueError, match=r"names no pipeline\.recipe"):
        recipes.report(tmp_path)


@pytest.mark.parametrize("name", list(recipes.RECIPES))
def test_presets_say_what_they_are(name):
    recipe = recipes.load(name)
    for scale in recipe.presets.scales:
        settings, why = recipe.presets.chosen(scale)
        assert why.startswith(f"scale {scale}: ")
        assert type(settings) is type(recipe.presets.chosen("auto")[0])
        assert "seed" in asdict(settings)
    accelerated = "paper" if torch.accelerator.is_available() else "pocket"  # no test may fetch an encoder
    assert recipe.presets.chosen("auto")[1].startswith(f"scale auto is {recipe.presets.auto or accelerated} (")


def test_a_run_shows_itself(made):
    recipe = made.run.metrics["pipeline"]["recipe"]
    first, *told, last = repr(made.run).splitlines()
    assert first == f"{recipe}: {made.run.metrics['pipeline']['title']}"
    assert [line.strip() for line in told] == [line.strip() for line in recipes.load(recipe).closing(made.run.metrics)]
    assert last.strip() == f"report: {made.run.report}"
    frame = re.fullmatch(r'<iframe srcdoc="([^"]*)" .*></iframe>', made.run._repr_html_())
    assert html.unescape(frame[1]) == made.run.report.read_text()


def test_the_exported_model_answers_as_predict_does(made, tmp_path):
    """Parity through the whole path: the files on the disk, decoded without PyTorch, through ONNX Runtime."""
    card = export(made.run.folder, tmp_path / "model", made.task)
    model = ExportedModel(tmp_path / "model")
    assert model.version == card["version"]
    table, _ = recipes.predict(made.run.folder, made.new, tmp_path / "answers.csv")
    rows = pd.read_csv(made.new).iloc[:GOOD]
    given = rows["text"] if "text" in rows else [(made.new.parent / name).read_bytes() for name in rows["image"]]
    found = model.answer(np.stack([model.prepare(each) for each in given]))
    for answer, (_, expected) in zip(found, table.iterrows(), strict=True):
        assert set(answer) - {"subtask"} == set(expected.index) - {"id", "image", "text", "threshold"}
        for name in set(answer) - {"subtask"}:
            wanted = expected[name]
            if name == "decision" and expected["score"] == pytest.approx(expected["threshold"], abs=1e-6):
                continue  # a threshold is the score of an example, whose last digit may fall either way when it comes again
            exact = isinstance(wanted, str) or (isinstance(wanted, list) and wanted and isinstance(wanted[0], str))
            assert answer[name] == (wanted if exact else pytest.approx(wanted, abs=1e-5)), name
    if made.run.metrics["pipeline"]["recipe"] == "moderation":
        told = json.loads((made.run.folder / "model" / "config.json").read_text())["thresholds"]
        assert card["answer"]["threshold"] == pytest.approx(told["0.01"], abs=1e-5)
        assert card["answer"]["thresholds"]["0.01"]["guaranteed"] == {"value": None, "defects_needed": 299}
