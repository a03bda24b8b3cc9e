"""The trainings of a run, a stage each, so that whatever shares one finds it done."""

from __future__ import annotations

from copy import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from tutelage.data.augment import augmentation
from tutelage.models import build_multi_head, save_multi_head
from tutelage.recipes.auxiliary.judgement import Answer, Outcomes, outcomes, selects
from tutelage.recipes.auxiliary.network import signals_of, spec_of, weighting_of
from tutelage.recipes.auxiliary.settings import AuxiliarySettings, Method, TaskSpec
from tutelage.recipes.auxiliary.task import AuxiliaryTask
from tutelage.recipes.base import plan_of
from tutelage.training import Log, Stages, fit, predict, seeds
from tutelage.weighting import WEIGHTINGS, registry, tune_weights
from tutelage.weighting.settings import options_of

WEIGHTS = "weights.parquet"


@dataclass(frozen=True)
class Learned:
    """A training.

    Attributes:
        method: how the losses were weighed.
        outcomes: of the test examples, (n, d).
        val: the best value on the validation part, higher is better.
        weighting_history: what the weighting had learned at steps; see `tutelage.training.Fitted`.
        modules: the names of the modules.
        folder: holds the network.
        facts: further plain values.
    """

    method: str
    outcomes: Outcomes
    val: float
    weighting_history: list[dict[str, Any]]
    modules: list[str]
    folder: Path
    facts: dict[str, Any]


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

    def learned(self, method: str, name: str | None = None) -> Learned:
        """Train by a method or a weighting, in a stage of its name or of another, and judge on the test part."""
        if method == "hpo":
            return self._tuned()
        if method == "single":
            return self._trained(method, (self.problem.primary,), "equal", {})
        return self._trained(name or method, self.problem.tasks, method, options_of(self.settings, method))

    def _tuned(self) -> Learned:
        """Search constant weights on the validation part; each trial is a training of the same budget."""
        problem, settings = self.problem, self.settings
        tried: dict[tuple[float, ...], Learned] = {}

        def evaluate(weighting: Any) -> float:
            weights = tuple(weighting.weights)
            tried[weights] = self._trained(f"hpo-{len(tried)}", problem.tasks, "fixed", {"weights": weights})
            return tried[weights].val

        tuned = tune_weights(
            evaluate, len(problem.tasks), trials=settings.trials, bounds=settings.bounds, seed=settings.seed
        )
        best = tried[tuned.weights]
        return replace(best, method="hpo", facts={**best.facts, "weights": list(tuned.weights)})

    def _trained(self, name: str, tasks: tuple[TaskSpec, ...], weighting_name: str, options: dict[str, Any]) -> Learned:
        """Train in a stage; a weighting that learns does so on the held-out part, on which the others are trained."""
        problem, settings = self.problem, self.settings
        learns = WEIGHTINGS[weighting_name].learns
        rows = problem.rows("train") if learns else problem.rows("train", "held_out")
        turned = settings.turned if any(task.kind == "rotation" for task in tasks) else 0.0
        spec = spec_of(problem, tasks, settings)

        def work(folder: Path) -> dict[str, Any]:
            with seeds.fixed(settings.seed, "init", settings.body.name):
                model = build_multi_head(spec, settings.body.pretrained)
            weighting = weighting_of(weighting_name, options, problem, tasks, model, settings.seed)
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
                    augment=augmentation(settings.augmentation) if not problem.fields else None,
                    val=problem.part(problem.rows("val"), (problem.primary,)),
                    select_by=selects(problem.primary, self.classes),
                    name=name,
                ),
            )
            assert fitted.best is not None
            test = problem.part(problem.rows("test"), (problem.primary,))
            answers, rest = predict(
                Answer(model, problem.primary), test, workers=settings.hardware.workers, shared=True
            )
            assert isinstance(answers, torch.Tensor)
            assert problem.primary.target is not None
            found = outcomes(answers, rest[problem.primary.target], problem.primary.kind, self.classes)
            save_file({"outcomes": torch.from_numpy(found), "answers": answers}, folder / "test.safetensors")
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
            [weighting_name, options, settings.adapt if learns else None],
            [asdict(task) for task in tasks],
            asdict(spec),
            settings.seed,
            settings.body,
        ]
        cache_key += [settings.training, settings.budget, settings.augmentation, settings.hardware.precision, turned]
        stage = self.stages.run(name, work, cache_key=cache_key)
        folder, facts = stage.folder, stage.facts
        found = load_file(folder / "test.safetensors")["outcomes"].numpy().astype(np.float64)
        history, further = facts["weighting_history"], {"step": facts["step"]}
        return Learned(name, found, facts["val"], history, facts["modules"], folder, further)
