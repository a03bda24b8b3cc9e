"""CONTRIBUTING's walkthrough: a recipe that nobody knew is its own files and a name; no other file names any recipe."""

import ast
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from tutelage import recipes
from tutelage.cli import main
from tutelage.cli.again import task_of
from tutelage.data import ImageTable
from tutelage.models import ModelSpec, build, load_model, save_model
from tutelage.production.export import export
from tutelage.production.exported import ExportedModel
from tutelage.production.held_out import held_out
from tutelage.production.review import draw_test, write_page
from tutelage.recipes import finished, registry
from tutelage.recipes.images import logits_of, named
from tutelage.recipes.presets import Presets
from tutelage.recipes.target import Target, image_or_features

SPEC = ModelSpec("pocket_resnet", 2, 24, options={"widths": [4, 8]})
SOURCE = Path(recipes.__file__).parents[1]


@dataclass(frozen=True)
class Settings:
    """Settings of the sixth recipe."""

    seed: int = 0


def answer(loaded: Any, images: ImageTable) -> pd.DataFrame:
    return named(images).assign(predicted=logits_of(loaded, images).argmax(1).numpy())


def target(run: Path) -> Target:
    model, _ = load_model(run / "model")
    return Target(model, None, image_or_features(24, None), {"kind": "class"}, ["no", "yes"])


def nothing(*given: Any) -> Any:
    return {}


SIXTH: recipes.Recipe[Any, Any, Any] = recipes.Recipe(
    "sixth",
    Presets({"pocket": (Settings(), "nothing to learn")}, auto="pocket"),
    nothing,
    nothing,
    nothing,
    lambda metrics: [],
    answer,
    lambda table: f"{len(table)} images",
    nothing,
)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Callable[[recipes.Recipe[Any, Any, Any]], None]:
    """A function that makes a recipe one of `RECIPES`."""

    def make(recipe: recipes.Recipe[Any, Any, Any]) -> None:
        module: Any = ModuleType("recipe_of_a_stranger")
        module.RECIPE = recipe
        monkeypatch.setitem(registry.RECIPES, "sixth", module.__name__)
        monkeypatch.setitem(__import__("sys").modules, module.__name__, module)

    return make


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run of the sixth recipe."""
    folder = tmp_path / "run"
    folder.mkdir()
    with torch.random.fork_rng(devices=[]):
        save_model(build(SPEC).eval(), folder / "model")
    told = {"pipeline": {"recipe": "sixth", "title": "posters", "seed": 0}}
    (folder / "metrics.json").write_text(json.dumps(told))
    return folder


def test_it_is_exported_by_what_it_says_of_itself(known: Any, run: Path, tmp_path: Path) -> None:
    known(replace(SIXTH, target=target, validation="student_val"))
    task = tiny.task()
    card = export(run, tmp_path / "model", task)
    assert (card["recipe"], card["classes"]) == ("sixth", ["no", "yes"])
    pixels = task.images.batch(range(3))["input"].numpy()
    served = [each["predicted"] for each in ExportedModel(tmp_path / "model").answer(pixels)]
    images = task.images.with_table(task.images.table)
    expected = answer(load_model(run / "model"), images)["predicted"][:3]
    assert served == [["no", "yes"][place] for place in expected]


def test_one_that_says_nothing_of_an_export_is_told_so_in_a_line(known: Any, run: Path, tmp_path: Path) -> None:
    known(SIXTH)
    with pytest.raises(ValueError, match="a run of sixth, whose recipe says nothing of what is served"):
        export(run, tmp_path / "model", tiny.task())
    with pytest.raises(ValueError, match=r"run\.json names no command that made the run"):
        task_of(run)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("name", "value"), [("fpr", 0.01), ("confidence", 0.9), ("wrong_labels", 0.1), ("held_out", Path("new.csv"))]
)
def test_one_that_decides_by_no_threshold_takes_none(
    name: str, value: Any, known: Any, run: Path, tmp_path: Path
) -> None:
    known(replace(SIXTH, target=target))
    with pytest.raises(
        ValueError, match=f"^{name}='?{value}'?: a run of sixth decides by no threshold; leave {name} out"
    ):
        export(run, tmp_path / "model", tiny.task(), **{name: value})


def test_one_without_threshold_or_doubts_is_not_reviewed(
    known: Any, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known(SIXTH)
    for act in (held_out, lambda folder: draw_test(folder, 3)):
        with pytest.raises(ValueError, match="a run of sixth, which decides by no threshold"):
            act(run)
    with pytest.raises(ValueError, match="a run of sixth, which says nothing of single labels"):
        write_page(run)
    with pytest.raises(SystemExit):
        main(["review", str(run), "--answers", "a.csv"])
    assert "a run of sixth decides by no threshold" in capsys.readouterr().err


def test_it_answers_for_new_images_and_each_table_is_written_once(
    known: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(SIXTH)
    tiny.manifest(tmp_path, (4, 4))
    written, write = [], finished.write_table

    def noted(path: Path, table: pd.DataFrame) -> None:
        written.append(path.name)
        write(path, table)

    monkeypatch.setattr(finished, "write_table", noted)
    table, _ = recipes.predict(run, tmp_path / "all.csv", tmp_path / "answers.csv")
    assert np.isin(table["predicted"], [0, 1]).all()
    assert len(table) == 8
    recipes.predict(run, tmp_path / "all.csv", tmp_path / "again.parquet")
    assert written == ["answers.csv", "again.parquet", "again.csv"]


def test_data_are_small_where_a_recipe_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    scales: Any = {"pocket": (Settings(1), "few pixels"), "paper": (Settings(2), "many")}
    assert Presets(scales).chosen("auto", "digits")[0] == Settings(2)
    assert Presets(scales, small=("digits",)).chosen("auto", "digits")[0] == Settings(1)


def test_what_all_recipes_share_compares_no_name_of_a_recipe() -> None:
    shared = [*SOURCE.glob("recipes/*.py"), *SOURCE.glob("production/**/*.py"), *SOURCE.glob("cli/*.py")]
    names = {"auxiliary", "denoise", "distill", "moderation", "multilabel"}
    for path in shared:
        for node in ast.walk(ast.parse(path.read_text())):
            told = {
                each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)
            }
            assert not (isinstance(node, ast.Compare) and told & names), f"{path}: {ast.unparse(node)}"
