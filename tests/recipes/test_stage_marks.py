"""What is left of a stage's marks when the power goes at a bad moment. (What stages do otherwise: tests/training.)"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage import temporaries
from tutelage.data import fingerprint
from tutelage.training import Log, Stages, stages

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


class Recipe:
    """One stage that leaves a result, and a list of the settings with which it was really done."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stage = folder / "stages" / "teach"
        self.done: list[Any] = []

    def run(self, settings: Any = 1) -> dict[str, Any]:
        def work(folder: Path) -> dict[str, Any]:
            self.done.append(settings)
            (folder / "result.txt").write_text(str(settings))
            return {"result": settings}

        return Stages(self.folder, Log(None, quiet=True)).run("teach", work, cache_key=settings).facts


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return Recipe(tmp_path)


@given(PLAIN, PLAIN)
def test_fingerprints_are_equal_when_and_only_when_the_values_are(one, other):
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (fingerprint(one) == fingerprint(other)) == same


@pytest.mark.parametrize("left", [b"", b'{"fingerprint": "0', b"\x00" * 64, b"\xff\xfe", b"null", b"[]", b"{}"])
@pytest.mark.parametrize(("name", "again"), [("done.json", [1, 1]), ("started.json", [1])])
def test_a_half_written_mark_is_none(recipe, name, again, left):
    facts = recipe.run()
    (recipe.stage / name).write_bytes(left)
    assert recipe.run() == facts
    assert recipe.done == again
    assert json.loads((recipe.stage / "done.json").read_text())["facts"] == facts


def test_going_back_to_older_settings_finds_nothing_of_the_newer_ones(recipe):
    for settings in (1, 2, 1):
        recipe.run(settings)
        assert (recipe.stage / "result.txt").read_text() == str(settings)
    assert recipe.done == [1, 2, 1]


def test_a_kill_while_an_old_stage_is_cleared_leaves_nothing_that_looks_whole(recipe, monkeypatch):
    def half_cleared(folder: Path) -> None:
        (folder / "result.txt").unlink()
        raise KeyboardInterrupt

    recipe.run(1)
    with monkeypatch.context() as patch:
        patch.setattr(stages.shutil, "rmtree", half_cleared)
        with pytest.raises(KeyboardInterrupt):
            recipe.run(2)
    recipe.run(1)
    assert recipe.done == [1, 1]
    assert (recipe.stage / "result.txt").exists()


def test_checkpoints_go_only_when_the_stage_is_marked_as_done(recipe, monkeypatch):
    def power_cut(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stages.checkpoint, "remove", power_cut)
        with pytest.raises(KeyboardInterrupt):
            recipe.run()
    recipe.run()
    assert recipe.done == [1]


def test_what_a_killed_process_had_half_written_is_cleared(recipe):
    recipe.run()
    dead = f".done.json.{temporaries._PLACE}-{os.getpid()}-{0:08x}-{0:08x}"  # of an earlier process of this number
    (recipe.stage / "done.json").rename(recipe.stage / dead)
    recipe.run()
    assert sorted(path.name for path in recipe.stage.iterdir()) == ["done.json", "result.txt", "started.json"]


def test_a_stage_after_one_that_was_not_run(recipe):
    with pytest.raises(KeyError):
        Stages(recipe.folder, Log(None, quiet=True)).run("teach", lambda folder: {}, cache_key=None, after=["find"])
