"""What a run leaves behind: the figures of the primary task, and how far each auxiliary task counts in each module."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from tutelage.data.splits import PARTS
from tutelage.files import read_parquet, write_table
from tutelage.models import load_multi_head, save_multi_head
from tutelage.recipes.auxiliary.judgement import MEASURES, difference, interval
from tutelage.recipes.auxiliary.network import spec_of
from tutelage.recipes.auxiliary.pipeline import WEIGHTS, Learned
from tutelage.recipes.auxiliary.settings import AuxiliarySettings
from tutelage.recipes.auxiliary.task import AuxiliaryTask
from tutelage.reports.auxiliary import importance_table


def evaluate(
    problem: AuxiliaryTask, settings: AuxiliarySettings, found: dict[str, Learned], out: Path
) -> dict[str, Any]:
    """Evaluate all methods on the test part, and write the method's model and the tables."""
    best = found[settings.chosen]
    names = [task.name for task in problem.sides]
    write_table(out / "importance.parquet", importance_table(best.weighting_history, names, best.modules, whole=True))
    (out / WEIGHTS).unlink(missing_ok=True)  # of a former run with other settings
    if (best.folder / WEIGHTS).is_file():
        weights = read_parquet(best.folder / WEIGHTS).iloc[problem.rows("train").numpy()]
        write_table(out / WEIGHTS, weights)
    model, _ = load_multi_head(best.folder)
    tasks = (problem.primary,) if settings.chosen == "single" else problem.tasks
    classes = problem.classes.get(problem.primary.target or "")
    facts = {"task": asdict(problem.primary), "classes": classes, "values": problem.values}
    save_multi_head(model, spec_of(problem, tasks, settings), out / "model", **facts)
    return figures(problem.with_share_of_labels(settings.shares.labels, settings.seed), settings, found)


def figures(problem: AuxiliaryTask, settings: AuxiliarySettings, found: dict[str, Learned]) -> dict[str, Any]:
    """Return what metrics.json holds; it is a function of its arguments, without times or paths."""
    measures = MEASURES[problem.primary.kind]
    ours = found[settings.chosen]
    return {
        "pipeline": {"method": settings.chosen},
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
            if method != settings.chosen
        },
        "importance": {
            "modules": ours.modules,
            "tasks": [task.name for task in problem.sides],
            "last": ours.weighting_history[-1].get("importance") if ours.weighting_history else None,
        },
    }
