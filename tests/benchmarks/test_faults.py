"""The table of faults: what is counted is what happened."""

import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from benchmarks.faults import damage, kills, table, values


def test_a_table_of_counts_adds_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "killed", lambda name, count, folder: kills.Killed(name, count, 2, 1, 7))
    monkeypatch.setattr(
        table, "damaged", lambda folder: [("a", Counter(refused=3, **{"as without": 2})), ("b", Counter())]
    )
    monkeypatch.setattr(table, "refused", lambda: [("flags", Counter(refused=4, accepted=1))])
    monkeypatch.setattr(table, "_cases", lambda file: Counter(held=3, broken=1))
    monkeypatch.setattr(table.torch, "set_num_threads", lambda count: None)
    text = table.faults(tmp_path / "new", kills=6).read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    assert ["distill", "6", "2", "1", "7"] in rows
    assert [row for row in rows if row[0] == "all"] == [
        ["all", "30", "10", "5", ""],
        ["all", "5", "2", "3", "0"],
        ["all", "5", "4", "1", "0"],
        ["all", "16", "12", "4"],
    ]


@pytest.mark.parametrize(
    ("end", "over"),
    [
        (lambda: None, True),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), False),
        (lambda: (_ for _ in ()).throw(kills.Interrupted("stopped")), False),
    ],
)
def test_how_a_process_ended(end, over):
    assert kills._ended(kills.in_a_process(lambda: [*(end() or ())])) is over


def test_a_process_that_fails_is_no_kill(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="the run ended with 1"):
        kills._ended(kills.in_a_process(lambda: 1 / 0))
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_what_came_of_a_damage(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    wanted, paths = kills.contents(tmp_path), [Path("stages/done.json")]

    def outcome(run):
        return damage._outcome(run, tmp_path, paths, wanted)

    def refuse(error):
        raise error

    assert outcome(lambda: None) == "as without"
    assert outcome(lambda: refuse(ValueError("done.json is damaged"))) == "refused"
    assert outcome(lambda: refuse(ValueError("something"))) == "else"
    assert outcome(lambda: refuse(TypeError("done.json"))) == "else"
    (tmp_path / "a.txt").write_text("b")
    assert outcome(lambda: None) == "else"


def test_what_came_of_a_value() -> None:
    def refuse(error):
        raise error

    assert values._outcome("lr=0", lambda: refuse(ValueError("lr=0 must be above 0"))) == "refused"
    assert values._outcome("lr=0", lambda: refuse(ValueError("no"))) == "else"
    assert values._outcome("lr=0", lambda: refuse(KeyError("lr=0"))) == "else"
    assert values._outcome("lr=0", lambda: None) == "accepted"
