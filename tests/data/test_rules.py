"""Rules: what they may return, what they may do wrong, and that processes change nothing."""

import sys
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import spam_rules

from tutelage.data import ABSTAIN, Rule, apply_rules, load_rules, rule
from tutelage.data.rules import LISTED

FILE = Path(__file__).parent / "spam_rules.py"
CLASSES = ("ham", "spam")
TABLE = pd.DataFrame(
    {
        "id": ["a", "b", "c", "d"],
        "text": ["Please SUBSCRIBE to me", "I love it", "LOVE THIS SONG", "nothing to say of this"],
        "likes": [1, 5, 0, 2],
    }
)


def test_a_file_of_rules_applied():
    rules = load_rules(FILE)
    assert [found.name for found in rules] == ["subscribe", "short", "loves_the_song", "shouts", "likes"]
    assert rules[0].__doc__ == "Spam asks to subscribe."
    found = apply_rules(rules, TABLE, classes=CLASSES, quiet=True)
    assert found.votes.names == ("subscribe", "short", "loves_the_song", "shouts", "likes")
    expected = [[1, -1, -1, -1, 1], [-1, 0, 0, -1, -1], [-1, -1, 0, 1, -1], [-1, -1, -1, -1, -1]]
    assert found.votes.values.tolist() == expected
    assert found.votes.scores is not None
    assert np.isnan(found.votes.scores).sum() == 19
    assert found.votes.scores[2, 3] == pytest.approx(12 / 14)
    assert found.failures == {"likes": 1}
    assert [tuple(problem)[:3] for problem in found.problems] == [
        ("c", "rule_failed", "rule likes: ZeroDivisionError: division by zero")
    ]
    assert TABLE["text"][2] == "LOVE THIS SONG"  # preprocessors work on copies


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_chunks_do_not_matter(chunk):
    rules = load_rules(FILE)
    whole = apply_rules(rules, TABLE, classes=CLASSES, quiet=True, processes=1)
    parts = apply_rules(rules, TABLE, classes=CLASSES, quiet=True, processes=1, chunk=chunk)
    assert (whole.votes.values == parts.votes.values).all()
    assert list(whole.problems) == list(parts.problems)


def test_processes_do_not_matter():
    rules = load_rules(FILE)
    whole = apply_rules(rules, TABLE, classes=CLASSES, quiet=True, processes=1)
    parts = apply_rules(rules, TABLE, classes=CLASSES, quiet=True, processes=2, chunk=1)
    assert (whole.votes.values == parts.votes.values).all()
    assert np.array_equal(whole.votes.scores, parts.votes.scores, equal_nan=True)
    assert list(whole.problems) == list(parts.problems)


def answers_one(x):
    return 1


def test_rules_travel_by_file_by_place_and_in_parts():
    for found in (load_rules(FILE)[1], spam_rules.shouts, Rule(answers_one, name="one", resources={})):
        again = ForkingPickler.loads(ForkingPickler.dumps(found))
        assert (again.name, again.function.__name__) == (found.name, found.function.__name__)
    assert ForkingPickler.loads(ForkingPickler.dumps(spam_rules.shouts)) is spam_rules.shouts
    with pytest.raises(ValueError, match="rule odd cannot be given to other processes"):
        apply_rules([Rule(lambda x: 1, name="odd")], TABLE, processes=2, quiet=True)


def test_a_rule_is_still_a_function():
    @rule
    def even(x):
        return x % 2

    assert isinstance(even, Rule)
    assert even(3) == 1


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (2, "returned 2, but the classes are ham, spam (0 to 1)"),
        (-2, "returned -2; expected a class by number, one of 'ham', 'spam', or ABSTAIN (-1)"),
        ("spamm", "returned 'spamm'; expected a class"),
        (True, "returned True; expected a class"),  # a comparison that was meant to be a condition
        (0.5, "returned 0.5; expected a class"),
    ],
)
def test_an_answer_that_is_none_is_a_failure(answer, told):
    found = apply_rules([Rule(lambda x: answer, name="odd")], TABLE, classes=CLASSES, quiet=True)
    assert (found.votes.values == ABSTAIN).all()
    assert found.failures == {"odd": 4}
    assert told in next(iter(found.problems)).detail


@pytest.mark.parametrize("answer", [2, "2", np.int64(2)])
def test_a_number_that_is_a_name_is_that_class(answer):
    found = apply_rules([Rule(lambda x: answer, name="two")], TABLE, classes=("1", "2"), quiet=True)
    assert found.votes.values.tolist() == [[1]] * 4


def test_a_place_is_no_class_where_names_look_like_numbers():
    rules = [Rule(lambda x: 0, name="zero"), Rule(lambda x: ABSTAIN, name="none")]
    found = apply_rules(rules, TABLE, classes=("1", "2"), quiet=True)
    assert found.failures == {"zero": 4}
    assert "returned 0; expected the name of a class, one of '1', '2'" in next(iter(found.problems)).detail


@pytest.mark.parametrize("processes", [1, 2])
def test_minus_one_is_refused_where_a_class_is_called_that(processes, tmp_path):
    file = tmp_path / "minus.py"
    file.write_text("from tutelage.data import rule\n\n@rule\ndef minus(x):\n    return -1\n")
    with pytest.raises(
        ValueError, match="rule minus returned -1, which is ABSTAIN and the class '-1': return '-1', as text"
    ):
        apply_rules(load_rules(file), TABLE, classes=("-1", "1"), quiet=True, processes=processes)
    rules = [Rule(lambda x: "-1", name="text"), Rule(lambda x: None, name="none"), Rule(lambda x: 1, name="one")]
    assert apply_rules(rules, TABLE, classes=("-1", "1"), quiet=True).votes.values.tolist() == [[0, -1, 1]] * 4


def test_numbers_of_numpy_and_none_are_answers():
    rules = [Rule(lambda x: np.int64(1), name="one"), Rule(lambda x: None, name="none")]
    found = apply_rules(rules, TABLE, quiet=True)
    assert found.votes.values.tolist() == [[1, -1]] * 4


@pytest.mark.parametrize("score", [1.5, float("nan"), "much"])
def test_a_score_outside_0_to_1_is_a_failure(score):
    found = apply_rules([Rule(lambda x: 1, name="odd", score=lambda x: score)], TABLE, quiet=True)
    assert (found.votes.values == ABSTAIN).all()
    assert found.failures == {"odd": 4}


def test_a_preprocessor_that_fails_names_the_rule_and_the_row():
    def parse(x):
        return {"Please SUBSCRIBE to me": x}[x.text]

    found = apply_rules([Rule(lambda x: 1, name="first", pre=[parse])], TABLE, quiet=True)
    assert found.votes.values[:, 0].tolist() == [1, -1, -1, -1]
    assert [problem.id for problem in found.problems] == ["b", "c", "d"]
    assert "rule first: KeyError: 'I love it'" in next(iter(found.problems)).detail


def test_a_preprocessor_that_forgets_to_return_is_named():
    def lowered(x):
        x.text = x.text.lower()

    found = apply_rules([Rule(lambda x: 1, name="first", pre=[lowered])], TABLE, quiet=True)
    assert found.failures == {"first": 4}
    assert "its preprocessor lowered returned nothing" in next(iter(found.problems)).detail


def test_a_rule_that_leaves_the_program_only_fails():
    found = apply_rules([Rule(lambda x: sys.exit(3), name="leaves"), Rule(answers_one)], TABLE, quiet=True)
    assert found.failures == {"leaves": 4}
    assert found.votes.values.tolist() == [[ABSTAIN, 1]] * 4


def test_many_failures_are_counted_and_the_first_listed():
    table = pd.DataFrame({"text": ["x"] * 100})
    found = apply_rules([Rule(lambda x: 1 / 0, name="never")], table, quiet=True, chunk=30)
    assert found.failures == {"never": 100}
    assert len(found.problems) == LISTED + 1
    assert list(found.problems)[-1].detail == f"rule never: {100 - LISTED} further failures"


def test_a_file_that_was_edited_has_its_new_rules_and_what_was_read_travels(tmp_path):
    path = tmp_path / "rules.py"
    text = "from tutelage.data import rule\n\n@rule\ndef one(x):\n    return {}\n"
    path.write_text(text.format(0))
    before = load_rules(path)[0]
    assert load_rules(path)[0] is before
    path.write_text(text.format(1))  # as long as before, and in the same second
    assert load_rules(path)[0](None) == 1
    again = ForkingPickler.loads(ForkingPickler.dumps(before))
    assert (before(None), again(None)) == (0, 0)


def test_mistakes(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file of rules"):
        load_rules(tmp_path / "rules.py")
    for text, told in (
        ("import nowhere_to_be_found", "cannot be imported: ModuleNotFoundError"),
        ("x = 1", "holds no rule"),
        ("import sys; sys.exit()", "cannot be imported: SystemExit"),
        (
            "from tutelage.data import rule\na = rule(name='r')(max)\nb = rule(name='r')(min)",
            "the name 'r' occurs twice",
        ),
    ):
        path = tmp_path / f"{abs(hash(text))}.py"
        path.write_text(text)
        with pytest.raises(ValueError, match=told):
            load_rules(path)
    other = tmp_path / "rules.txt"
    other.write_text("")
    with pytest.raises(ValueError, match=r"must end in .py"):
        load_rules(other)
    with pytest.raises(ValueError, match="rules is empty"):
        apply_rules([], TABLE)
