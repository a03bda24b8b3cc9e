"""Ours against the strongest other row: which rows are compared, and the interval and the test of the differences."""

import pytest
from benchmarks.paired import Comparison, paired, sign_test
from benchmarks.reproduce import COMPARED, TABLES
from benchmarks.results_table import ResultRow
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

ACCURACY, ERROR = "digits: accuracy, %", "ratings: RMSE"


def cells(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def rows(metric: str, **by_row: list[float]) -> list[ResultRow]:
    return [
        ResultRow.over_seeds(row, metric, {300 + seed: value for seed, value in enumerate(values)})
        for row, values in by_row.items()
    ]


OURS = Comparison(
    {"accuracy, %": True, "RMSE": False}, lambda row: row.startswith("ours"), beside=lambda row: row == "oracle"
)


def test_the_rival_is_the_strongest_row_and_seeds_are_paired() -> None:
    table = rows(ACCURACY, weak=[1.0, 1, 1], strong=[80.0, 90, 70], ours=[82.0, 91, 73], oracle=[99.0, 99, 99])
    table += [ResultRow("from an older table", ACCURACY, 97.0, 1.0, 3)]
    ((case, ours, rival, less, seeds, p, verdict),) = cells(paired(table, OURS))
    assert (case, ours, rival, seeds) == ("digits: accuracy, %", "ours", "strong", "3 of 3")
    low, high = stats.t.interval(0.95, 2, loc=2.0, scale=stats.sem([2.0, 1.0, 3.0]))
    assert less == f"+2.00 ± {(high - low) / 2:.2f}"
    assert float(p) == pytest.approx(stats.binomtest(3, 3).pvalue)
    assert verdict == "level"  # 2.48 is more than 2


@pytest.mark.parametrize(("own", "verdict"), [([0.8, 0.7, 0.9], "better"), ([1.2, 1.1, 1.32], "worse")])
def test_less_of_an_error_is_better(own: list[float], verdict: str) -> None:
    table = rows(ERROR, weak=[3.0, 3, 3], strong=[1.0, 0.9, 1.1], ours=own)
    ((_, _, rival, less, _, _, found),) = cells(paired(table, OURS))
    assert (rival, found) == ("strong", verdict)
    assert less.startswith("+" if verdict == "better" else "-")


def test_a_rival_without_our_seeds_and_other_figures_are_no_comparison() -> None:
    one = ResultRow.over_seeds("ours", ACCURACY, {300: 1.0})
    assert paired([one, ResultRow.over_seeds("other", ACCURACY, {301: 2.0})], OURS) == ""
    assert paired(rows("digits: loss", ours=[1.0], other=[2.0]), OURS) == ""
    assert cells(paired([one, ResultRow.over_seeds("other", ACCURACY, {300: 2.0})], OURS))[0][-1] == "–"


@given(st.integers(0, 12), st.integers(0, 12))
def test_the_sign_test_is_scipy_s(wins: int, losses: int) -> None:
    expected = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert sign_test(wins, losses) == pytest.approx(expected)


def test_every_table_of_methods_says_what_it_compares() -> None:
    assert COMPARED.keys() == TABLES.keys() - {"audit", "encoder"}
