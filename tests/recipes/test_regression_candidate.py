"""Behind an encoder, kernel ridge regression is a candidate of `tutelage moderate`, whether anybody teaches or not."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits

from tutelage import recipes
from tutelage.recipes.encoding import EncoderSettings
from tutelage.recipes.moderation import laptop, moderation_task, pipeline
from tutelage.recipes.moderation.regression import regression
from tutelage.training import Budget, Log, Stages

DIGITS = load_digits()


@pytest.fixture
def settings(tmp_path):
    """Digits as 64 features; the trainings are short."""
    rows = np.arange(400)
    columns = {f"x{place}": values for place, values in enumerate(DIGITS.data[rows].T)}
    pd.DataFrame({"id": rows, **columns}).to_parquet(tmp_path / "features.parquet")
    return replace(
        laptop(),
        encoder=EncoderSettings(features=str(tmp_path / "features.parquet")),
        budget=Budget(steps=4),
        discovery=replace(laptop().discovery, epochs=2),
    )


def table(folder, count, **columns):
    labels = np.where(DIGITS.target[:count] < 4, "defective", "acceptable")
    pd.DataFrame({"id": np.arange(count), "label": labels, **columns}).to_csv(folder / "all.csv", index=False)
    return str(folder / "all.csv")


@pytest.mark.parametrize(("count", "why"), [(44, "too few"), (240, "nobody is competent")])
def test_without_a_student_it_is_what_plain_fine_tuning_is_compared_with(count, why, settings, tmp_path):
    if why != "too few":
        settings = replace(settings, selection=replace(settings.selection, significance=1e-9))
    task = moderation_task(table(tmp_path, count), settings)
    run = recipes.run("moderation", task, settings, str(tmp_path / "run"), quiet=True)
    assert run.metrics["subtasks"]["kept"] == 0
    assert (run.metrics["subtasks"]["count"] == 0) == (why == "too few")
    assert list(run.metrics["candidates"]) == ["fine_tuned", "regression", "fine_tuned+regression"]
    listed = pd.read_parquet(run.folder / "examples.parquet")
    assert {"score_regression", "score_others"} <= set(listed)
    assert "kernel regression on the features" in run.report.read_text()
    told, _ = recipes.predict(run.folder, settings.encoder.features, str(tmp_path / "scores.parquet"))
    listed = listed.set_index(listed["id"].astype(str))
    given = told[told["id"].astype(str).isin(listed.index)]
    assert given["score"].to_numpy() == pytest.approx(listed.loc[given["id"].astype(str), "score"].to_numpy(), abs=1e-5)


def test_a_row_that_counts_three_times_counts_as_three_rows(tmp_path, monkeypatch):
    """Of ten rows the first three count three times; in the other task they stand there three times."""
    monkeypatch.setattr("tutelage.subtasks.kernels._median_distance", lambda known: 3.0)
    features, labels = torch.tensor(DIGITS.data[:12], dtype=torch.float32), torch.tensor(DIGITS.target[:12] % 2)
    once = torch.arange(10)
    thrice = torch.cat([once[:3], once[:3], once])

    def told(train, weights):
        known = features[torch.cat([train, torch.tensor([10, 11])])]
        rows = torch.arange(len(train))
        made: Any = SimpleNamespace(
            settings=SimpleNamespace(seed=0),
            task=SimpleNamespace(images=range(len(known)), labels=labels[train], weights=weights),
            rows=lambda split: rows,
            features=lambda wanted: known[wanted],
            feature_std=None,
            stages=Stages(tmp_path / str(len(train)), Log(None, quiet=True)),
        )
        return regression(made, cache_key=[]).log_odds[-2:]

    counted = torch.ones(12, dtype=torch.float64)
    counted[:3] = 3.0
    torch.testing.assert_close(told(once, counted), told(thrice, None), atol=1e-4, rtol=1e-4)


def test_few_labels_select_a_plain_checkpoint_by_their_likelihood(settings, tmp_path, monkeypatch):
    asked = []
    real = pipeline.selects
    monkeypatch.setattr(pipeline, "selects", lambda by, fpr: asked.append(by) or real(by, fpr))
    for few, by in ((1, "auroc"), (1000, "likelihood")):
        monkeypatch.setattr(pipeline, "FEW", few)
        monkeypatch.setattr(pipeline, "RARE", 1)
        task = moderation_task(table(tmp_path, 44), settings)
        recipes.run("moderation", task, settings, tmp_path / by, quiet=True)
        assert asked.pop() == by
        assert not asked
