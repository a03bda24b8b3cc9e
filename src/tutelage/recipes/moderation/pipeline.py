"""The stages before a student: discovery, specialists, their selection, and plain fine-tuning.

Every method returns plain tensors and leaves its work in a stage of its own, so that whatever shares a stage (the rows of
a table, a run that was killed) finds it done.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tutelage.data import WithColumns
from tutelage.data.encoded import EncodedTable
from tutelage.files import save_tensors
from tutelage.models import ImageClassifier, ModelSettings, build, load_model, save_model
from tutelage.recipes.base import plan_of
from tutelage.recipes.input import augmentation_of
from tutelage.recipes.moderation.found import Found, ModelScores
from tutelage.recipes.moderation.settings import ModerationSettings
from tutelage.recipes.moderation.start import starting_weights
from tutelage.recipes.moderation.task import ModerationTask
from tutelage.signals import CrossEntropy
from tutelage.subtasks import (
    Criterion,
    Selection,
    acceptability,
    discover,
    features,
    select,
    selects,
    token_cosine,
    train_specialists,
    with_example_weights,
)
from tutelage.training import Log, Plan, Stages, fit, predict, seeds
from tutelage.weighting import Equal

FEW = 100  # labelled examples of student-val, below which a metric of ranks selects a checkpoint by chance
RARE = 30  # of one class, below which it does so too
TOKENS = "token_cosine"  # what a stage says of the two tokens of its model


def weighed(task: ModerationTask, right: Tensor | None) -> Tensor | None:
    """Return how far each row counts, (N,) float64: by its weight and as far as its label is right; None if all alike."""
    if right is None or task.weights is None:
        return task.weights if right is None else right.double()
    return task.weights * right


def _heads(network: Any) -> tuple[str, ...]:
    return network.heads


class Pipeline:
    """A task, its settings, and the folder where its stages lie.

    Args:
        task: what is worked on.
        settings: how.
        out: the run's folder.
        log: where progress is told.
        encoders: the folder of the encoders that are pre-trained on the task's stand-in; under ``out`` by default.
    """

    def __init__(
        self, task: ModerationTask, settings: ModerationSettings, out: Path, log: Log, encoders: Path | None = None
    ) -> None:
        self.task = task
        self.settings = settings
        self.log = log
        self.stages = Stages(out, log)
        self.encoders = Stages(encoders or out, log)
        self.fingerprint = task.fingerprint()

    def with_settings(self, settings: ModerationSettings) -> Pipeline:
        """Return a pipeline on the same task and folder with other settings; what both share is done once."""
        other = copy(self)
        other.settings = settings
        return other

    def rows(self, *splits: str) -> Tensor:
        """Return the rows of these splits."""
        return self.task.images.rows(*splits)

    def new(self, model: ModelSettings, classes: int) -> ImageClassifier:
        """Return a fresh model at its starting weights."""
        weights = starting_weights(model, self.task, self.settings, self.encoders, self.log)
        with seeds.fixed(self.settings.seed, "init", model.name):
            return build(model.spec(classes, self.settings.image_size, self.task.images.num_features), weights)

    def plan(self, folder: Path, training: str = "training") -> Plan:
        """Return how a model is trained in a folder, with the optimisation of this name in the settings."""
        settings = self.settings
        found = getattr(settings, training)
        augment = augmentation_of(settings)
        return plan_of(settings, folder, self.log, optimization=found, optimization_name=training, augment=augment)

    def selected(self, folder: Path, network: ImageClassifier, name: str, by: Criterion | None = None) -> Plan:
        """Return how a model is trained of which student-val selects the checkpoint, as the settings say by default."""
        settings = self.settings
        return replace(
            self.plan(folder),
            heads=network.heads,
            val=self.task.images.subset(self.rows("student_val")),
            select_by=selects(by or settings.select_by, settings.fpr),
            name=name,
        )

    def discoveries(self) -> list[Found]:
        """Find the sub-tasks as often as the settings of doubt say, from another seed each time; the first are the run's."""
        seed, stages = self.settings.seed, self.discovery_stages
        seeded = [seed, *(seeds.derive(seed, "discovery", again) for again in range(1, len(stages)))]
        pipelines = [self.with_settings(replace(self.settings, seed=each)) for each in seeded]
        return [each.discovery(name) for each, name in zip(pipelines, stages, strict=True)]

    def discovery(self, name: str | None = None) -> Found:
        """Find the sub-tasks of the defective training examples, in the stage of this name."""
        settings, images = self.settings, self.task.images
        train = self.rows("train")
        defects, acceptable = train[self.task.labels[train] == 0], train[self.task.labels[train] == 1]
        unlabelled = self.rows("unlabelled")

        def work(folder: Path) -> dict[str, Any]:
            discriminator = self.new(settings.specialist, settings.discovery.outputs)
            found = discover(
                discriminator,
                images.subset,
                defects,
                acceptable,
                settings.discovery,
                self.plan(folder, "discovery_training"),
            )
            save_model(discriminator, folder)
            probabilities = torch.zeros(0, settings.discovery.outputs)
            if len(unlabelled) > 0:
                outputs, _ = predict(
                    discriminator, images.subset(unlabelled), workers=settings.hardware.workers, shared=True
                )
                assert isinstance(outputs, Tensor)
                probabilities = outputs.softmax(1)
            tensors = {
                "index": found.index,
                "labels": found.labels,
                "confidence": found.confidence,
                "unlabelled_probabilities": probabilities,
            }
            save_tensors(tensors, folder / "found.safetensors")
            return found.facts()

        stage = self.stages.run(
            name or self.discovery_stage,
            work,
            cache_key=[
                self.fingerprint,
                settings.discovery,
                settings.discovery_training,
                settings.specialist,
                self._shared(),
            ],
        )
        saved = load_file(stage.folder / "found.safetensors")
        subtask = torch.full((len(images),), -1)
        confidence = torch.zeros(len(images))
        subtask[saved["index"]], confidence[saved["index"]] = saved["labels"], saved["confidence"]
        means = [
            float(saved["confidence"][saved["labels"] == k].mean()) if (saved["labels"] == k).any() else 0.0
            for k in range(settings.discovery.subtasks)
        ]
        return Found(subtask, confidence, torch.tensor(means), saved["unlabelled_probabilities"], stage.facts)

    @property
    def discovery_stage(self) -> str:
        """The name of the stage in which sub-tasks are found."""
        found = self.settings.discovery
        return f"discovery-{found.subtasks}-{found.epochs}" + (
            "" if found.assignment == "sinkhorn" else f"-{found.assignment}"
        )

    @property
    def discovery_stages(self) -> list[str]:
        """The names of the stages of `discoveries`."""
        name, again = self.discovery_stage, range(1, self.settings.doubt.discoveries)
        return [name, *(f"{name}-again-{number}" for number in again)]

    @property
    def specialists_stage(self) -> str:
        """The name of the stage in which specialists are trained."""
        return f"specialists-{self.settings.discovery.subtasks}-{self.settings.discovery.epochs}"

    def training_key(self, model: ModelSettings) -> list[Any]:
        """Return all on which the training of a model depends, but for what it is taught."""
        settings = self.settings
        selects = [settings.select_by, settings.fpr]
        return [self.fingerprint, model, settings.training, settings.budget, *selects, self._shared()]

    def _shared(self) -> list[Any]:
        """Return the settings on which every training depends."""
        settings = self.settings
        return [settings.seed, settings.image_size, settings.augmentation, settings.hardware.precision]

    def specialists(self, found: Found, right: Tensor | None = None) -> tuple[Tensor, dict[int, str]]:
        """Train the specialists; return each one's log-odds of acceptable for every row, (N, K), and the failures.

        Args:
            found: the sub-tasks.
            right: the probability that each label is right, by which it counts, (N,); 1 by default.
        """
        settings, images, count = self.settings, self.task.images, self.settings.discovery.subtasks
        weight = weighed(self.task, right)
        after, name = self.discovery_stage, self.specialists_stage

        def work(folder: Path) -> dict[str, Any]:
            trained = train_specialists(
                lambda outputs: self.new(settings.specialist, outputs),
                images.subset,
                found.subtask,
                self.task.labels,
                self.rows("train"),
                images.subset(self.rows("teacher_val")),
                settings.specialists,
                self.plan(folder, "specialist_training"),
                count=count,
                heads=_heads,
                weight=weight,
            )
            if settings.specialists.sharing == "trunk" and isinstance(network := trained.networks[0], ImageClassifier):
                save_model(network, folder / "model")
            everything = images.subset(torch.arange(len(images)))
            save_tensors(
                {"log_odds_NK": trained.logits(everything, settings.hardware)}, folder / "log_odds.safetensors"
            )
            return {"failures": trained.failures}

        stage = self.stages.run(
            name,
            work,
            cache_key=[settings.specialists, settings.specialist_training, settings.specialist, settings.doubt],
            after=[after, *(["doubt"] if right is not None else [])],
        )
        log_odds_NK = load_file(stage.folder / "log_odds.safetensors")["log_odds_NK"]
        return log_odds_NK, {int(k): why for k, why in stage.facts["failures"].items()}

    def selection(self, log_odds_NK: Tensor, failures: dict[int, str]) -> Selection:
        """Judge the specialists on teacher-test."""
        both = self.settings.selection.judged_on == "both"
        rows = self.rows("teacher_val", "teacher_test") if both else self.rows("teacher_test")
        return select(
            log_odds_NK[rows].double().numpy(),
            self.task.labels[rows].numpy(),
            self.settings.selection,
            failures=failures,
            seed=self.settings.seed,
        )

    def fine_tuned(self, model: ModelSettings, name: str = "fine-tuned", label: Tensor | None = None) -> ModelScores:
        """Train a model plainly on the labels: cross-entropy with smoothing at every head.

        Fewer than `FEW` labels select its checkpoint by their likelihood: on features of digits and 80, 150, 300 and 600
        labelled examples that gave an AUROC higher by 0.03, 0.06, 0.02 and 0.02 than their AUROC did. So do fewer than `RARE`
        of a class.

        Args:
            model: any model.
            name: the stage's.
            label: another target in the place of the moderator's, (N,); examples whose target is -1 take no part.
        """
        settings, images = self.settings, self.task.images
        train_rows = self.rows("train")
        target = self.task.labels if label is None else label
        train_rows = train_rows[target[train_rows] >= 0]
        classes = int(target.max()) + 1
        judging = self.task.labels[self.rows("student_val")]
        few = int((judging >= 0).sum()) < FEW or int(torch.bincount(judging[judging >= 0], minlength=2).min()) < RARE

        def train(network: ImageClassifier, folder: Path) -> None:
            heads = ("cls", "dist") if network.distilled else (None,)
            signals = [
                CrossEntropy(smoothing=settings.learning.smoothing, head=head, name=f"label {head or ''}".strip())
                for head in heads
            ]
            examples = WithColumns(images.subset(train_rows), label=target)
            examples, weighed = with_example_weights(examples, signals, self.task.weights, train_rows)
            plan = self.selected(folder, network, name, "likelihood" if few else None)
            fit(network, examples, signals=weighed, plan=plan, weighting=Equal())

        cache_key = [settings.learning.smoothing, target.tolist() if label is not None else None]
        return self.trained(name, model, train, cache_key, classes=classes)

    def features(self, rows: Tensor) -> Tensor:
        """Return what describes these rows: the encoder's features, or what the discriminator's head sees, (n, D)."""
        if isinstance(self.task.images, EncodedTable):
            return self.task.images.features.gather(rows).mean(1)
        discriminator, _ = load_model(self.stages.folder / "stages" / self.discovery_stage)
        return features(discriminator, self.task.images.subset(rows))

    @property
    def feature_std(self) -> Tensor | None:
        """What `features` of an encoder were divided by, (D,); None where there is no encoder."""
        images = self.task.images
        return images.features.std if isinstance(images, EncodedTable) else None

    def trained(
        self,
        name: str,
        model: ModelSettings,
        train: Any,
        cache_key: list[Any],
        *,
        classes: int = 2,
        after: list[str] | None = None,
    ) -> ModelScores:
        """Run a stage that trains a model, and return its scores for every row."""
        settings, images = self.settings, self.task.images

        def work(folder: Path) -> dict[str, Any]:
            network = self.new(model, classes)
            facts = train(network, folder) or {}
            save_model(network, folder / "model")
            if network.distilled:
                test = images.subset(self.rows("test"))
                facts[TOKENS] = token_cosine(network, test, workers=settings.hardware.workers)
            everything = images.subset(torch.arange(len(images)))
            outputs, _ = predict(network, everything, workers=settings.hardware.workers, shared=True)
            save_tensors({"scores": acceptability(outputs)}, folder / "scores.safetensors")
            return facts

        stage = self.stages.run(name, work, cache_key=[self.training_key(model), cache_key], after=after or [])
        return ModelScores(
            load_file(stage.folder / "scores.safetensors")["scores"], stage.folder / "model", stage.facts
        )
