"""The semi-supervised rows of the moderation table: what is trained on what, and that nothing is trained twice."""

import sys
from typing import Any

import pytest
import tiny
import torch
from benchmarks.moderation.semi_supervised import noisy, swsl

from tutelage.models import ModelSettings
from tutelage.recipes.moderation import Pipeline
from tutelage.training import Log, Plan, fit

MODEL = ModelSettings("pocket_resnet", options={"widths": (4, 8)})


@pytest.mark.trains
@pytest.mark.parametrize(
    ("row", "trainings"),
    [(swsl, ["teacher", "pretraining", "fine-tuning"]), (noisy, ["teacher", "student-1", "student-2", "student-3"])],
)
def test_a_row_on_a_tiny_task(row, trainings, tmp_path, monkeypatch):
    seen: list[tuple[str, torch.Tensor]] = []

    def spy(model: Any, train: Any, *, plan: Plan, **others: Any) -> Any:
        seen.append((plan.name, train.index.clone()))
        return fit(model, train, plan=plan, **others)

    for chain in ("self_training", "noisy_student"):
        monkeypatch.setattr(sys.modules[f"tutelage.generations.{chain}"], "fit", spy)
    task = tiny.task()
    pipeline = Pipeline(task, tiny.settings(), tmp_path, Log(None, quiet=True))
    scores = row(MODEL)(pipeline)
    assert [name for name, _ in seen] == trainings
    train, unlabelled = (set(task.images.rows(split).tolist()) for split in ("train", "unlabelled"))
    for name, rows in seen:
        met = set(rows.tolist())
        assert met <= train | unlabelled  # neither validation nor test
        assert (met == train) == (name in ("teacher", "fine-tuning"))
    assert scores.shape == (len(task.images),)
    assert torch.isfinite(scores).all()
    assert torch.equal(row(MODEL)(pipeline), scores)
    assert len(seen) == len(trainings)
