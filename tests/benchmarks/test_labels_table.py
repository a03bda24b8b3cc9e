"""The table of wrong labels: rankings of all methods on made-up features."""

import numpy as np
import pytest
from benchmarks.labels import methods, table
from benchmarks.labels.cases import HELD_OUT, Labels
from benchmarks.labels.methods import OURS, heads, ranked

from tutelage.metrics import auroc


def made(seed: int, count: int = 1200, classes: int = 3) -> Labels:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, count + HELD_OUT)
    x = 2.5 * np.eye(classes, 6)[truth] + rng.normal(size=(count + HELD_OUT, 6))
    wrong = rng.random(len(x)) < 0.2
    given = np.where(wrong, (truth + rng.integers(1, classes, len(x))) % classes, truth)
    return Labels(given, wrong, classes, x)


@pytest.fixture(scope="module")
def found():
    labels = made(0)
    return labels, ranked(labels, 0)


def test_every_method_ranks_every_judged_label_and_finds_planted_errors(found):
    labels, doubts = found
    wrong = labels.wrong[:-HELD_OUT].astype(int)
    for name, doubt in doubts.items():
        assert doubt.shape == wrong.shape, name
        assert auroc(doubt, wrong) > (0.6 if name == methods.AMAL_CLEAN else 0.75), name
    assert auroc(doubts[OURS], wrong) > 0.9
    assert len({tuple(np.argsort(doubt)) for doubt in doubts.values()}) == len(doubts)  # no method is another's copy


def test_heads_of_folds_have_not_seen_the_label_that_they_judge():
    labels = made(1, count=60)
    x, y = labels.features[:-HELD_OUT], labels.given[:-HELD_OUT]
    before = heads(x, y, 3, 0)[1]
    moved = y.copy()
    moved[7] = (y[7] + 1) % 3
    within, after = heads(x, moved, 3, 0)
    assert np.allclose(before[7], after[7], atol=1e-6)
    assert not np.allclose(before, after, atol=1e-3)  # others have
    assert within.shape == (methods.EPOCHS, 60, 3)


def test_the_table_has_a_row_a_method_and_what_is_beyond_cleanlab(monkeypatch, tmp_path):
    monkeypatch.setattr(table, "cases", lambda data, runs: [("made", made)])
    rows, notes = table.results("laptop", seeds=2, data=tmp_path, runs=tmp_path)
    of = {(row.row, row.metric): row for row in rows}
    cleanlab = [
        each.ours for (name, metric), each in of.items() if metric == "made: AUROC" and name.startswith("cleanlab")
    ]
    ours = of[OURS, "made: AUROC"]
    assert of[table.BEYOND, "made: AUROC"].ours == pytest.approx(ours.ours - max(cleanlab))
    assert set(ours.by_seed) == {300, 301}
    assert 0.9 < of[OURS, "made: wrong among the first 100"].ours <= 1
    assert any("cleanlab 2.9.0" in note for note in notes)
    with pytest.raises(ValueError, match=r"only=\['cats'\]: no such case; there are \['made'\]"):
        table.results("laptop", seeds=1, data=tmp_path, runs=tmp_path, only=("cats",))
    with pytest.raises(ValueError, match="this table is of real data"):
        table.results("laptop", seeds=1, data=None, runs=tmp_path)
