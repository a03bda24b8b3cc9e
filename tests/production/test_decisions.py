"""The decision log: once, whoever records how often, and on the disk when it answers; on SQLite and on PostgreSQL."""

import json
import math
import signal
import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select, text

from processes import PATIENCE, started
from tutelage.production.database import Database
from tutelage.production.decisions import Decision, DecisionLog, monday, week_of
from tutelage.production.tables import impressions, metadata


def shown(log: DecisionLog) -> list[tuple[Any, ...]]:
    with log.database.read() as connection:
        return [tuple(row) for row in connection.execute(select(impressions).order_by("ad_id", "week"))]


def test_a_decision_is_read_as_it_was_written(place):
    moment = datetime(2026, 2, 11, 23, 30, tzinfo=timezone(timedelta(hours=-2)))
    facts: dict[str, Any] = {"image": "a/b.png", "headline": "Größe 🚫", "subtask": "weapons"}
    facts |= {"content": "ab" * 32, "decided_at": moment}
    with DecisionLog(place) as log:
        found = log.record("ad", "v1", -3.25, "defective", "new", shadow=True, impressions=7, **facts)
        assert found == Decision("ad", "v1", -3.25, "defective", "new", True, 7, **facts)
        (row,) = log.table().to_dict("records")
        assert row.pop("decided_at") == moment
        assert row == {"ad_id": "ad", "model_version": "v1", "score": -3.25, "decision": "defective", "variant": "new",
                       "shadow": True, "image": "a/b.png", "headline": "Größe 🚫", "subtask": "weapons",
                       "content": "ab" * 32}  # fmt: skip
        assert shown(log) == [("ad", "2026-W07", 7.0)]


def test_the_first_decision_stands(place):
    with DecisionLog(place) as log, DecisionLog(place) as other:
        first = log.record("ad", "v1", 0.5, "acceptable", "new", impressions=3)
        again = other.record("ad", "v1", 0.6, "defective", "old", shadow=True, impressions=9, headline="other")
        assert (again.score, again.decision, again.variant, again.shadow, again.headline) == (
            0.5,
            "acceptable",
            "new",
            False,
            None,
        )
        assert again.decided_at == first.decided_at
        assert log.record("ad", "v2", 0.6, "defective", "old").score == 0.6
        assert list(log.table()["model_version"]) == ["v1", "v2"]
        assert [count for *_, count in shown(log)] == [3.0]  # a retry counts nothing anew


def test_what_a_version_said_while_it_looked_on_stands_when_it_is_acted_on(place):
    before, after = (datetime(2026, 1, day, tzinfo=UTC) for day in (5, 19))
    with DecisionLog(place) as log:
        log.record("ad", "v1", 0.25, "acceptable", "new", shadow=True, decided_at=before, impressions=3)
        acted = log.record("ad", "v1", 0.75, "defective", "old", decided_at=after, impressions=5)
        assert (acted.score, acted.decision, acted.variant, acted.shadow) == (0.25, "acceptable", "old", False)
        assert acted.decided_at == after
        again = log.record("ad", "v1", 0.75, "defective", "new", shadow=True)
        assert (again.variant, again.shadow, again.decided_at) == ("old", False, after)
        told = (("new", True, 0.1), ("old", False, 0.2), ("old", False, 0.3))
        both = [Decision("two", "v1", score, "acceptable", name, shadow) for name, shadow, score in told]
        assert [(each.variant, each.score) for each in log.record_all(both)] == [("old", 0.2)] * 3
        assert len(log.table()) == 2
        assert shown(log) == [("ad", "2026-W02", 3.0), ("ad", "2026-W04", 5.0)]


def test_a_decision_about_other_content_changes_nothing(place):
    with DecisionLog(place) as log:
        log.record("ad", "v1", 0.25, "acceptable", "new", shadow=True, content="a" * 64)
        for content in ("b" * 64, None):
            other = log.record("ad", "v1", 0.75, "defective", "old", content=content)
            assert (other.content, other.score, other.variant, other.shadow) == ("a" * 64, 0.25, "new", True)
        acted = log.record("ad", "v1", 0.25, "acceptable", "old", content="a" * 64)
        assert (acted.content, acted.variant, acted.shadow) == ("a" * 64, "old", False)


def test_a_log_of_before_the_content_was_noted_is_brought_up_to_date(tmp_path):
    place = tmp_path / "old.sqlite"
    with DecisionLog(place) as log:
        log.record("ad", "v1", 0.5, "acceptable", "a")
        with log.database.engine.begin() as connection:
            connection.execute(text("ALTER TABLE decision DROP COLUMN content"))
            connection.execute(text("UPDATE alembic_version SET version_num = '0002'"))
    with DecisionLog(place) as log:
        assert log.table()["content"].tolist() == [None]
        assert log.record("ad", "v1", 0.7, "defective", "a", content="c" * 64).content is None


def test_many_at_once_answer_in_their_order_and_a_repeated_one_with_the_first(place):
    given = [Decision(f"ad{i % 700:03d}", "v", i, "acceptable", "a") for i in reversed(range(1400))]
    with DecisionLog(place) as log:
        found = log.record_all(given)
        assert [each.ad_id for each in found] == [each.ad_id for each in given]
        assert all(each.score == int(each.ad_id[2:]) + 700 for each in found)
        assert len(log.table()) == 700
        assert log.record_all([]) == []
        assert log.record_all(given[::-1]) == found[::-1]


def test_the_migrations_make_the_tables_that_the_code_uses(place):
    for _ in range(2):  # opened again, nothing happens
        database = Database(place)
        with database.engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        database.close()


def test_impressions_are_set_by_week(place):
    with DecisionLog(place) as log:
        assert log.add_impressions([("b", "2026-W07", 5), ("a", "2026-W07", 1), ("a", "2026-W08", 2)]) == 3
        assert log.add_impressions(iter([("a", "2026-W07", 4)])) == 1
        assert shown(log) == [("a", "2026-W07", 4.0), ("a", "2026-W08", 2.0), ("b", "2026-W07", 5.0)]
        for count in (-1, math.nan, math.inf):
            with pytest.raises(ValueError, match="impressions="):
                log.add_impressions([("a", "2026-W07", count)])
        with pytest.raises(ValueError, match="week='2026-W60' must be an ISO week such as 2026-W07"):
            log.add_impressions([("a", "2026-W60", 1)])


def test_weeks():
    assert [week_of(date(2026, 1, 1)), week_of(date(2027, 1, 3)), week_of(date(2024, 12, 30))] == [
        "2026-W01",
        "2026-W53",
        "2025-W01",
    ]
    assert week_of(datetime(2026, 2, 8, 23, 30, tzinfo=timezone(timedelta(hours=-2)))) == "2026-W07"  # Monday in UTC
    assert monday("2026-W53") == date(2026, 12, 28)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"ad_id": ""}, "ad_id='' must be a text of 1 to 512 bytes"),
        ({"ad_id": "ä" * 257}, "must be a text of 1 to 512 bytes"),
        ({"ad_id": "a\0b"}, "holds a character that cannot be stored"),
        ({"headline": "\ud800"}, "headline=.* holds a character that cannot be stored"),
        ({"variant": "v" * 129}, "variant=.* must be a text of 1 to 128 bytes"),
        ({"score": math.nan}, "score=nan must be a finite number"),
        ({"score": -math.inf}, "score=-inf must be a finite number"),
        ({"impressions": -1}, "impressions=-1 must be a number from 0"),
        ({"decided_at": datetime(2026, 1, 1)}, "decided_at=2026-01-01 00:00:00 has no time zone"),
    ],
)
def test_values_that_cannot_be_stored(wrong, said):
    with pytest.raises(ValueError, match=said):
        Decision(
            **{"ad_id": "a", "model_version": "v", "score": 0.0, "decision": "acceptable", "variant": "x", **wrong}
        )


@pytest.mark.parametrize(
    ("place_of_it", "said"),
    [
        ("mysql://root:secret@localhost/x", "give the path of a file, for SQLite, or postgresql://"),
        ("sqlite://", "give the path of a file"),
        ("postgresql://user:secret@host:port/x", "is no URL"),
    ],
)
def test_a_database_that_is_none(place_of_it, said):
    with pytest.raises(ValueError, match=said) as error:
        DecisionLog(place_of_it)
    assert "secret" not in str(error.value)


def test_a_database_that_does_not_answer(tmp_path):
    with pytest.raises(ConnectionError, match=r"database postgresql.*\*\*\*@") as error:
        DecisionLog(f"postgresql://user:secret@/x?host={tmp_path}", patience=0.1)
    assert "secret" not in str(error.value)


def test_a_file_that_another_writes_to_is_waited_for(tmp_path):
    path = tmp_path / "decisions.sqlite"
    with DecisionLog(path) as log, log.database.engine.connect() as connection:
        connection.execute(text("SELECT 1"))  # which takes the writer's lock
        threading.Timer(0.3, connection.rollback).start()
        assert DecisionLog(path).record("ad", "v", 0.0, "acceptable", "a").ad_id == "ad"


def recorded_by(worker: int, place: str, folder: str) -> None:
    order = range(300) if worker else reversed(range(300))
    with DecisionLog(place) as log:
        given = [Decision(f"ad{i:03d}", "v", worker, "acceptable", "a") for i in order]
        answers = [log.record_all(given[at : at + 31]) for at in range(0, 300, 31)]
    Path(folder, f"{worker}.json").write_text(
        json.dumps(sorted((each.ad_id, each.score) for part in answers for each in part))
    )


def test_two_processes_open_and_write_the_same_at_once_and_are_told_the_same(place, tmp_path):
    workers = [started(recorded_by, worker, place, str(tmp_path)) for worker in range(2)]
    try:
        for worker in workers:
            worker.join(PATIENCE)
        assert [worker.exitcode for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
    told = [json.loads((tmp_path / f"{worker}.json").read_text()) for worker in range(2)]
    assert told[0] == told[1]
    with DecisionLog(place) as log:
        table = log.table()
    assert sorted(map(list, zip(table["ad_id"], table["score"], strict=True))) == told[0]


def records_for_ever(place: str, answered: str) -> None:
    with DecisionLog(place) as log, Path(answered).open("a", buffering=1) as file:
        for i in range(10**9):
            log.record(f"ad{i}", "v", i, "acceptable", "a")
            file.write(f"ad{i}\n")


def while_recording(place: str, answered: Path, act: Callable[[Any], None], rows: int = 20) -> None:
    """Do something to a process that records, after so many answers."""
    before = len(answered.read_text().splitlines()) if answered.exists() else 0
    process = started(records_for_ever, place, str(answered))
    try:
        reached(answered, before + rows, process)
        act(process)
    finally:
        process.kill()
        process.join(PATIENCE)


def reached(answered: Path, rows: int, process: Any) -> None:
    for _ in range(int(PATIENCE / 0.01)):
        if answered.exists() and len(answered.read_text().splitlines()) >= rows:
            return
        assert process.is_alive()
        process.join(0.01)
    raise AssertionError(f"{rows} answers did not come")


def all_answered_are_there_once(place: str, answered: Path) -> None:
    with DecisionLog(place) as log:
        logged = log.table()["ad_id"]
    assert logged.is_unique
    assert set(answered.read_text().split()) <= set(logged)


def test_a_killed_process_loses_no_answer(place, tmp_path):
    for _ in range(3):
        while_recording(place, tmp_path / "answered", lambda process: process.kill())
    all_answered_are_there_once(place, tmp_path / "answered")


@pytest.mark.parametrize("how", [signal.SIGQUIT, signal.SIGINT], ids=["crash", "restart"])
def test_postgresql_restarts_while_two_processes_record_the_same(postgres, tmp_path, how):
    place, answered, second = postgres.new_database(), tmp_path / "answered", tmp_path / "second"

    def restart(process: Any) -> None:
        for _ in range(2):
            postgres.stop(how)
            rows = len(answered.read_text().splitlines())
            postgres.start()
            reached(answered, rows + 20, process)
        reached(second, 20, other)

    other = started(records_for_ever, place, str(second))
    try:
        while_recording(place, answered, restart)
    finally:
        other.kill()
        other.join(PATIENCE)
    all_answered_are_there_once(place, answered)
    all_answered_are_there_once(place, second)
