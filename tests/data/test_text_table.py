"""Texts from files: what is read, what is left out and why."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from tutelage.data.cells import as_text
from tutelage.data.duplicates import drop_equal_texts
from tutelage.data.text_table import TextColumns, read_texts
from tutelage.data.written import in_order


def written(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_of_texts(tmp_path):
    path = written(
        tmp_path / "texts.csv",
        "text,label,split,likes,id\n hi ,spam,train,3,a\nyo,,unlabelled,4,b\nhey,ham,valid,5,c\n,ham,test,1,d\n"
        "ho,egg,test,1,e\nah,ham,test,1,a\nhi,ham,test,1,a\n",
    )
    table, classes, problems = read_texts(path, classes=("ham", "spam"))
    assert classes == ["ham", "spam"]
    assert table[["id", "text", "label", "split"]].values.tolist() == [
        ["a", "hi", 1, "train"],
        ["b", "yo", -1, "train"],
        ["c", "hey", 0, "val"],
        ["a (2)", "ah", 0, "test"],
    ]
    assert table["likes"].tolist() == ["3", "4", "5", "1"]
    assert table.index.tolist() == [0, 1, 2, 5]  # the rows in the file
    assert [(problem.id, problem.reason) for problem in problems] == [
        ("a", "conflicting_labels"),
        ("a (2)", "repeated_id"),
        ("d", "empty_text"),
        ("e", "unknown_label"),
        ("a", "duplicate_id"),
    ]


def test_a_repeated_row_with_another_label_is_a_conflict_that_names_both(tmp_path):
    path = written(
        tmp_path / "texts.csv", "text,label,id\nhi,egg,a\nhi,ham,a\nhi,spam,a\nhi,,a\nyo,,b\nyo,spam,b\nyo,HAM,c\n"
    )
    table, _, problems = read_texts(path, classes=("ham", "spam"))
    assert table[["id", "label"]].values.tolist() == [
        ["a", 0],
        ["b", -1],
        ["c", 0],
    ]  # the first row was left out itself
    later = "a later row of the same id and content is labelled 'spam'; "
    assert [tuple(problem) for problem in problems if problem.reason == "conflicting_labels"] == [
        ("a", "conflicting_labels", later + "the label 'ham' of the first row is used", False),
        ("b", "conflicting_labels", later + "the first row has no label, and is used", False),
    ]
    assert problems.counts() == {"duplicate_id": 3, "unknown_label": 1}
    assert read_texts(path, labelled=False)[0]["id"].tolist() == list("aaaabbc")


def test_equal_texts_count_once(tmp_path):
    path = written(
        tmp_path / "texts.csv",
        "id,text,label,split\na,hi  you,,train\nb,hi you ,x,test\nc,Hi you,y,train\nd,hi you,y,train\n",
    )
    table, classes, problems = read_texts(path)
    kept, listing = drop_equal_texts(table, problems)
    assert kept["id"].tolist() == ["b", "c"]  # a labelled row before one without
    assert classes == ["x", "y"]
    assert listing.values.tolist() == [
        [0, "a", "text", False, -1, True],
        [0, "b", "text", True, 0, True],
        [0, "d", "text", False, 1, True],
    ]
    assert [(problem.id, problem.reason, problem.left_out) for problem in problems] == [
        ("a", "duplicate_text", True),
        ("d", "duplicate_text", True),
        ("b", "conflicting_labels", False),
    ]


def test_a_split_that_is_not_known_is_refused(tmp_path):
    path = written(tmp_path / "texts.csv", "text,label,split\nhi,spam,train\nyo,ham,later\nah,ham,later\n")
    with pytest.raises(
        ValueError, match=r"column 'split' of .*texts.csv holds 'later' \(2\); known are train, .*another name"
    ):
        read_texts(path)
    assert len(read_texts(path, labelled=False)[0]) == 3


def test_classes_are_the_labels_that_occur_numbers_in_their_order(tmp_path):
    for labels, expected in ((["b", "a", ""], ["a", "b"]), (["10", "2", ""], ["2", "10"])):
        path = tmp_path / "t.parquet"
        pd.DataFrame({"text": ["x", "y", "z"], "label": labels, "likes": [1, 2, 3]}).to_parquet(path)
        table, classes, _ = read_texts(path)
        assert classes == expected
        assert sorted(table["label"]) == [-1, 0, 1]
        assert table["id"].tolist() == ["0", "1", "2"]
        assert table["likes"].tolist() == [1, 2, 3]  # what rules read keeps its type


@pytest.mark.parametrize("labels", [[1, 10, 2, None], pd.array([1, 10, 2, None], dtype="Int64")])
def test_whole_numbers_are_read_as_such_beside_missing_ones(labels, tmp_path):
    path = tmp_path / "t.parquet"
    pd.DataFrame({"id": [7, None, 9, 3], "text": list("wxyz"), "label": labels}).to_parquet(path)
    table, classes, _ = read_texts(path)
    assert classes == ["1", "2", "10"]
    assert table["label"].tolist() == [0, 2, 1, -1]
    assert table["id"].tolist() == ["7", "", "9", "3"]


def test_text_of_numbers_of_every_type():
    columns = ([1.0, None, -2.5, 1e17], [1, 2.0, None], [Decimal("3.00"), Decimal("0.5")], [True, None], ["1.0", None])
    expected = [["1", "", "-2.5", "1" + 17 * "0"], ["1", "2", ""], ["3", "0.5"], ["True", ""], ["1.0", ""]]
    assert [as_text(pd.Series(column, dtype=object)).tolist() for column in columns] == expected
    assert as_text(pd.Series(columns[0])).tolist() == expected[0]
    assert as_text(pd.Series([1.0, None], dtype="Float64")).tolist() == ["1", ""]
    assert as_text(pd.Series([np.inf, np.nan, 0.0])).tolist() == ["inf", "", "0"]
    assert as_text(pd.Series([], dtype=float)).tolist() == []


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["10", "2", ""], ["2", "10"]), (["10", "-1", "2.5"], ["-1", "2.5", "10"]), (["10", "2", "b"], ["10", "2", "b"])],
)
def test_the_order_of_classes(names, expected):
    assert in_order(names) == expected


def test_other_names_and_rows_that_are_too_long(tmp_path):
    path = written(tmp_path / "t.tsv", "body\tclass\nhi\tx\nyo\tx\ttoo\tmuch\n")
    table, classes, problems = read_texts(path, TextColumns(text="body", label="class"))
    assert (table["text"].tolist(), classes) == (["hi"], ["x"])
    assert [problem.reason for problem in problems] == ["bad_row"]
    table, _, _ = read_texts(path, TextColumns(text="body"), labelled=False)
    assert table["label"].tolist() == [-1]


def test_mistakes(tmp_path):
    path = written(tmp_path / "texts.csv", "txt\nhi\n")
    with pytest.raises(
        ValueError, match=r"has no column 'text' for 'text'; it has: txt; did you mean 'txt'\? Map it by"
    ):
        read_texts(path)
    with pytest.raises(ValueError, match=r"did you mean 'txt'\? Give it the name that it had in the run"):
        read_texts(path, labelled=False)
    with pytest.raises(ValueError, match="has no column 'body' for 'text'"):
        read_texts(path, TextColumns(text="body"))
    with pytest.raises(FileNotFoundError, match=r"there is no file .*text.csv; did you mean 'texts.csv'"):
        read_texts(tmp_path / "text.csv")
    with pytest.raises(ValueError, match=r"ends in '.json': give a .csv"):
        read_texts(written(tmp_path / "t.json", "{}"))
