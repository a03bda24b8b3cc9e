"""The job: train by a method and its baselines, judge them on the test part, report."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tutelage import distributed
from tutelage.models import load_multi_head, save_multi_head
from tutelage.recipes.auxiliary.judgement import difference, interval
from tutelage.recipes.auxiliary.network import spec_of
from tutelage.recipes.auxiliary.pipeline import WEIGHTS, Learned, Pipeline
from tutelage.recipes.auxiliary.problem import SPLITS, Problem
from tutelage.recipes.auxiliary.settings import AuxiliarySettings
from tutelage.recipes.base import begin
from tutelage.reports.auxiliary import NAMES, write_auxiliary_report


@dataclass(frozen=True)
class Finished:
    """Where a run's results lie, and its figures."""

    folder: Path
    metrics: dict[str, Any]
    report: Path


def learn(
    problem: Problem, settings: AuxiliarySettings, out: Path, *, told: dict[str, Any] | None = None, quiet: bool = False
) -> Finished:
    """Learn a primary task with auxiliary losses by a method and by its baselines, and compare them.

    A run that was killed goes on where it was; finished stages are kept. The figures do not depend on it.

    Args:
        problem: what is worked on.
        settings: how.
        out: the run's folder: config.yaml, log.jsonl, metrics.json, importance.parquet, model/, report.html, problems.csv;
            weights.parquet, how far each loss of each training example counts, of a method that learns that.
        told: further values for config.yaml.
        quiet: say nothing on the terminal.

    Raises:
        ValueError: the problem cannot be worked on, with what to do.
        Interrupted: SIGTERM or Ctrl-C came; run it again to go on.
    """
    first = distributed.join()
    if not problem.sides:
        raise ValueError("sides is empty: declare at least one auxiliary task")
    log = begin(out, settings, told, first=first, quiet=quiet)
    if first:
        problem.problems.write(out)
    sides = ", ".join(task.name for task in problem.sides)
    log.say(f"{problem.title}: {problem.primary.name} with {sides}; {problem.problems.summary()}")
    pipeline = Pipeline(problem, settings, out, log)
    found = {}
    for method in dict.fromkeys((settings.method, *settings.baselines)):
        found[method] = pipeline.learned(method)
        log.say(f"{NAMES[method]}: best validation {found[method].val:.4g}")
    if first:
        _finish(pipeline, found)
    distributed.barrier()
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    name = pipeline.measures[0].name
    figure = metrics["methods"][settings.method][name]
    log.say(f"{name}: {figure['value']:.4f} [{figure['low']:.4f}, {figure['high']:.4f}] by {NAMES[settings.method]}")
    for method, gain in metrics["difference"].items():
        by = f"{gain['value']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}]"
        log.say(f"  {by} against {NAMES[method]}; positive is better")
    return Finished(out, metrics, out / "report.html")


def _finish(pipeline: Pipeline, found: dict[Any, Learned]) -> None:
    """Judge the models, and write what people look at."""
    problem, settings, out = pipeline.problem, pipeline.settings, pipeline.stages.folder
    metrics = evaluate(pipeline, found)
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    importance_table(found[settings.method], [task.name for task in problem.sides]).to_parquet(
        out / "importance.parquet", index=False
    )
    best = found[settings.method]
    (out / WEIGHTS).unlink(missing_ok=True)
    if (best.folder / WEIGHTS).is_file():
        weights = pd.read_parquet(best.folder / WEIGHTS).iloc[problem.rows("train").numpy()]
        weights.to_parquet(out / WEIGHTS, index=False)
    model, _ = load_multi_head(best.folder)
    tasks = (problem.primary,) if settings.method == "single" else problem.tasks
    classes = problem.classes.get(problem.primary.target or "")
    facts = {"task": asdict(problem.primary), "classes": classes, "values": problem.values}
    save_multi_head(model, spec_of(problem, tasks, settings), out / "model", **facts)
    write_auxiliary_report(out)


def evaluate(pipeline: Pipeline, found: dict[Any, Learned]) -> dict[str, Any]:
    """Return what metrics.json holds; it is a function of its arguments, without times or paths."""
    problem, settings, measures = pipeline.problem, pipeline.settings, pipeline.measures
    ours = found[settings.method]
    return {
        "pipeline": {"recipe": "auxiliary", "title": problem.title, "seed": settings.seed, "method": settings.method},
        "task": {
            "primary": asdict(problem.primary),
            "sides": [asdict(task) for task in problem.sides],
            "figures": [{"name": measure.name, "higher": measure.higher} for measure in measures],
        },
        "data": {
            "counts": {part: len(problem.rows(part)) for part in SPLITS},
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
            if method != settings.method
        },
        "importance": {
            "modules": ours.modules,
            "tasks": [task.name for task in problem.sides],
            "last": ours.weighting_history[-1].get("importance") if ours.weighting_history else None,
        },
    }


def importance_table(learned: Learned, tasks: list[str]) -> pd.DataFrame:
    """Return what a method learned of how far each auxiliary task counts in each module, a row for each number and step."""
    rows = [
        (entry["step"], task, module, value)
        for entry in learned.weighting_history
        for task, values in zip(tasks, entry.get("importance", []), strict=False)
        for module, value in zip(learned.modules, values, strict=True)
    ]
    rows += [
        (entry["step"], task, "model", value)
        for entry in learned.weighting_history
        for task, value in zip(tasks, entry.get("weights", [None])[1:], strict=False)
    ]
    table = pd.DataFrame(rows, columns=["step", "task", "module", "value"])
    return table.astype({"step": "int64", "value": "float64"})
