"""The trainings of a run, a stage each, so that whatever shares one finds it done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors.torch import load_file
from torch import nn

from tutelage.files import save_tensors
from tutelage.models import Ensemble, build_multi_head, ensemble_of, load_multi_head, save_multi_head
from tutelage.models.features import FeatureDoor
from tutelage.recipes.auxiliary.judgement import Answer, Outcomes, outcomes, selected_by, selects
from tutelage.recipes.auxiliary.network import augment_of, partition_of, signals_of, spec_of
from tutelage.recipes.auxiliary.settings import ENSEMBLE, PLAIN, REFIT, AuxiliarySettings, Method, TaskSpec
from tutelage.recipes.auxiliary.task import AuxiliaryTask
from tutelage.recipes.base import plan_of
from tutelage.recipes.weighing import weighting_of
from tutelage.training import Log, Stages, fit, predict, seeds
from tutelage.weighting import WEIGHTINGS, Weighting, registry, tune_weights
from tutelage.weighting.fixed import FixedByModule
from tutelage.weighting.partition import Level
from tutelage.weighting.settings import options_of

APART = 1_000_003
"""How far the seeds of copies lie apart, so that they are not those of a user's next runs."""
WEIGHTS, OUTCOMES = "weights.parquet", "outcomes.safetensors"


@dataclass(frozen=True)
class Training:
    """What a network is trained with.

    Attributes:
        name: of the stage.
        tasks: whose losses are there.
        weighting: the name of what weighs them.
        options: its own.
        weigh: makes that of a model, where it is not of the registry.
    """

    name: str
    tasks: tuple[TaskSpec, ...]
    weighting: str
    options: dict[str, Any] = field(default_factory=dict)
    weigh: Callable[[nn.Module], Weighting] | None = None


@dataclass(frozen=True)
class Learned:
    """A training.

    Attributes:
        method: how the losses were weighed.
        outcomes: of the test examples, (n, d).
        on_val: of the validation examples, (n, d).
        val: the best value on the validation part, higher is better.
        weighting_history: what the weighting had learned at steps; see `tutelage.training.Fitted`.
        modules: the names of the modules.
        folder: holds the network.
        facts: further plain values.
        tasks: those that it learned.
        how: what it is trained with; None of several networks.
        members: the trainings whose mean it is, none for a single network.
    """

    method: str
    outcomes: Outcomes
    on_val: Outcomes
    val: float
    weighting_history: list[dict[str, Any]]
    modules: list[str]
    folder: Path
    facts: dict[str, Any]
    tasks: tuple[TaskSpec, ...]
    how: Training | None = None
    members: tuple[Learned, ...] = ()


def ensemble(
    problem: AuxiliaryTask, settings: AuxiliarySettings, members: Sequence[Learned], door: FeatureDoor | None = None
) -> Ensemble:
    """Return the networks of some trainings as one, that answers the primary task; behind a door where there is one.

    Its numbers are in the unit of the labels.
    """
    networks = [(load_multi_head(each.folder)[0], spec_of(problem, each.tasks, settings)) for each in members]
    primary = problem.primary
    return ensemble_of(
        networks, primary.name, numbers=primary.kind == "regression", standard=problem.standard(primary), door=door
    )


class Pipeline:
    """A problem, its settings, and the folder where its stages lie.

    Args:
        problem: what is worked on.
        settings: how.
        out: the run's folder.
        log: where progress is told.
    """

    def __init__(self, problem: AuxiliaryTask, settings: AuxiliarySettings, out: Path, log: Log) -> None:
        self.problem = problem.with_share_of_labels(settings.shares.labels, settings.seed)
        self.settings = settings
        self.log = log
        self.stages = Stages(out, log)
        self.fingerprint = self.problem.fingerprint()
        self.classes = self.problem.outputs(problem.primary) or 1
        for name in {settings.weighting, *settings.baselines} - set(get_args(Method)):
            registry.check(name, len(problem.tasks), options_of(settings, name))

    def with_settings(self, settings: AuxiliarySettings) -> Pipeline:
        """Return a pipeline on the same problem and folder with other settings; what both share is done once."""
        other = copy(self)
        other.settings = settings
        return other

    def learned(self, method: str) -> Learned:
        """Train by a method or a weighting, and judge on the test part."""
        if method == "hpo":
            return self._tuned()
        if method == PLAIN:
            return self._trained(Training(method, (self.problem.primary,), "equal"))
        if method == REFIT:
            return self._again(self.learned("maoal"))
        return self._trained(Training(method, self.problem.tasks, method, options_of(self.settings, method)))

    def together(self, members: Sequence[Learned]) -> Learned:
        """Return several networks, and copies of each from other first weights, as one, whose answer is the mean of theirs."""
        copies = range(1, self.settings.copies)
        networks = [
            network for first in members for network in (first, *(self.copy_of(first, each) for each in copies))
        ]

        def work(folder: Path) -> dict[str, Any]:
            model = ensemble(self.problem, self.settings, networks)
            found = {part: torch.from_numpy(self.outcomes_of(model, part)) for part in ("test", "val")}
            save_tensors(found, folder / OUTCOMES)
            return {}

        names = [member.method for member in members]
        after = [network.folder.name for network in networks]
        folder = self.stages.run(ENSEMBLE, work, cache_key=[self.fingerprint, names], after=after).folder
        found = {part: each.numpy() for part, each in load_file(folder / OUTCOMES).items()}
        val = selected_by(self.problem.primary, found["val"])
        facts = {"members": names, "copies": self.settings.copies}
        return Learned(ENSEMBLE, found["test"], found["val"], val, [], [], folder, facts, (), None, tuple(networks))

    def copy_of(self, first: Learned, place: int) -> Learned:
        """Train again as before, from other first weights and with other batches."""
        assert first.how is not None
        other = self.with_settings(replace(self.settings, seed=self.settings.seed + place * APART))
        return other._trained(replace(first.how, name=f"{first.how.name}-copy-{place}"))

    def _tuned(self) -> Learned:
        """Search constant weights on the validation part; each trial is a training of the same budget."""
        problem, settings = self.problem, self.settings
        tried: dict[tuple[float, ...], Learned] = {}

        def evaluate(weighting: Any) -> float:
            weights = tuple(weighting.weights)
            training = Training(f"hpo-{len(tried)}", problem.tasks, "fixed", {"weights": weights})
            tried[weights] = self._trained(training)
            return tried[weights].val

        tuned = tune_weights(
            evaluate, len(problem.tasks), trials=settings.trials, bounds=settings.bounds, seed=settings.seed
        )
        best = tried[tuned.weights]
        return replace(best, method="hpo", facts={**best.facts, "weights": list(tuned.weights)})

    def _again(self, first: Learned) -> Learned:
        """Train with the importances of a training, their mean over its second half, on the held-out examples too.

        A task that counts in no module is left out, with all that it does to the examples, such as to turn them; without any
        other than the primary task it is the training of that alone.
        """
        course = [entry["importance"] for entry in first.weighting_history]
        mean = torch.tensor(course[len(course) // 2 :], dtype=torch.float64).mean(0).tolist()
        rows = dict(zip(self.problem.sides, mean, strict=True))
        heads = {task.head for task, row in rows.items() if any(row)}  # which others may own
        kept = [task for task, row in rows.items() if any(row) or task.name in heads]
        if not kept:
            return self.learned(PLAIN)
        tasks = (self.problem.primary, *kept)

        def weigh(model: nn.Module) -> Weighting:
            options = options_of(self.settings, "maoal")
            level: Level = options.get("partition", "block")
            partition = partition_of(model, level, tasks)  # without the heads of the tasks that are left out
            places = [first.modules.index(name) for name in partition.names]
            return FixedByModule([[rows[task][place] for place in places] for task in kept], partition)

        importance = [rows[task] for task in kept]
        return self._trained(Training(REFIT, tasks, "equal", {"importance": importance}, weigh))

    def _trained(self, how: Training) -> Learned:
        """Train in a stage; a weighting that learns does so on the held-out part, on which the others are trained."""
        problem, settings, tasks = self.problem, self.settings, how.tasks
        learns = WEIGHTINGS[how.weighting].learns
        rows = problem.rows("train") if learns else problem.rows("train", "held_out")
        turned = settings.turned if any(task.kind == "rotation" for task in tasks) else 0.0
        spec = spec_of(problem, tasks, settings)

        def work(folder: Path) -> dict[str, Any]:
            with seeds.fixed(settings.seed, "init", settings.body.name):
                model = build_multi_head(spec, settings.body.pretrained)
            if how.weigh is None:
                weighting = weighting_of(
                    how.weighting,
                    how.options,
                    model,
                    examples=len(problem.split),
                    signals=len(tasks),
                    seed=settings.seed,
                    divide=lambda level: partition_of(model, level, tasks),
                )
            else:
                weighting = how.weigh(model)
            fitted = fit(
                model,
                problem.part(rows, tasks, turned),
                signals=signals_of(problem, tasks, rows),
                weighting=weighting,
                held_out=problem.part(problem.rows("held_out"), tasks) if learns else None,
                plan=plan_of(
                    settings,
                    folder,
                    self.log,
                    augment=augment_of(problem, settings),
                    val=problem.part(problem.rows("val"), (problem.primary,)),
                    select_by=selects(problem.primary, self.classes, problem.standard(problem.primary)),
                    name=how.name,
                ),
            )
            assert fitted.best is not None
            found = {part: torch.from_numpy(self.outcomes_of(model, part)) for part in ("test", "val")}
            save_tensors(found, folder / OUTCOMES)
            save_multi_head(model, spec, folder)
            weighting.export(folder / WEIGHTS, [f"weight_{task.name}" for task in tasks], problem.ids)
            return {
                "val": fitted.best["val"],
                "step": fitted.best["step"],
                "skipped": fitted.skipped,
                "weighting_history": fitted.weighting_history,
                "modules": weighting.module_names(),
            }

        cache_key = [
            self.fingerprint,
            [how.weighting, how.options, settings.adapt if learns else None],
            [(asdict(task), problem.standard(task)) for task in tasks],
            asdict(spec),
            settings.seed,
            settings.body,
        ]
        cache_key += [settings.training, settings.budget, settings.augmentation, settings.hardware.precision, turned]
        stage = self.stages.run(how.name, work, cache_key=cache_key)
        folder, facts = stage.folder, stage.facts
        found = {part: each.numpy() for part, each in load_file(folder / OUTCOMES).items()}
        history, further = facts["weighting_history"], {"step": facts["step"]}
        return Learned(
            how.name, found["test"], found["val"], facts["val"], history, facts["modules"], folder, further, tasks, how
        )

    def outcomes_of(self, model: nn.Module, part: str) -> Outcomes:
        """Return how a network, or several as one, does on the examples of a part."""
        problem, primary = self.problem, self.problem.primary
        examples = problem.part(problem.rows(part), (primary,))
        own_unit = isinstance(model, Ensemble)
        standard = (0.0, 1.0) if own_unit else problem.standard(primary)
        told = Answer(model, primary, standard)
        answers, rest = predict(told, examples, workers=self.settings.hardware.workers, shared=True)
        assert isinstance(answers, torch.Tensor)
        assert primary.target is not None
        return outcomes(answers, rest[primary.target], primary.kind, self.classes)
