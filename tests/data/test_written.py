"""What people write in cells, against worked cases."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.data.written import numbers, splits, times


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1,234", "", "12", "abc", "-3", "5e3"], [1234, None, 12, None, -3, 5000]),
        (["1.234,5", "7", "1.234", "2.000.000"], [1234.5, 7, 1234, 2_000_000]),
        (["1,5", "1.234"], [1.5, 1234]),
        (["1,234.5", "1,000"], [1234.5, 1000]),
        (["1.234.567", "2.000"], [1_234_567, 2000]),
        (["1 234", "1'234.5", "1\u202f000\u202f000", ".5", "12,34,567"], [1234, 1234.5, 1_000_000, 0.5, 1_234_567]),
        (["1,234.5", "1,5"], [1234.5, 1.5]),
        (["0.125"], [0.125]),
        (["1,2,3", "1..2", "--1", "1 2"], [None] * 4),
        ([], []),
    ],
)
def test_numbers(cells, expected):
    found = numbers(pd.Series(cells, dtype=object))
    assert found.dtype == float
    assert np.array_equal(found, np.array(expected, dtype=float), equal_nan=True)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1.000", "1.234", "999", "1,500"], [1000, 1234, 999, 1500]),
        (["1.000", "12.5"], [1, 12.5]),
        (["1.000", "0.125"], [1, 0.125]),
        (["1.000", "2,5"], [1000, 2.5]),
    ],
)
def test_a_point_groups_the_thousands_of_counts(cells, expected):
    assert numbers(pd.Series(cells), counts=True).tolist() == expected


@given(st.lists(st.integers(0, 10**9), min_size=1))
def test_what_is_grouped_reads_as_what_is_not(values):
    for text in (f"{value:,}" for value in values):
        assert numbers(pd.Series([text]))[0] == int(text.replace(",", ""))
    grouped = [f"{value:,}.5" for value in values]
    swapped = [text.translate(str.maketrans(",.", ".,")) for text in grouped]
    expected = [value + 0.5 for value in values]
    assert numbers(pd.Series(grouped)).tolist() == numbers(pd.Series(swapped)).tolist() == expected


@pytest.mark.parametrize(
    ("cells", "dates", "expected"),
    [
        (["05/06/2024", "13/06/2024", ""], "auto", ["2024-06-05", "2024-06-13", None]),
        (["05/06/2024", "06/13/2024 3:04 PM"], "auto", ["2024-05-06", "2024-06-13 15:04"]),
        (["05/06/2024"], "day_first", ["2024-06-05"]),
        (["05-06-24"], "month_first", ["2024-05-06"]),
        (["5.6.2024 12:30", "01.12.2024"], "auto", ["2024-06-05 12:30", "2024-12-01"]),
        (["5 May 2024", "May 5, 2024 10:00"], "auto", ["2024-05-05", "2024-05-05 10:00"]),
        (["1714521600", "1714521600000"], "auto", ["2024-05-01", "2024-05-01"]),
        (
            ["2024-05-01T12:30:00+02:00", "2024/05/01", "20240501"],
            "auto",
            ["2024-05-01 10:30", "2024-05-01", "2024-05-01"],
        ),
        (["yesterday", "5", "31/31/2024", "30/02/2024", "May"], "auto", [None] * 5),
    ],
)
def test_times(cells, dates, expected):
    found, unclear = times(pd.Series(cells, dtype=object), dates)
    assert found.tolist() == pd.to_datetime(pd.Series(expected), utc=True, format="ISO8601").tolist()
    assert not unclear.any()


def test_day_and_month_are_never_guessed():
    found, unclear = times(pd.Series(["05/06/2024", "07/07/2024"]))
    assert found.isna().tolist() == unclear.tolist() == [True, False]
    found, unclear = times(pd.Series(["13/05/2024", "05/13/2024", "05/06/2024"]))  # both orders are there
    assert unclear.tolist() == [False, False, True]
    assert found[:2].nunique() == 1


@given(st.dates(min_value=pd.Timestamp("1971-01-01").date(), max_value=pd.Timestamp("2100-01-01").date()))
def test_every_way_of_writing_a_date_is_the_same_date(date):
    expected = pd.Timestamp(date, tz="UTC")
    for form, dates in (
        ("%d/%m/%Y", "day_first"),
        ("%m/%d/%Y", "month_first"),
        ("%d.%m.%Y", "auto"),
        ("%d %B %Y", "auto"),
    ):
        assert times(pd.Series([date.strftime(form)]), dates)[0][0] == expected


def test_splits():
    assert splits(pd.Series(["Train", "validation", "VALID", "dev", "testing", "unlabeled", "", "trian"])).tolist() == [
        "train", "val", "val", "val", "test", "unlabelled", "", "trian",
    ]  # fmt: skip
