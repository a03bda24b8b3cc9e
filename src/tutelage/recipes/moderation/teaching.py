"""The student: what the kept specialists know, weighed as the settings say, becomes one model's lesson."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.models import ImageClassifier
from tutelage.recipes.moderation.belief import Belief
from tutelage.recipes.moderation.found import Found, ModelScores
from tutelage.recipes.moderation.pipeline import Pipeline
from tutelage.recipes.moderation.regression import STAGE as REGRESSION
from tutelage.recipes.moderation.served import calibrated_teacher, joint_teacher
from tutelage.recipes.weighing import weighting_of
from tutelage.subtasks import Selection, prepare, select, teach, two_way
from tutelage.weighting.settings import options_of

WEIGHTS = "weights.parquet"


def taught(
    pipeline: Pipeline,
    found: Found,
    log_odds_NK: Tensor,
    selection: Selection,
    belief: Belief | None = None,
    name: str = "student",
) -> ModelScores:
    """Teach the student what the kept specialists know, and the labels as far as they are believed."""
    kept_K = torch.from_numpy(selection.kept)
    settings, images = pipeline.settings, pipeline.task.images
    after = [pipeline.specialists_stage, *([REGRESSION] if belief else [])]
    joint, errors = joint_teacher(log_odds_NK, selection) if belief is None else belief.regression.log_odds, None
    if settings.lesson.calibrated and torch.isfinite(joint).all():
        after.append("fine-tuned")
        silent = None if belief is None else belief.unjudged(pipeline.task.labels)
        joint, errors = calibrated_teacher(pipeline, joint, pipeline.fine_tuned(settings.student), silent)
    lesson = prepare(
        pipeline.task.labels,
        found.subtask,
        kept_K,
        joint,
        pipeline.rows("train"),
        settings.lesson,
        errors=errors,
        right=None if belief is None else belief.right,
        precision_K=torch.from_numpy(selection.local_precision),
        unlabelled=pipeline.rows("unlabelled"),
        unlabelled_probabilities=found.unlabelled_probabilities,
    )
    weighting, options = settings.weighting, {}
    if weighting is not None:
        fine_tuned = pipeline.fine_tuned(settings.student).scores
        lesson = replace(lesson, fine_tuned_logits=two_way(torch.logit(fine_tuned, eps=1e-6).float()))
        options = options_of(settings, weighting)
        after = [*dict.fromkeys([*after, "fine-tuned"])]
    pipeline = pipeline.with_settings(replace(settings, budget=settings.budget.times(settings.learning.times)))
    order = found.mean_confidence
    if settings.learning.curriculum in ("pc", "apc"):
        order = performance(pipeline, log_odds_NK)

    def train(network: ImageClassifier, folder: Path) -> dict[str, Any]:
        made = (
            None
            if weighting is None
            else weighting_of(
                weighting,
                options_of(settings, weighting),
                network,
                examples=len(images),
                signals=len(lesson.sources),
                seed=settings.seed,
            )
        )
        fitted = teach(
            network,
            replace(lesson, weight=pipeline.task.weights),
            images.subset(lesson.rows),
            settings.learning,
            pipeline.selected(folder, network, name),
            confidence_K=order,
            log_odds_NK=log_odds_NK if settings.lesson.teacher == "own" else None,
            weighting=made,
            held_out=images.subset(pipeline.rows("teacher_val", "teacher_test")) if made and made.learns else None,
        )
        if made is None:
            return lesson.left_out
        made.export(folder / WEIGHTS, lesson.sources, pipeline.task.table["id"].tolist())
        history = fitted.weighting_history
        learned = {"learned": history[-1] if history else {}, "modules": made.module_names()}
        return {**lesson.left_out, "weighting": {"name": weighting, "sources": lesson.sources, **learned}}

    cache_key = [settings.lesson, settings.learning, settings.selection, kept_K.tolist(), settings.doubt]
    cache_key += [weighting, options, settings.adapt if weighting else None]
    return pipeline.trained(name, settings.student, train, cache_key, after=after)


def performance(pipeline: Pipeline, log_odds_NK: Tensor) -> Tensor:
    """Return each specialist's NPV on teacher-val, (K,): what the performance curriculum goes by."""
    rows = pipeline.rows("teacher_val")
    on_val = replace(pipeline.settings.selection, rule="npv", threshold=1.0)
    verdict = select(log_odds_NK[rows].double().numpy(), pipeline.task.labels[rows].numpy(), on_val)
    return torch.from_numpy(verdict.npv).nan_to_num(0.0)
