"""What a run leaves behind: the figures of the primary task, and how far each auxiliary task counts in each module."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from tutelage.data.drawn import PARTS
from tutelage.files import read_parquet, write_table
from tutelage.models import load_ensemble, save_ensemble
from tutelage.recipes.auxiliary.judgement import MEASURES, difference, interval, selected_by
from tutelage.recipes.auxiliary.pipeline import WEIGHTS, Learned, Pipeline, ensemble
from tutelage.recipes.auxiliary.settings import ENSEMBLE, PLAIN, AuxiliarySettings
from tutelage.recipes.auxiliary.task import AuxiliaryTask
from tutelage.recipes.auxiliary.unfreezing import Models, door_of
from tutelage.recipes.served import Answers, Figure, Served, serve_mean, unbeaten
from tutelage.reports.auxiliary import LABELS, importance_table


def evaluate(problem: AuxiliaryTask, settings: AuxiliarySettings, models: Models, out: Path) -> dict[str, Any]:
    """Evaluate all methods on the test part, and write the model that is served and the tables."""
    found, choice, unfrozen = models.found, models.choice, models.unfrozen
    best, asked = found[choice.chosen], found[settings.chosen]
    names = [task.name for task in problem.sides]
    write_table(out / "importance.parquet", importance_table(asked.weighting_history, names, asked.modules, whole=True))
    known = problem.with_share_of_labels(settings.shares.labels, settings.seed)
    (out / WEIGHTS).unlink(missing_ok=True)  # of a former run with other settings
    if (asked.folder / WEIGHTS).is_file():
        weights = read_parquet(asked.folder / WEIGHTS).iloc[problem.rows("train").numpy()]
        write_table(out / WEIGHTS, weights)
    if unfrozen is not None and unfrozen.kept:
        model, _ = load_ensemble(unfrozen.folder)
    else:
        model = ensemble(known, settings, best.members or (best,), door_of(problem))
    classes = problem.classes.get(problem.primary.target or "")
    fields = {"values": {}, "numbers": {}} if problem.codes is None else asdict(problem.codes)
    facts = {"task": asdict(problem.primary), "classes": classes, **fields}
    save_ensemble(model, out / "model", **facts)
    told = figures(known, settings, found, choice)
    return {**told, "unfrozen": unfrozen.told() if unfrozen else None}


def with_mean(pipeline: Pipeline, found: dict[str, Learned]) -> dict[str, Learned]:
    """Return trainings, and beside them the mean of those that the validation part cannot tell from the best."""
    problem, settings = pipeline.problem, pipeline.settings
    members = unbeaten(_figure(problem), _answers(found), seed=settings.seed)
    single = len(members) * settings.copies == 1
    return found if single else {**found, ENSEMBLE: pipeline.together([found[name] for name in members])}


def served(problem: AuxiliaryTask, settings: AuxiliarySettings, found: dict[str, Learned]) -> Served:
    """Choose the served model on the validation part, by the first figure: see `with_mean`."""
    measure = MEASURES[problem.primary.kind][0]
    told = _answers(found)
    members = (
        found[ENSEMBLE].facts["members"] if ENSEMBLE in found else unbeaten(_figure(problem), told, seed=settings.seed)
    )
    return serve_mean(
        _figure(problem),
        told,
        mean=ENSEMBLE,
        members=tuple(members),
        copies=settings.copies,
        criterion=f"{'' if measure.higher else 'lower '}{LABELS[measure.name]} on the validation part",
        plain=PLAIN,
        asked=settings.chosen,
        seed=settings.seed,
    )


def _figure(problem: AuxiliaryTask) -> Figure:
    return lambda outcomes: selected_by(problem.primary, outcomes)


def _answers(found: dict[str, Learned]) -> Answers:
    """Return the outcomes of the trainings that differ; without any importance that counts one is that of the primary loss."""
    return {
        method: [each.on_val] for method, each in found.items() if method == PLAIN or each.folder != found[PLAIN].folder
    }


def figures(
    problem: AuxiliaryTask, settings: AuxiliarySettings, found: dict[str, Learned], choice: Served
) -> dict[str, Any]:
    """Return what metrics.json holds; it is a function of its arguments, without times or paths."""
    measures = MEASURES[problem.primary.kind]
    ours, asked = found[choice.chosen], found[settings.chosen]
    return {
        "pipeline": {"method": settings.chosen},
        "choice": choice.told(),
        "task": {
            "primary": asdict(problem.primary),
            "sides": [asdict(task) for task in problem.sides],
            "figures": [{"name": measure.name, "higher": measure.higher} for measure in measures],
        },
        "data": {
            "counts": {part: len(problem.rows(part)) for part in PARTS},
            "labelled": {task.name: problem.present(task, problem.rows("train")) for task in problem.tasks},
            "left_out": problem.problems.counts(),
        },
        "methods": {
            method: {measure.name: interval(measure, each.outcomes, settings.seed).plain() for measure in measures}
            | {"val": each.val, **each.facts}
            for method, each in found.items()
        },
        "difference": {
            method: difference(measures[0], ours.outcomes, each.outcomes, settings.seed).plain()
            for method, each in found.items()
            if method != choice.chosen
        },
        "importance": {
            "modules": asked.modules,
            "tasks": [task.name for task in problem.sides],
            "last": asked.weighting_history[-1].get("importance") if asked.weighting_history else None,
        },
    }
