"""The stages from a task to students: teachers, and a student for each method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tutelage.data import WithColumns
from tutelage.data.encoded import EncodedTable
from tutelage.files import save_tensors
from tutelage.models import ImageClassifier, JointLogits, ModelSettings, build, joint_logits, load_model, save_model
from tutelage.recipes.base import plan_of
from tutelage.recipes.distill.methods import Method, method_of, proportions
from tutelage.recipes.distill.settings import CoresetSettings, DistillSettings, TeacherSettings, kd_weights
from tutelage.recipes.distill.task import DistillTask
from tutelage.recipes.distill.taught import Taught, refit_weights
from tutelage.recipes.distill.teachers import bytes_of, given_teacher
from tutelage.recipes.input import augmentation_of
from tutelage.recipes.weighing import weighting_of
from tutelage.signals import Batch, CrossEntropy, Distillation, Objective, Outputs, Scaled, Signal
from tutelage.training import Budget, Log, Plan, Stages, fit, predict, seeds
from tutelage.training.example_weights import example_weights
from tutelage.weighting import Fixed, coreset_probabilities, tune_weights

LABEL = "label"


class Pipeline:
    """A task, its settings, and the folder where its stages lie.

    Args:
        task: what is worked on.
        settings: how.
        out: the run's folder.
        log: where progress is told.
    """

    def __init__(self, task: DistillTask, settings: DistillSettings, out: Path, log: Log) -> None:
        self.task = task
        self.settings = settings
        self.log = log
        self.stages = Stages(out, log)
        self.fingerprint = task.fingerprint()
        self.names = (
            ["teacher"] if len(settings.teachers) == 1 else [f"teacher_{j}" for j in range(len(settings.teachers))]
        )

    def rows(self, *parts: str) -> Tensor:
        """Return the rows of these parts."""
        return self.task.images.rows(*parts)

    def teachers(self) -> list[Taught]:
        """Train the teachers that are not there yet, and ask all of them about every image."""
        return [self._teacher(place, teacher) for place, teacher in enumerate(self.settings.teachers)]

    def _teacher(self, place: int, teacher: TeacherSettings) -> Taught:
        settings = self.settings
        name = self.names[place].replace("_", "-")
        if teacher.folder is not None:
            network = given_teacher(teacher.folder, self.task)
            return self.judged(name, lambda folder: (network, {}), [str(teacher.folder), bytes_of(teacher.folder)])
        budget = teacher.budget or settings.budget

        def train(folder: Path) -> tuple[ImageClassifier, dict[str, Any]]:
            network = self.new(teacher.model, name)
            fitted = fit(
                network,
                self.task.images.subset(self.rows("train")),
                signals=[CrossEntropy(name=LABEL, smoothing=settings.smoothing)],
                plan=self.plan(folder, name, budget, teacher.select),
            )
            return network, {"steps": fitted.steps}

        return self.judged(name, train, [teacher.model, budget, teacher.select, *self.shared_key()])

    def student(self, method: str, name: str | None = None) -> Taught:
        """Train a student by a method or a weighting, in a stage of that name: ``student-METHOD`` by default."""
        if method == "hpo":
            return self._tuned()
        if method == "coreset":
            return self.coreset(self.settings.coreset)
        made = method_of(method, self.settings)
        taught = self._student(name or f"student-{method}", made)
        if not self.settings.refit or not made.learns or taught.weights is None:
            return taught
        return self.refit(f"{taught.name}-refit", made, taught)

    def refit(self, name: str, method: Method, learned: Taught) -> Taught:
        """Train a student in a stage with the weights of another one, and on the held-out examples too."""
        return self._student(name, method, learned=learned)

    def coreset(self, coreset: CoresetSettings) -> Taught:
        """Train a student with the labels alone, on a part of the examples that the weighting's weights draw.

        The weighting is one that keeps a weight for an example, as `rehearse` has found.
        """
        train, settings = self.rows("train"), self.settings
        count = max(1, round(coreset.share * len(train)))
        probabilities, after = torch.ones(len(train), dtype=torch.float64), []
        if coreset.rule != "random":
            learned = self.student(settings.weighting)
            assert learned.weights is not None
            probabilities, after = coreset_probabilities(learned.weights[train], coreset.rule), [learned.name]
        drawn = torch.multinomial(probabilities, count, generator=seeds.generator(settings.seed, "coreset"))
        rows = train[drawn.sort().values]
        name = f"student-coreset-{coreset.rule.replace('_', '-')}-{coreset.share:g}"
        return self._student(name, method_of("ce", settings), rows=rows, after=after)

    def _tuned(self) -> Taught:
        """Train with several constant weights, and return the student that is best on the validation part."""
        tried: list[tuple[Taught, list[float]]] = []

        def evaluate(weighting: Fixed) -> float:
            weights = proportions([float(weight) for weight in weighting.weights])
            taught = self._student(f"student-hpo-{len(tried)}", Method("fixed", {"weights": weights}))
            tried.append((taught, weights))
            return taught.facts["val"]

        trials, seed = self.settings.trials, self.settings.seed
        found = tune_weights(evaluate, 1 + len(self.names), trials=trials, bounds=(0.1, 10.0), seed=seed)
        best, weights = next(each for each in tried if each[0].facts["val"] == found.value)
        return replace(best, facts={**best.facts, "weights": dict(zip(best.losses, weights, strict=True))})

    def _student(
        self,
        name: str,
        method: Method,
        *,
        rows: Tensor | None = None,
        after: Sequence[str] = (),
        learned: Taught | None = None,
    ) -> Taught:
        """Train a student in a stage; with the weights that another one has learned where ``learned`` is given."""
        settings, images = self.settings, self.task.images
        learns = method.learns and learned is None
        teachers = self.teachers() if method.teachers else []
        losses = [LABEL, *self.names[: len(teachers)]]
        if rows is None:
            parts = ["train", *(["unlabelled"] if method.teachers else [])]
            rows = self.rows(*parts, *(["held_out"] if settings.train_on_held_out and not learns else []))

        def train(folder: Path) -> tuple[ImageClassifier, dict[str, Any]]:
            network = self.new(settings.student, "student")
            examples, signals = self._lesson(images.subset(rows), teachers, method.mixed)
            if learned is None:
                weighting = weighting_of(
                    method.weighting,
                    method.options,
                    network,
                    examples=len(images),
                    signals=len(losses),
                    seed=settings.seed,
                )
            else:
                columns = [f"weight_{loss}" for loss in losses]
                given = refit_weights(learned, self.rows("held_out")).unbind(1)
                examples = WithColumns(examples, **dict(zip(columns, given, strict=True)))
                weighting = Fixed(columns)
            fitted = fit(
                network,
                examples,
                signals=signals,
                weighting=weighting,
                held_out=images.subset(self.rows("held_out")) if learns else None,
                plan=self.plan(folder, name, settings.budget, settings.select),
            )
            facts = {"steps": fitted.steps, "skipped": fitted.skipped}
            if learned is not None:
                return network, {**{name: learned.facts[name] for name in ("weighting_history", "modules")}, **facts}
            found = example_weights(weighting, Objective(network, signals), examples, len(images))
            if found is not None:
                save_tensors({"weights": found}, folder / "weights.safetensors")
            history, modules = fitted.weighting_history, weighting.module_names()
            return network, {**facts, "weighting_history": history, "modules": modules}

        common = [settings.student, settings.budget, settings.select, *self.shared_key()]
        by = [method, settings.kd_weight if method.mixed else None, settings.adapt if method.learns else None]
        stages = [teacher.name for teacher in teachers] + ([] if learned is None else [learned.name])
        taught = self.judged(name, train, [*common, *by, settings.temperature, rows], [*stages, *after])
        if learned is not None:
            return replace(taught, weights=learned.weights, losses=losses)
        file = taught.folder.parent / "weights.safetensors"
        weights = load_file(file)["weights"] if file.is_file() else None
        return replace(taught, weights=weights, losses=losses)

    def _lesson(self, examples: Any, teachers: list[Taught], mixed: bool) -> tuple[Any, list[Signal]]:
        """Return the examples with what the teachers say, and the losses of a student that listens to them.

        Images that are not changed have the teachers' answers beside them; otherwise the teachers see what the student sees.
        """
        settings = self.settings
        signals: list[Signal] = [CrossEntropy(name=LABEL, smoothing=settings.smoothing)]
        one_view = isinstance(self.task.images, EncodedTable) and self.task.images.features.views == 1
        unchanged = augmentation_of(settings) is None or one_view
        if unchanged and teachers:
            columns = {f"{name}_logits": each.logits for name, each in zip(self.names, teachers, strict=True)}
            examples = WithColumns(examples, **columns)
        for name, each in zip(self.names, teachers, strict=False):
            asked = f"{name}_logits" if unchanged else JointLogits(load_model(each.folder)[0])
            signals.append(Distillation(asked, temperature=settings.temperature, name=name))
        if mixed:
            weights = kd_weights(settings.kd_weight, len(teachers))
            signals = [Scaled(signal, weight) for signal, weight in zip(signals, weights, strict=True)]
        return examples, signals

    def judged(self, name: str, make: Any, cache_key: list[Any], after: Sequence[str] = ()) -> Taught:
        """Run a stage that makes a model, and return what the model says of every image."""
        images = self.task.images

        def work(folder: Path) -> dict[str, Any]:
            network, facts = make(folder)
            save_model(network, folder / "model", classes=list(self.task.classes))
            everything = images.subset(torch.arange(len(images)))
            outputs, _ = predict(network, everything, workers=self.settings.hardware.workers, shared=True)
            logits = joint_logits(outputs)
            save_tensors({"logits": logits.contiguous()}, folder / "logits.safetensors")
            right = logits.argmax(1) == self.task.labels
            return {**facts, "val": float(right[self.rows("val")].double().mean())}

        stage = self.stages.run(name, work, cache_key=[self.fingerprint, cache_key], after=after)
        logits = load_file(stage.folder / "logits.safetensors")["logits"]
        return Taught(name, logits, stage.folder / "model", None, [], stage.facts)

    def new(self, model: ModelSettings, name: str) -> ImageClassifier:
        """Return a model with its first weights, which depend on the seed and the name."""
        with seeds.fixed(self.settings.seed, "init", name):
            spec = model.spec(len(self.task.classes), self.settings.image_size, self.task.images.num_features)
            return build(spec, model.pretrained)

    def plan(self, folder: Path, name: str, budget: Budget, select: bool) -> Plan:
        """Return how a model is trained in a folder; where ``select`` says so, the validation part selects its weights."""
        settings = self.settings
        return plan_of(
            settings,
            folder,
            self.log,
            budget=budget,
            augment=augmentation_of(settings),
            val=self.task.images.subset(self.rows("val")) if select else None,
            select_by=accuracy if select else None,
            adapt_every=settings.adapt.every,
            held_out_batch_size=settings.adapt.batch_size,
            name=name,
        )

    def shared_key(self) -> list[Any]:
        """Return the settings on which every training depends."""
        settings = self.settings
        return [
            settings.seed,
            settings.image_size,
            settings.augmentation,
            settings.training,
            settings.smoothing,
            settings.hardware.precision,
        ]


def accuracy(outputs: Outputs, batch: Batch) -> float:
    """Return the share of right answers, which selects."""
    assert isinstance(outputs, Tensor)
    return float((outputs.argmax(1) == batch["label"]).double().mean())
