import json
import re
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks.results_table import (
    DASH,
    ResultRow,
    commit,
    hardware,
    markdown_table,
    read_results,
    results_markdown,
    t_quantile,
    write_results,
)
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks import results_table


def parsed(markdown):
    """The cells of a Markdown table, with its rule left out."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    rows = [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert set("".join(rows[1])) <= {"-", ":"}
    return [rows[0], *rows[2:]]


ROWS = [
    ResultRow.over_seeds("fine-tuned", "posters: NPV at 1 % FPR", {1: 0.30, 2: 0.32, 3: 0.34}, paper=0.0),
    ResultRow.over_seeds("fine-tuned", "posters: AUROC", dict.fromkeys((1, 2, 3), 0.9)),
    ResultRow.over_seeds("taught", "posters: NPV at 1 % FPR", {1: 0.40, 2: 0.45, 3: 0.41}, paper=30.2),
    ResultRow("taught", "posters: AUROC", None, None, 3),
    ResultRow.over_seeds("taught", "products: gain in %", {1: 12.34}),
]


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 10, 30, 99, 200])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_quantiles_of_student_s_distribution(freedom, level):
    assert t_quantile(freedom, level) == pytest.approx(stats.t.ppf((1 + level) / 2, freedom), rel=1e-9)


@pytest.mark.parametrize(("freedom", "level"), [(0, 0.95), (3, 0.0), (3, 1.0)])
def test_quantiles_that_do_not_exist(freedom, level):
    with pytest.raises(ValueError, match="freedom="):
        t_quantile(freedom, level)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12).filter(lambda values: np.std(values) > 1e-6))
def test_the_spread_is_scipy_s_t_interval(values):
    row = ResultRow.over_seeds("r", "m", dict(enumerate(values)))
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert row.ours == pytest.approx((low + high) / 2, rel=1e-6, abs=1e-9)
    assert row.spread == pytest.approx((high - low) / 2, rel=1e-6)
    assert row.seeds == len(values)


def test_one_seed_has_no_spread():
    assert ResultRow.over_seeds("r", "m", {4: 0.5}) == ResultRow("r", "m", 0.5, None, 1, None, by_seed={4: 0.5})


@pytest.mark.parametrize("values", [[], [0.1, float("nan")]])
def test_figures_that_are_none(values):
    with pytest.raises(ValueError, match="one finite figure for each seed"):
        ResultRow.over_seeds("r", "m", dict(enumerate(values)))


cells = st.text(st.characters(codec="utf-8", exclude_characters="\\"), max_size=12)


@given(st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=5))
def test_a_markdown_table_reads_back(rows):
    assert parsed(markdown_table(rows[0], rows[1:])) == [[" ".join(cell.split()) for cell in row] for row in rows]


def test_a_markdown_table_is_aligned_as_plain_text():
    lines = markdown_table(["method", "NPV"], [["a", "0.5"], ["longer name", "0.25"]]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1] == "| ----------- | ---: |"


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="1 cells, the head has 2"):
        markdown_table(["a", "b"], [["c"]])


def test_programs_read_what_was_measured(tmp_path):
    _, path = write_results("moderation", "pocket", ROWS, [], tmp_path / "new")
    assert path == tmp_path / "new" / "moderation-pocket.json"
    listed = json.loads(path.read_text(), parse_constant=pytest.fail)
    made_by = [(entry.pop("commit"), entry.pop("hardware")) for entry in listed]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", entry.pop("date")) for entry in listed)
    assert made_by == [(commit(), hardware())] * len(ROWS)
    assert [list(entry) for entry in listed] == [
        ["row", "metric", "ours", "spread", "seeds", "paper", "by_seed"]
    ] * len(ROWS)
    found = [replace(row, commit=None, hardware=None, date=None) for row in read_results(path)]
    assert found == ROWS


def test_the_commit_is_that_of_the_checkout_and_says_what_it_lacks(tmp_path, monkeypatch):
    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        return subprocess.run(
            ["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout

    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    monkeypatch.setattr(results_table, "__file__", str(tmp_path / "benchmarks" / "results_table.py"))
    assert commit() == "unknown"
    code, table = tmp_path / "code.py", tmp_path / "benchmarks" / "results" / "t.md"
    for path in (code, table):
        path.write_text("1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    head = git("rev-parse", "HEAD").strip()
    assert commit() == head
    table.write_text("2")  # what is being made does not change what makes it
    assert commit() == head
    code.write_text("2")
    assert commit() == f"{head} + changes"


def test_people_read_the_same(tmp_path):
    path, _ = write_results("moderation", "pocket", ROWS, ["Paper: gains in percent."], tmp_path)
    text = path.read_text()
    assert re.search(rf"^- \d{{4}}-\d\d-\d\d, code {re.escape(f'{commit()}, on {hardware()}')}$", text, re.M)
    assert torch.__version__ in text
    assert "95 % t-interval" in text
    assert text.endswith("## Notes\n\n- Paper: gains in percent.\n")
    posters, products = (parsed(part) for part in text.partition("## posters")[2].split("## products"))
    spread = 4.302653 * np.std([0.30, 0.32, 0.34], ddof=1) / np.sqrt(3)
    assert posters == [
        ["", "NPV at 1 % FPR", "paper", "AUROC", "seeds"][:4],
        ["fine-tuned", f"0.320 ± {spread:.3f}", "0.0", "0.900 ± 0.000"],
        ["taught", "0.420 ± 0.066", "30.2", DASH],
    ]
    assert products == [["", "gain in %"], ["taught", "12.3"]]


def test_rows_measured_again_join_the_table_and_say_which_code_made_them(tmp_path, monkeypatch):
    monkeypatch.setattr(results_table, "commit", lambda: "one")
    write_results("moderation", "pocket", ROWS, ["Old note.", "AUROC: worse."], tmp_path)
    monkeypatch.setattr(results_table, "commit", lambda: "two")
    new = [ResultRow("taught", "posters: AUROC", 0.8, 0.1, 3), ResultRow("other", "posters: AUROC", 0.7, 0.1, 3)]
    people, programs = write_results("moderation", "pocket", new, ["New note.", "AUROC: better."], tmp_path, merge=True)
    found = {(row.row, row.metric): row for row in read_results(programs)}
    assert len(found) == len(ROWS) + 1
    assert (found["taught", "posters: AUROC"].ours, found["taught", "posters: AUROC"].commit) == (0.8, "two")
    assert found["fine-tuned", "posters: AUROC"].commit == "one"
    text = people.read_text()
    assert re.search(rf"^- .*, code one, on {re.escape(hardware())}: fine-tuned, taught$", text, re.M)
    assert re.search(rf"^- .*, code two, on {re.escape(hardware())}: taught, other$", text, re.M)
    assert text.endswith("## Notes\n\n- Old note.\n- New note.\n- AUROC: better.\n")
    write_results("moderation", "pocket", new, [], tmp_path)  # without merging, a table is what was measured
    assert len(read_results(programs)) == 2


def test_seeds_are_shown_where_they_differ():
    rows = [ResultRow("a", "m", 0.5, None, 1), ResultRow("b", "m", 0.5, 0.1, 3)]
    assert parsed(results_markdown(rows)) == [["", "m", "seeds"], ["a", "0.500", "1"], ["b", "0.500 ± 0.100", "3"]]


def test_what_is_not_finite_is_null_and_a_dash(tmp_path):
    people, programs = write_results("t", "pocket", [ResultRow("a", "m", float("nan"), float("inf"), 2)], [], tmp_path)
    assert parsed(people.read_text())[1] == ["a", DASH]
    entry = json.loads(programs.read_text(), parse_constant=pytest.fail)[0]
    assert (entry["ours"], entry["spread"], entry["paper"]) == (None, None, None)


def test_a_figure_that_comes_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'a' has the metric 'm' twice"):
        write_results("t", "pocket", [ResultRow("a", "m", share, None, 1) for share in (0.1, 0.2)], [], tmp_path)
    with pytest.raises(ValueError, match="no figure"):
        write_results("t", "pocket", [], [], tmp_path)
    assert not list(tmp_path.iterdir())
