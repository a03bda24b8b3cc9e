"""The table of lists to re-label: its figures are those of what a run writes, on a tiny task."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import tiny
from benchmarks.suspicion import table
from benchmarks.suspicion.table import BEFORE, BOTH, EVIDENCE, LESS, PLAIN, SERVED, TOP, WRITTEN, results

from tutelage import recipes
from tutelage.metrics import auroc


def test_the_row_of_a_run_is_what_a_run_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.hurry(monkeypatch.setattr)
    monkeypatch.setattr(
        table, "cases", lambda *_: [("posters", lambda seed: (tiny.task(), replace(tiny.settings(), seed=seed)))]
    )
    rows, _ = results("pocket", seeds=2, data=None, runs=tmp_path / "table")
    found = {(row.row, row.metric.partition(": ")[2]): row.by_seed for row in rows}
    assert {name for name, figure in found if figure == "AUROC"} == {
        *(PLAIN, BEFORE, SERVED, WRITTEN, EVIDENCE, BOTH, *(row + LESS for row in (SERVED, EVIDENCE, BOTH)))
    }
    run = recipes.run("moderation", tiny.task(), replace(tiny.settings(), seed=300), tmp_path / "run", quiet=True)
    examples = pd.read_parquet(run.folder / "examples.parquet")
    train = examples[examples["split"] == "train"]
    wrong = (train["label"] != train["true_label"]).to_numpy()
    first = train["suspicion"].sort_values(ascending=False, kind="stable").index[:TOP]
    listed = pd.read_csv(run.folder / "relabel.csv")
    told = {name: values[300] for (row, name), values in found.items() if row == WRITTEN and values}
    assert told["AUROC"] == auroc(train["suspicion"].to_numpy(), wrong.astype(int))
    assert told[f"wrong among the first {TOP}"] == (examples["label"] != examples["true_label"])[first].mean()
    assert told["labels listed"] == (listed["split"] == "train").sum()
    less, both, own = (found[name, "AUROC"] or {} for name in (BOTH + LESS, BOTH, WRITTEN))
    assert less == {seed: both[seed] - own[seed] for seed in (300, 301)}
    with pytest.raises(ValueError, match=r"only=\['cats'\]: no such case; there are \['posters'\]"):
        results("pocket", seeds=1, data=None, runs=tmp_path, only=("cats",))
