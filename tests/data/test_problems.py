import csv

import pytest

from tutelage.data import Problems


@pytest.fixture
def problems() -> Problems:
    problems = Problems()
    problems.add("a", "empty", "0 bytes")
    problems.add('b\ud800, "c"\n', "unknown_label", "label is 'x'; allowed: acceptable, defective")
    problems.add(3, "empty")
    return problems


def test_counts_most_frequent_first(problems):
    assert list(problems.counts().items()) == [("empty", 2), ("unknown_label", 1)]
    assert problems.summary() == "3 left out: empty 2, unknown_label 1"
    assert Problems().summary() == "nothing left out"


def test_the_formats_that_are_read_are_named_with_those_that_are_not(problems):
    problems.add("d.gif", "format", "content is GIF; allowed: JPEG, PNG, WEBP")
    problems.add("e.bmp", "format", "content is BMP; allowed: JPEG, PNG, WEBP")
    told = "5 left out: empty 2, format 2 (allowed: JPEG, PNG, WEBP), unknown_label 1"
    assert problems.summary() == told


def test_the_file_holds_every_problem(problems, tmp_path):
    with problems.write(tmp_path).open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["id", "reason", "detail", "left_out"]
    assert rows[1] == ["a", "empty", "0 bytes", "True"]
    assert rows[2] == ['b\\ud800, "c"\n', "unknown_label", "label is 'x'; allowed: acceptable, defective", "True"]
    assert rows[3] == ["3", "empty", "", "True"]
    assert Problems().write(tmp_path).read_text() == "id,reason,detail,left_out\n"


def test_a_warning_leaves_nothing_out(problems):
    for id in ("x", "y"):
        problems.warn(id, "bad_time", f"submitted_at is {id!r}, which is no date or time")
    problems.warn("", "short_gap", "1 day instead of 15")
    assert problems.summary() == "3 left out: empty 2, unknown_label 1"
    assert problems.warnings() == [
        "warning: bad time: 2 rows kept, such as x: submitted_at is 'x', which is no date or time",
        "warning: short gap: 1 day instead of 15",
    ]


def test_what_is_not_listed_is_told_with_its_number():
    problems = Problems()
    for row in range(20):
        problems.warn(f"c{row}", "rule_failed", "rule a: ZeroDivisionError")
    problems.warn("", "rule_failed", "rule a: 280 further failures")
    told = "rule failed: 20 listed, such as c0: rule a: ZeroDivisionError; rule a: 280 further failures"
    assert problems.warnings() == [f"warning: {told}"]


def test_too_few_left(problems):
    problems.require(10, 10)
    with pytest.raises(ValueError, match=r"^there are only 9 defects, none was left out, and 10 are needed$"):
        Problems().require(9, 10, "defects")
    with pytest.raises(ValueError, match="only 9 defects are left and 10 are needed; 3 left out: empty 2, unknown"):
        problems.require(9, 10, "defects")
