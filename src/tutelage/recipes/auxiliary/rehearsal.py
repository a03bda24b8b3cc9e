"""Every training of an auxiliary run, tried on two examples before the first of them begins."""

from __future__ import annotations

from functools import partial
from typing import get_args

from torch import nn

from tutelage import training
from tutelage.models import build_multi_head
from tutelage.recipes.auxiliary.network import augment_of, partition_of, signals_of, spec_of
from tutelage.recipes.auxiliary.settings import REFIT, AuxiliarySettings, Method
from tutelage.recipes.auxiliary.task import AuxiliaryTask
from tutelage.recipes.forecast import Training, steps_of
from tutelage.recipes.weighing import weighting_of
from tutelage.reports.auxiliary import NAMES
from tutelage.weighting import WEIGHTINGS
from tutelage.weighting.hpo import check_search
from tutelage.weighting.settings import options_of


def rehearse(problem: AuxiliaryTask, settings: AuxiliarySettings) -> None:
    """Try the network, the losses of all tasks, and what weighs them in each method.

    Raises:
        ValueError: one of them does not work, there is no auxiliary task, or no encoder of what is to be unfrozen.
    """
    if not problem.sides:
        raise ValueError("sides is empty: declare at least one auxiliary task")
    if settings.unfreeze and problem.num_features is None:
        raise ValueError(
            f"unfreeze={settings.unfreeze!r} trains the last block of the encoder of images, and none are behind one here; "
            "leave unfreeze out"
        )
    methods = settings.trained
    if "hpo" in methods:
        check_search(len(problem.tasks), settings.trials, settings.bounds)

    def weigh(model: nn.Module) -> None:
        for name in methods:
            if name not in (*get_args(Method), REFIT):
                weighting_of(
                    name,
                    options_of(settings, name),
                    model,
                    examples=len(problem.split),
                    signals=len(problem.tasks),
                    seed=settings.seed,
                    divide=lambda level: partition_of(model, level, problem.tasks),
                )

    rows = problem.rows("train")
    turned = settings.turned if any(task.kind == "rotation" for task in problem.tasks) else 0.0
    for tasks in ((problem.primary,), problem.tasks):
        spec = spec_of(problem, tasks, settings)
        training.rehearse(
            f"body.name={spec.name!r}, image_size={spec.image_size}, body.options={spec.options}",
            partial(build_multi_head, spec, settings.body.pretrained),
            problem.part(rows[:2], tasks, turned),
            optimization=settings.training,
            weights=settings.body.pretrained,
            augment=augment_of(problem, settings),
            signals=signals_of(problem, tasks, rows),
            weigh=weigh if len(tasks) > 1 else None,
        )


def trainings(problem: AuxiliaryTask, settings: AuxiliarySettings) -> list[Training]:
    """Return what a run trains: a network by each method, several of them where constant weights are searched."""
    spec = spec_of(problem, problem.tasks, settings)

    def steps(name: str) -> int:
        parts = ("train",) if name in WEIGHTINGS and WEIGHTINGS[name].learns else ("train", "held_out")
        once = steps_of(settings.budget, len(problem.rows(*parts)), settings.training.batch_size)
        return once * (settings.trials if name == "hpo" else 1)

    return [Training(NAMES[name], spec, partial(build_multi_head, spec), steps(name)) for name in settings.trained]
