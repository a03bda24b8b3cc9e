"""What a run leaves behind: the figures of the primary task, and how far each auxiliary task counts in each module."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from tutelage.data.encoded import EncodedTable
from tutelage.data.splits import PARTS
from tutelage.files import read_parquet, write_table
from tutelage.models import ImageClassifier, load_multi_head, multi_head_with_encoder, save_multi_head
from tutelage.recipes.auxiliary.judgement import MEASURES, difference, interval
from tutelage.recipes.auxiliary.network import spec_of
from tutelage.recipes.auxiliary.pipeline import WEIGHTS, Learned
from tutelage.recipes.auxiliary.settings import PLAIN, AuxiliarySettings
from tutelage.recipes.auxiliary.task import AuxiliaryTask
from tutelage.recipes.served import Served, serve_best
from tutelage.reports.auxiliary import LABELS, importance_table


def evaluate(
    problem: AuxiliaryTask, settings: AuxiliarySettings, found: dict[str, Learned], out: Path
) -> dict[str, Any]:
    """Evaluate all methods on the test part, and write the method's model and the tables."""
    choice = served(problem, settings, found)
    best, asked = found[choice.chosen], found[settings.chosen]
    names = [task.name for task in problem.sides]
    write_table(out / "importance.parquet", importance_table(asked.weighting_history, names, asked.modules, whole=True))
    (out / WEIGHTS).unlink(missing_ok=True)  # of a former run with other settings
    if (asked.folder / WEIGHTS).is_file():
        weights = read_parquet(asked.folder / WEIGHTS).iloc[problem.rows("train").numpy()]
        write_table(out / WEIGHTS, weights)
    model, _ = load_multi_head(best.folder)
    spec = spec_of(problem, best.tasks, settings)
    if isinstance(problem.images, EncodedTable):
        features = problem.images.features
        assert features.encoder is None or isinstance(features.encoder, ImageClassifier)
        spec = multi_head_with_encoder(model, spec, features.encoder, features.mean, features.std)
    classes = problem.classes.get(problem.primary.target or "")
    facts = {"task": asdict(problem.primary), "classes": classes, "values": problem.values}
    save_multi_head(model, spec, out / "model", **facts)
    return figures(problem.with_share_of_labels(settings.shares.labels, settings.seed), settings, found, choice)


def served(problem: AuxiliaryTask, settings: AuxiliarySettings, found: dict[str, Learned]) -> Served:
    """Choose the network that is served by the first figure on the validation part; the primary loss alone is a candidate."""
    measure = MEASURES[problem.primary.kind][0]
    sign = 1 if measure.higher else -1
    return serve_best(
        lambda outcomes: sign * measure.figure(outcomes),
        {
            method: [each.on_val]
            for method, each in found.items()
            if method == PLAIN or each.folder != found[PLAIN].folder  # as where no importance counts
        },
        criterion=f"{'' if measure.higher else 'lower '}{LABELS[measure.name]} on the validation part",
        plain=PLAIN,
        asked=settings.chosen,
        seed=settings.seed,
    )


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
