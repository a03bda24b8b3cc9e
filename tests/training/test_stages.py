"""A finished stage is kept until something that it depends on changes; an unfinished one goes on in its folder."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tutelage.data import fingerprint
from tutelage.training import Log, Stages


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
