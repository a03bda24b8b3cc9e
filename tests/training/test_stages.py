"""A finished stage is kept until something that it depends on changes; an unfinished one goes on in its folder."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tutelage.data import fingerprint
from tutelage.training import Hardware, Log, Stages


@dataclass(frozen=True)
class Settings:
    depth: int = 3
    names: tuple[str, ...] = ("a", "b")


class Run:
    """Three stages in a row, which count how often each was worked at."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.worked: list[str] = []

    def __call__(self, fails: str | None = None, **settings: Any) -> dict[str, Any]:
        log = Log(self.folder / "log.jsonl", quiet=True)
        stages, before, facts = Stages(self.folder, log), [], {}
        for name in ("find", "choose", "teach"):

            def work(folder: Path, name: str = name) -> dict[str, Any]:
                self.worked.append(name)
                with (folder / "notes").open("a") as notes:
                    notes.write("x")
                if name == fails:
                    raise KeyboardInterrupt
                return {"from": name, "visits": len((folder / "notes").read_text())}

            stage = stages.run(name, work, cache_key=settings.get(name), after=before)
            assert (stage.folder / "notes").is_file()
            facts[name] = stage.facts
            before = [name]
        return facts


def test_a_finished_stage_is_not_run_again(tmp_path: Path) -> None:
    run = Run(tmp_path)
    facts = run(find=Settings())
    assert run.worked == ["find", "choose", "teach"]
    assert run(find=Settings()) == facts
    assert run.worked == ["find", "choose", "teach"]
    events = [json.loads(line)["event"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert events == ["stage started", "stage done"] * 3 + ["stage kept"] * 3


@pytest.mark.parametrize("harm", ["flipped", "gone"])
def test_a_damaged_file_of_a_finished_stage_is_named(harm: str, tmp_path: Path) -> None:
    run = Run(tmp_path)
    run()
    notes = tmp_path / "stages" / "choose" / "notes"
    notes.write_text("y") if harm == "flipped" else notes.unlink()
    with pytest.raises(ValueError, match=rf"{notes} is (damaged|gone).*delete {notes.parent}, and run"):
        run()
    shutil.rmtree(notes.parent)
    run()
    assert run.worked == ["find", "choose", "teach", "choose"]


def test_a_stage_is_done_when_its_files_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    real = os.fsync

    def fsync(number: int) -> None:
        flushed.append(os.readlink(f"/proc/self/fd/{number}") if os.path.isdir("/proc/self/fd") else "")
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)

    def work(folder: Path) -> dict[str, Any]:
        (folder / "model").mkdir()
        (folder / "model" / "weights").write_bytes(b"1")
        flushed.clear()
        return {}

    stage = Stages(tmp_path, Log(None)).run("find", work, cache_key=None)
    names = [Path(each).name for each in flushed]
    done = next(place for place, name in enumerate(names) if name.startswith(".done.json"))
    assert {"model", "weights"} <= set(names[:done])
    assert str(stage.folder) in flushed[done:]  # so that the mark is there, too


@pytest.mark.parametrize(
    ("changed", "again"),
    [("find", ["find", "choose", "teach"]), ("choose", ["choose", "teach"]), ("teach", ["teach"])],
)
def test_a_change_runs_a_stage_and_all_that_follows_from_it(changed: str, again: list[str], tmp_path: Path) -> None:
    run = Run(tmp_path)
    run()
    run.worked.clear()
    facts = run(**{changed: Settings(depth=4)})
    assert run.worked == again
    assert [facts[name]["visits"] for name in facts] == [1, 1, 1]  # in a clean folder


def test_an_unfinished_stage_goes_on_in_its_folder_unless_it_has_changed(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(fails="choose")
    facts = run()
    assert run.worked == ["find", "choose", "choose", "teach"]
    assert facts["choose"]["visits"] == 2  # its checkpoints are there
    with pytest.raises(KeyboardInterrupt):
        run(fails="teach", teach=1)
    assert run(teach=2)["teach"]["visits"] == 1


def test_a_fingerprint_is_of_values() -> None:
    assert fingerprint(Settings(), 1) == fingerprint({"names": ["a", "b"], "depth": 3}, 1)
    assert fingerprint(Settings()) != fingerprint(Settings(depth=4))


def test_other_workers_do_not_discard_a_stage() -> None:
    assert fingerprint(Hardware()) == fingerprint(Hardware(workers=3, checkpoint_seconds=1.0, trackers=("wandb",)))
    assert fingerprint(Hardware()) != fingerprint(Hardware(precision="bf16"))
