"""The audit's promises: the committed table keeps them, and the simulation behind it is what it says."""

from pathlib import Path

import pytest
from benchmarks.audit import table
from benchmarks.results_table import read_results

RESULTS = Path(table.__file__).parents[1] / "results" / "audit-pocket.json"


def test_the_committed_table_keeps_the_promises():
    found = {(row.row, row.metric): row for row in read_results(RESULTS)}
    assert {row for row, _ in found} == set(table.ROWS)
    for name in (*table.CASES, table.CHANGE):
        assert found[name, table.COVERED].ours >= 94
    assert found[table.SEQUENTIAL, table.ALARMS].ours < 5
    assert found[table.SEQUENCE, table.HELD].ours >= 95
    assert found[table.EVERY_WEEK, table.ALARMS].ours > 5  # or there would be nothing to guard against


def test_a_small_simulation_in_every_row(monkeypatch):
    monkeypatch.setattr(table, "AUDITS", 20)
    monkeypatch.setattr(table, "POPULATIONS", 2)
    table._looks.cache_clear()
    try:
        rows, notes = table.results("pocket", seeds=1, data=None, runs=Path())
    finally:
        table._looks.cache_clear()
    found = {(row.row, row.metric): row.ours for row in rows}
    assert {row for row, _ in found} == set(table.ROWS)
    assert found["30 % defects", table.COVERED] >= 80
    assert found[table.SEQUENTIAL, table.ALARMS] <= found[table.EVERY_WEEK, table.ALARMS]
    by_week = [found[table.ONCE, name] for name in table.FOUND]
    assert by_week[:2] == [0, 0] < by_week[2:]
    assert len(notes) == 4
    with pytest.raises(ValueError, match=r"only=\['X'\]: no such row"):
        table.results("pocket", seeds=1, data=None, runs=Path(), only=("X",))
    with pytest.raises(ValueError, match="scale='paper'"):
        table.results("paper", seeds=1, data=None, runs=Path())
