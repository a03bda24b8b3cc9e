"""The rows of the moderation table: what each of them trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

from benchmarks.moderation.baselines import averaged, longer, single_teacher, tuned, weights_averaged, without_doubted
from benchmarks.moderation.semi_supervised import noisy, swsl
from benchmarks.moderation.variants import FINE_TUNING, HARD, MULTI_CLASS, Variants
from tutelage.models import ModelSettings
from tutelage.recipes.moderation.belief import Belief, believe, credible
from tutelage.recipes.moderation.found import ModelScores
from tutelage.recipes.moderation.pipeline import Pipeline
from tutelage.recipes.moderation.served import choose_members, joint_teacher
from tutelage.recipes.moderation.settings import ModerationSettings
from tutelage.recipes.moderation.teaching import taught
from tutelage.subtasks import LessonSettings
from tutelage.subtasks.curricula import CurriculumName

Scores = Callable[[Pipeline], torch.Tensor]
FIRST = "ViT-Base/16"
PLAIN = "the same DeiT, plainly fine-tuned"
FULL = "the full method's student"
BELIEVED = "kernel ridge regression on the believed labels"
SPECIALISTS = "the kept specialists together"
SERVED = "what `tutelage moderate` serves"
WEIGHED = {"amal": "AMAL", "maoal": "MAOAL", "joint": "Joint"}


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: as the paper prints it.
        paper: the paper's absolute gains in percent at 5 % and at 1 % FPR over its first row, or None where it has none.
        scores: trains what the row asks for, and returns the scores of every example.
        core: measured under both kinds of noise; the other rows under uniform noise only.
    """

    name: str
    paper: tuple[float, float] | None
    scores: Scores
    core: bool = False


@dataclass(frozen=True)
class Trained:
    """What the full method trains; without a student where no specialist is competent."""

    belief: Belief | None
    teacher: torch.Tensor
    student: ModelScores | None


def _fine_tuned(model: ModelSettings) -> Scores:
    return lambda pipeline: pipeline.fine_tuned(model, f"fine-tuned-{model.name}").scores


def _found(pipeline: Pipeline, subtasks: int, epochs: int) -> Pipeline:
    discovery = replace(pipeline.settings.discovery, subtasks=subtasks, epochs=epochs)
    return pipeline.with_settings(replace(pipeline.settings, discovery=discovery))


def _multi_class(swin: ModelSettings, subtasks: int, epochs: int) -> Scores:
    """K + 1 classes: the sub-tasks, and acceptable as the last."""

    def scores(pipeline: Pipeline) -> torch.Tensor:
        pipeline = _found(pipeline, subtasks, epochs)
        label = torch.where(pipeline.task.labels == 1, subtasks, pipeline.discovery().subtask)
        return pipeline.fine_tuned(swin, f"multi-class-{subtasks}-{epochs}", label).scores

    return scores


def _filtered(swin: ModelSettings, subtasks: int, epochs: int) -> Scores:
    """Plain fine-tuning without the examples of the sub-tasks that were not kept."""

    def scores(pipeline: Pipeline) -> torch.Tensor:
        pipeline = _found(pipeline, subtasks, epochs)
        found = pipeline.discovery()
        kept_K = torch.from_numpy(pipeline.selection(*pipeline.specialists(found)).kept)
        dropped = (found.subtask >= 0) & ~kept_K[found.subtask.clamp_min(0)]
        return pipeline.fine_tuned(swin, "filtered", torch.where(dropped, -1, pipeline.task.labels)).scores

    return scores


def _taught(
    name: str,
    subtasks: int,
    epochs: int,
    *,
    everyone: bool = False,
    hard: bool = False,
    curriculum: CurriculumName = "random",
    unlabelled: bool = False,
) -> Scores:
    """The paper's own method: each sub-task's own specialist teaches, and what is not kept is dropped."""

    def scores(pipeline: Pipeline) -> torch.Tensor:
        pipeline = _found(pipeline, subtasks, epochs)
        lesson = LessonSettings(
            rejected="dropped",
            teacher="own",
            contradicted=0.0,
            calibrated=False,
            substitute=False,
            unlabelled="kept" if unlabelled else "none",
        )
        learning = replace(pipeline.settings.learning, distillation="hard" if hard else "soft", curriculum=curriculum)
        pipeline = pipeline.with_settings(replace(pipeline.settings, lesson=lesson, learning=learning))
        found = pipeline.discovery()
        log_odds_NK, failures = pipeline.specialists(found)
        selection = pipeline.selection(log_odds_NK, failures)
        if everyone:
            selection = replace(selection, kept=np.isfinite(selection.competence))
        return taught(pipeline, found, log_odds_NK, selection, name=name).scores

    return scores


@lru_cache(maxsize=1)
def _trained(pipeline: Pipeline, name: str = "student") -> Trained:
    """Train the full method."""
    discoveries = pipeline.discoveries() if pipeline.settings.doubt.used else [pipeline.discovery()]
    found = discoveries[0]
    belief = believe(pipeline, discoveries) if pipeline.settings.doubt.used else None
    log_odds_NK, failures = pipeline.specialists(found, belief.right if belief else None)
    selection = pipeline.selection(log_odds_NK, failures)
    if belief:
        selection = credible(selection, belief)
    teacher, student = joint_teacher(log_odds_NK, selection), None
    if torch.isfinite(teacher).all():
        student = taught(pipeline, found, log_odds_NK, selection, belief, name)
    return Trained(belief, teacher, student)


def _ours(pipeline: Pipeline) -> torch.Tensor:
    """The student of the full method; without competent specialists there is none but plain fine-tuning."""
    student = _trained(pipeline).student
    return (student or pipeline.fine_tuned(pipeline.settings.student)).scores


def _specialists(pipeline: Pipeline) -> torch.Tensor:
    """What the kept specialists say together, or plain fine-tuning where none is kept."""
    teacher = _trained(pipeline).teacher
    return teacher if torch.isfinite(teacher).all() else pipeline.fine_tuned(pipeline.settings.student).scores


def _served(pipeline: Pipeline) -> torch.Tensor:
    """What `tutelage moderate` serves: the choice among plain fine-tuning, the student, the specialists and their means."""
    given, standard, name = pipeline.settings, ModerationSettings(), "student"
    if not given.doubt.used:
        lesson = replace(given.lesson, calibrated=True, rejected=standard.lesson.rejected)
        selection = replace(given.selection, significance=standard.selection.significance)
        pipeline, name = (
            pipeline.with_settings(replace(given, lesson=lesson, selection=selection)),
            "student-calibrated",
        )
    trained = _trained(pipeline, name)
    fine_tuned = pipeline.fine_tuned(given.student)
    choice = choose_members(pipeline, fine_tuned, trained.student, trained.teacher, trained.belief)
    pipeline.log.say(f"served: {choice.chosen}; {choice.why}")
    return torch.from_numpy(choice.served.scores)


def _believed(pipeline: Pipeline) -> Belief:
    return believe(pipeline, pipeline.discoveries())


def _regression(pipeline: Pipeline) -> torch.Tensor:
    regression = _believed(pipeline).regression.model
    assert regression is not None
    return regression.scores


def _weighed(weighting: str) -> Scores:
    """The full method, whose student follows the fine-tuned model too, as far as a weighting learns on held-out labels."""

    def scores(pipeline: Pipeline) -> torch.Tensor:
        pipeline = pipeline.with_settings(replace(pipeline.settings, weighting=weighting))
        student = _trained(pipeline, f"student-{weighting}").student
        return (student or pipeline.fine_tuned(pipeline.settings.student)).scores

    return scores


def rows(variants: Variants | None, student: ModelSettings) -> list[Row]:
    """Return the table's rows, in the paper's order, and those of `tutelage moderate`; without variants only these."""
    return [*(paper_rows(variants) if variants else _strong_rows()), *own_rows(student)]


def paper_rows(variants: Variants) -> list[Row]:
    """Return the rows of the paper's Table 2, with the models, epochs and numbers of sub-tasks of a scale."""
    small, middle, large = variants.epochs
    few, some, many = variants.subtasks
    swin, deit = variants.classifier, variants.student
    grid = [(k, e) for k in (few, some, many) for e in (small, middle, large)]
    table = [
        Row(name, FINE_TUNING.get(name), _fine_tuned(model), core=name == FIRST)
        for name, model in variants.models.items()
    ]
    table.append(
        Row(f"{deit} + single teacher", (8.4, 10.8), lambda pipeline: single_teacher(pipeline).scores, core=True)
    )
    for (k, e), paper in zip(grid, MULTI_CLASS, strict=True):
        table.append(Row(f"{e} epochs SL K{k} + {swin}", paper, _multi_class(variants.swin, k, e)))
    sl = f"{middle} epochs SL K{some}"
    table.append(Row(f"{sl} + {deit} + AT", (4.0, 6.7), _taught("all-teachers", some, middle, everyone=True), True))
    table.append(Row(f"{sl} + {swin}, filtered data", (4.5, 7.1), _filtered(variants.swin, some, middle)))
    for (k, e), paper in zip(grid, HARD, strict=True):
        table.append(Row(f"{e} epochs SL K{k} + {deit} + FT + HD", paper, _taught(f"hard-{k}-{e}", k, e, hard=True)))
    table.append(Row(f"{sl} + {deit} + FT + SD", (13.4, 15.6), _taught("soft", some, middle), True))
    curricula: list[tuple[CurriculumName, tuple[float, float]]] = [
        ("apc", (13.8, 14.2)),
        ("pc", (17.7, 20.3)),
        ("acc", (11.9, 14.5)),
        ("cc", (22.4, 27.1)),
    ]
    for curriculum, paper in curricula:
        name = f"{sl} + {deit} + FT + SD + {curriculum.upper()}"
        table.append(Row(name, paper, _taught(curriculum, some, middle, curriculum=curriculum)))
    table.append(Row("SWSL", (19.7, 23.9), swsl(variants.swsl)))
    table.append(Row("NoisyStudent-L2", (21.8, 23.5), noisy(variants.noisy)))
    full = _taught("full-as-printed", some, middle, curriculum="cc", unlabelled=True)
    table.append(Row(f"{sl} + {deit} + FT + SD + CC + UL", (28.8, 30.2), full, core=True))
    return table


def _strong_rows() -> list[Row]:
    """What a sceptic would try first, on features, where it costs little."""
    return [
        Row("the same DeiT, twice the budget", None, longer, core=True),
        Row("the same DeiT, the best of three learning rates", None, tuned, core=True),
        Row("the same DeiT, two seeds averaged", None, averaged, core=True),
        Row("the same DeiT, moving average of its weights", None, weights_averaged, core=True),
        Row("kernel ridge regression on the features", None, lambda run: _believed(run).scores, core=True),
        Row(
            "the same DeiT, doubted labels left out", None, lambda run: without_doubted(run, _believed(run)), core=True
        ),
        Row(
            "the same DeiT, doubted labels left out, twice the budget",
            None,
            lambda run: without_doubted(run, _believed(run), 2),
            core=True,
        ),
        Row(SPECIALISTS, None, _specialists, core=True),
        Row(BELIEVED, None, _regression, core=True),
    ]


def own_rows(student: ModelSettings) -> list[Row]:
    table = [Row(PLAIN, None, lambda pipeline: pipeline.fine_tuned(student).scores, core=True)]
    table.append(Row(FULL, None, _ours, core=True))
    table.append(Row(SERVED, None, _served, core=True))
    for weighting, title in WEIGHED.items():
        table.append(Row(f"{FULL}, weighed by {title}", None, _weighed(weighting), core=True))
    return table
