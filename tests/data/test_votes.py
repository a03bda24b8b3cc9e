"""Votes from and to files, and the table of rules by hand and beside Snorkel's."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.data import Votes, analyse_rules, disagreement, majority_vote, most_disagreed, read_votes, read_wrench
from tutelage.data.votes import wilson

VALUES = np.array([[1, 1, -1], [0, 1, -1], [-1, -1, -1], [0, 1, 1], [-1, 0, -1]], dtype=np.int16)
VOTES = Votes(VALUES, ("a", "b", "c"))
LABELS = np.array([1, 0, 1, 1, -1])
matrices = st.integers(1, 6).flatmap(
    lambda rules: st.lists(st.lists(st.integers(-1, 2), min_size=rules, max_size=rules), min_size=1, max_size=8)
)


def test_the_table_of_rules_by_hand():
    table = analyse_rules(VOTES, LABELS).set_index("rule")
    assert table["classes"].tolist() == [[0, 1], [0, 1], [1]]
    assert table["coverage"].tolist() == [0.6, 0.8, 0.2]
    assert table["overlap"].tolist() == [0.6, 0.6, 0.2]
    assert table["conflict"].tolist() == [0.4, 0.4, 0.2]
    assert table["correct"].tolist() == [2, 2, 1]
    assert table["incorrect"].tolist() == [1, 1, 0]
    assert table["accuracy"].tolist() == pytest.approx([2 / 3, 2 / 3, 1.0])
    assert "accuracy" not in analyse_rules(VOTES)


@given(matrices, st.randoms(use_true_random=False))
def test_the_table_of_rules_is_snorkels(matrix, random):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        labeling = pytest.importorskip("snorkel.labeling")
    values = np.array(matrix, dtype=np.int16)
    labels = np.array([random.randint(0, 2) for _ in matrix])
    ours = analyse_rules(Votes(values, tuple(map(str, range(values.shape[1])))), labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = labeling.LFAnalysis(values.astype(int))
        np.testing.assert_allclose(ours["coverage"], theirs.lf_coverages())
        np.testing.assert_allclose(ours["overlap"], theirs.lf_overlaps())
        np.testing.assert_allclose(ours["conflict"], theirs.lf_conflicts())
        accuracies = theirs.lf_empirical_accuracies(labels)
    voted = (values >= 0).any(0)
    np.testing.assert_allclose(ours["accuracy"][voted], accuracies[voted])
    assert ours["accuracy"][~voted].isna().all()


def test_disagreement_is_the_chance_that_two_votes_differ():
    assert disagreement(VOTES, 2).tolist() == pytest.approx([0, 1 / 2, 0, 4 / 9, 0])
    assert most_disagreed(VOTES, 2).tolist() == [1, 3]
    assert most_disagreed(VOTES, 2, count=1).tolist() == [1]
    quarrels = Votes(np.array([[0, 1, -1, -1], [0, 0, 1, 1], [0, 0, 0, 1]], dtype=np.int16), tuple("abcd"))
    assert most_disagreed(quarrels, 2).tolist() == [1, 0, 2]  # as divided, but by more rules; then the least divided


def test_majority_with_ties_and_without_votes():
    assert majority_vote(VOTES, 2, default=0).tolist() == [1, 0, 0, 1, 0]
    assert majority_vote(VOTES, 2, default=1).tolist() == [1, 1, 1, 1, 0]
    three = Votes(np.array([[1, 2, -1]], dtype=np.int16), ("a", "b", "c"))
    assert majority_vote(three, 3, default=0).tolist() == [1]


def test_wilsons_interval_by_hand():
    low, high = wilson(np.array([8, 0]), np.array([10, 0]))
    assert (low[0], high[0]) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert np.isnan(low[1])


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_votes_come_back_from_a_file(ending, tmp_path):
    scores = np.full(VALUES.shape, np.nan, np.float32)
    scores[0, 1] = 0.25
    path = tmp_path / f"votes.{ending}"
    Votes(VALUES, ("a", "b", "c"), scores).write(path, ids=list("vwxyz"))
    found, ids = read_votes(path)
    assert ids == list("vwxyz")
    assert found.names == ("a", "b", "c")
    assert (found.values == VALUES).all()
    assert np.array_equal(found.scores, scores, equal_nan=True)
    picked, _ = read_votes(path, ids=["z", "v"])
    assert (picked.values == VALUES[[4, 0]]).all()
    VOTES.write(path)
    assert read_votes(path, ids=list("vwxyz"))[0].scores is None


def test_a_table_by_hand_may_name_classes_and_leave_cells_empty(tmp_path):
    path = tmp_path / "votes.csv"
    path.write_text("id,first,second\n7,spam,\n8,0,ham\n")
    found, ids = read_votes(path, classes=("ham", "spam"))
    assert found.values.tolist() == [[1, -1], [0, 0]]
    assert ids == ["7", "8"]


@pytest.mark.parametrize(("name", "mark"), [("v.csv", ";"), ("v.csv", ","), ("v.csv", "\t"), ("v.tsv", "\t")])
def test_a_file_of_votes_is_read_as_tables_are(name, mark, tmp_path):
    lines = [["id", "first", "score:first"], ["7", "SPAM", "0.5"], ["8", "Ham", ""], ["9", "", ""]]
    (tmp_path / name).write_text("\n".join(map(mark.join, lines)), encoding="utf-8-sig")
    found, ids = read_votes(tmp_path / name, classes=("ham", "spam"))
    assert (found.names, ids) == (("first",), ["7", "8", "9"])
    assert found.values.tolist() == [[1], [0], [-1]]
    (tmp_path / name).write_text("\n".join(map(mark.join, lines)) + "\n" + mark.join(["7", "spam", "", "x", "y"]))
    with pytest.raises(ValueError, match="the row that begins with '7' has 5 cells, more than the header has"):
        read_votes(tmp_path / name, classes=("ham", "spam"))


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_an_empty_cell_abstains_whatever_the_classes_are_called(ending, tmp_path):
    path = tmp_path / f"votes.{ending}"
    table = pd.DataFrame({"id": ["a", "b", "c"], "first": [-1, None, 1], "second": [None, None, None]})
    table.to_csv(path, index=False) if ending == "csv" else table.to_parquet(path)
    found, _ = read_votes(path, classes=("-1", "1"))
    assert found.values.tolist() == [
        [0, -1],
        [-1, -1],
        [1, -1],
    ]  # 1.0, as pandas has it beside a missing number, is "1"


def test_names_that_look_like_numbers_are_names_and_never_places(tmp_path):
    path = tmp_path / "votes.csv"
    path.write_text("id,first,second\n7,2,\n8,,1\n")
    assert read_votes(path, classes=("1", "2"))[0].values.tolist() == [[1, -1], [-1, 0]]
    assert read_votes(path, classes=("0", "1", "2"))[0].values.tolist() == [[2, -1], [-1, 1]]
    for cell, classes in (("0", ("1", "2")), ("-1", ("1", "2")), ("0", ("-1", "1")), ("0", ("few", "10"))):
        path.write_text(f"id,first\n7,{cell}\n")
        if cell == "-1":
            assert read_votes(path, classes=classes)[0].values.tolist() == [[-1]]
            continue
        told = f"column 'first' holds '{cell}'; expected the name of a class, one of {', '.join(classes)}, or nothing"
        with pytest.raises(ValueError, match=told):
            read_votes(path, classes=classes)
    path.write_text("first\n70000\n")
    with pytest.raises(ValueError, match="holds '70000'"):
        read_votes(path)
    wrench = tmp_path / "votes.json"
    wrench.write_text(json.dumps({"7": example(0, [1]), "8": example(1, [-1])}))
    assert read_votes(wrench, classes=("0", "1"))[0].values.tolist() == [[1], [-1]]
    with pytest.raises(ValueError, match="tells classes by their number from 0, and these are named 1, 2"):
        read_votes(wrench, classes=("1", "2"))


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("classes", [("-1", "1"), ("=a", "b"), ("2", "10")])
def test_votes_that_were_written_by_name_come_back(ending, classes, tmp_path):
    path = tmp_path / f"votes.{ending}"
    VOTES.write(path, ids=list("vwxyz"), classes=classes)
    assert (read_votes(path, classes=classes)[0].values == VALUES).all()


def example(label, votes, text="x"):
    return {"label": label, "weak_labels": votes, "data": {"text": text}}


def test_wrench(tmp_path):
    for name, count in (("train", 3), ("valid", 1), ("test", 2)):
        examples = {str(i): example(i % 2, [i - 1, -1], f"{name} {i}") for i in range(count)}
        (tmp_path / f"{name}.json").write_text(json.dumps(examples))
    table, votes = read_wrench(tmp_path)
    assert table["split"].tolist() == ["train"] * 3 + ["val"] + ["test"] * 2
    assert table["id"].tolist()[-1] == "test-1"
    assert table["text"].tolist()[3] == "valid 0"
    assert table["label"].tolist() == [0, 1, 0, 0, 0, 1]
    assert votes.values.tolist() == [[-1, -1], [0, -1], [1, -1], [-1, -1], [-1, -1], [0, -1]]
    assert votes.names == ("rule_0", "rule_1")
    lone, ids = read_votes(tmp_path / "train.json")
    assert ids == ["0", "1", "2"]
    assert (lone.values == votes.values[:3]).all()


def test_mistakes(tmp_path):
    def written(name, text):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    with pytest.raises(FileNotFoundError, match="there is no file of votes"):
        read_votes(tmp_path / "none.csv")
    with pytest.raises(ValueError, match=r"give a .csv, .tsv, .parquet or .json file"):
        read_votes(written("votes.txt", ""))
    with pytest.raises(ValueError, match="column 'a' holds 'maybe'; expected a class by number, one of no, yes, or -1"):
        read_votes(written("votes.csv", "a\nmaybe\n"), classes=("no", "yes"))
    with pytest.raises(ValueError, match="holds no column of votes"):
        read_votes(written("votes.csv", "id\n1\n"))
    with pytest.raises(ValueError, match="has no votes for 1 of 2 examples, such as id 'x'"):
        read_votes(written("votes.csv", "id,a\n1,0\n"), ids=["1", "x"])
    with pytest.raises(ValueError, match="has 1 rows and no column 'id', but there are 2 examples"):
        read_votes(written("votes.csv", "a\n0\n"), ids=["1", "2"])
    with pytest.raises(ValueError, match="has the id '1' more than once"):
        read_votes(written("votes.csv", "id,a\n1,0\n1,1\n"), ids=["1"])
    for cell in ("9", "abc"):
        with pytest.raises(ValueError, match=f"'score:a' holds '{cell}'; expected a number in"):
            read_votes(written("votes.csv", f"a,score:a\n0,{cell}\n"))
    with pytest.raises(ValueError, match="holds the column 'score:b', but no votes of 'b'"):
        read_votes(written("votes.csv", "a,score:b\n0,0.5\n"))
    with pytest.raises(ValueError, match="outside"):
        Votes(VALUES, ("a", "b", "c"), np.full(VALUES.shape, 2, np.float32))
    with pytest.raises(ValueError, match="is not in WRENCH's form"):
        read_wrench(written("w.json", '{"0": {"label": 1}}'))
    with pytest.raises(ValueError, match="weak_labels must have the same length"):
        read_wrench(written("w.json", json.dumps({"0": example(0, [1]), "1": example(0, [1, 1])})))
    with pytest.raises(FileNotFoundError, match=r"none of train.json"):
        read_wrench(tmp_path)
    with pytest.raises(ValueError, match="two rules of one name"):
        Votes(VALUES, ("a", "a", "b"))
    with pytest.raises(ValueError, match="holds -2"):
        Votes(VALUES - 1, ("a", "b", "c"))
