"""The stages from a task to a model: discovery, specialists, selection, student, and the baselines beside them.

Every method returns plain tensors and leaves its work in a stage of its own, so that whatever shares a stage (the rows of
a table, a run that was killed) finds it done.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from tutelage.data import TensorData, WithColumns
from tutelage.data.augment import augmentation
from tutelage.metrics import calibrate, label_errors
from tutelage.models import NOT_HEARD, Committee, ImageClassifier, ModelSettings, build, load_model, save_model
from tutelage.models.features import EncoderDoor
from tutelage.recipes.base import plan_of
from tutelage.recipes.encoding import augmentation_of, whole
from tutelage.recipes.moderation.choice import Choice, choose
from tutelage.recipes.moderation.settings import ModerationSettings
from tutelage.recipes.moderation.task import ModerationTask
from tutelage.signals import BinaryCrossEntropy, CrossEntropy
from tutelage.subtasks import (
    Selection,
    acceptability,
    discover,
    joint_log_odds,
    prepare,
    select,
    selects,
    teach,
    train_specialists,
    two_way,
)
from tutelage.training import Budget, Log, Optimization, Plan, Stages, fit, predict, seeds
from tutelage.weighting import Equal, Partition, Weighting, registry
from tutelage.weighting.settings import options_of

WEIGHTS = "weights.parquet"
ENCODER_BUDGET = Budget(steps=600)
ENCODER_TRAINING = Optimization(
    lr=2e-3, weight_decay=0.02, schedule="cosine", warmup=0.1, clip_norm=2.0, batch_size=128
)


@dataclass(frozen=True)
class Found:
    """The sub-tasks of a task; tensors of N have one row for every row of the image table.

    Attributes:
        subtask: the sub-task of each defective training example, -1 elsewhere, (N,).
        confidence: the discriminator's probability of it, 0 elsewhere, (N,).
        mean_confidence: of each sub-task, (K,).
        unlabelled_probabilities: the discriminator's for the unlabelled rows, (U, K).
        facts: plain numbers for a report.
    """

    subtask: Tensor
    confidence: Tensor
    mean_confidence: Tensor
    unlabelled_probabilities: Tensor
    facts: dict[str, Any]


@dataclass(frozen=True)
class ModelScores:
    """A trained model's judgement.

    Attributes:
        scores: the probability of acceptable for every row, (N,).
        folder: the model's.
        facts: plain numbers for a report.
    """

    scores: Tensor
    folder: Path
    facts: dict[str, Any]

    @property
    def log_odds(self) -> NDArray[np.float64]:
        """The log-odds of acceptable, finite, (N,)."""
        return torch.logit(self.scores.double(), eps=1e-15).numpy()


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

    def start(self, model: ModelSettings) -> str | None:
        """Return the weights from which a model starts: its own setting, or the task's stand-in for ImageNet."""
        encoded = self.task.images.num_features is not None  # which needs no further start
        if model.pretrained is not None or self.task.pretraining is None or encoded:
            return model.pretrained
        settings = self.settings

        def work(folder: Path) -> dict[str, Any]:
            assert self.task.pretraining is not None
            images, labels = self.task.pretraining()
            classes = labels.shape[1] if labels.dim() == 2 else int(labels.max()) + 1
            kind = BinaryCrossEntropy if labels.dim() == 2 else CrossEntropy
            with seeds.fixed(0, model.name):
                network = build(model.spec(classes, settings.image_size))
            heads = ("cls", "dist") if network.distilled else (None,)
            fit(
                network,
                TensorData(input=images, label=labels),
                signals=[kind(head=head, name=f"label {head or ''}".strip()) for head in heads],
                plan=Plan(
                    ENCODER_BUDGET,
                    ENCODER_TRAINING,
                    augment=augmentation(settings.augmentation),
                    hardware=settings.hardware,
                    out=folder,
                    log=self.log,
                    name=f"encoder {model.name}",
                ),
            )
            save_model(network, folder)
            return {"model": model.name}

        name = f"encoder-{model.name}"
        training = [ENCODER_BUDGET, ENCODER_TRAINING]
        cache_key = [model, settings.image_size, settings.augmentation, *training, self.task.family]
        return str(self.encoders.run(name, work, cache_key=cache_key).folder / "model.safetensors")

    def new(self, model: ModelSettings, classes: int) -> ImageClassifier:
        """Return a fresh model at its starting weights."""
        weights = self.start(model)
        with seeds.fixed(self.settings.seed, "init", model.name):
            return build(model.spec(classes, self.settings.image_size, self.task.images.num_features), weights)

    def plan(self, folder: Path, training: str = "training") -> Plan:
        """Return how a model is trained in a folder, with the optimisation of this name in the settings."""
        settings = self.settings
        found = getattr(settings, training)
        augment = augmentation_of(settings)
        return plan_of(settings, folder, self.log, optimization=found, optimization_name=training, augment=augment)

    def selected(self, folder: Path, network: ImageClassifier, name: str) -> Plan:
        """Return how a model is trained of which student-val selects the checkpoint."""
        settings = self.settings
        return replace(
            self.plan(folder),
            heads=network.heads,
            val=self.task.images.subset(self.rows("student_val")),
            select_by=selects(settings.select_by, settings.fpr),
            name=name,
        )

    def discovery(self) -> Found:
        """Find the sub-tasks of the defective training examples."""
        settings, images = self.settings, self.task.images
        train = self.rows("train")
        defects, acceptable = train[self.task.labels[train] == 0], train[self.task.labels[train] == 1]
        unlabelled = self.rows("unlabelled")
        name = self._discovery_stage()

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
            save_file(tensors, folder / "found.safetensors")
            return found.facts()

        stage = self.stages.run(
            name,
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

    def _discovery_stage(self) -> str:
        found = self.settings.discovery
        return f"discovery-{found.subtasks}-{found.epochs}" + (
            "" if found.assignment == "sinkhorn" else f"-{found.assignment}"
        )

    def _specialists_stage(self) -> str:
        return f"specialists-{self.settings.discovery.subtasks}-{self.settings.discovery.epochs}"

    def _shared(self) -> list[Any]:
        """Return the settings on which every training depends."""
        settings = self.settings
        return [settings.seed, settings.image_size, settings.augmentation, settings.hardware.precision]

    def held_out(self) -> Tensor:
        """Return the labelled rows that train no model: they select checkpoints and specialists, calibrate, and choose."""
        rows = self.rows("teacher_val", "teacher_test", "student_val")
        return rows[self.task.labels[rows] >= 0]

    def teacher(self, log_odds_NK: Tensor, selection: Selection) -> Tensor:
        """Return what the kept specialists say together, log-odds of acceptable, (N,); NaN where nobody is kept."""
        kept_K = torch.from_numpy(selection.kept)
        return joint_log_odds(log_odds_NK, torch.from_numpy(selection.operating_point), kept_K)

    def choice(self, fine_tuned: ModelScores, student: ModelScores | None, teacher: Tensor) -> Choice:
        """Choose what is served: a model, or several whose log-odds are averaged.

        Args:
            fine_tuned: the baseline.
            student: taught by the specialists, or None where none was kept.
            teacher: the specialists' own answer, which is a candidate where one network gives it.
        """
        parts = {"fine_tuned": fine_tuned.log_odds}
        if student is not None:
            parts["student"] = student.log_odds
            if self.settings.specialists.sharing == "trunk" and torch.isfinite(teacher).all():
                parts["specialists"] = teacher.double().numpy()
        labels, judged = self.task.labels.numpy(), self.rows("student_val")
        judged = judged[self.task.labels[judged] >= 0]
        return choose(parts, labels, self.held_out().numpy(), judged.numpy())

    def served(self, choice: Choice, selection: Selection) -> Committee:
        """Return the chosen model, calibrated."""
        folders = {"fine_tuned": "fine-tuned", "student": "student", "specialists": self._specialists_stage()}
        chosen = choice.served.members
        stages = self.stages.folder / "stages"
        networks = [load_model(stages / folders[name] / "model")[0].cpu() for name in chosen]
        door = whole(networks[0], self.task.images).pixels
        committee = Committee(
            networks, [name == "specialists" for name in chosen], door if isinstance(door, EncoderDoor) else None
        )
        weights, offset = choice.served.committee()
        committee.weight.copy_(torch.tensor(weights))
        committee.offset.fill_(offset)
        if "specialists" in chosen:
            heard = torch.from_numpy(selection.kept & np.isfinite(selection.operating_point))
            points = torch.from_numpy(selection.operating_point).float()
            committee.points(chosen.index("specialists")).copy_(torch.where(heard, points, NOT_HEARD))
        return committee.eval()

    def specialists(self, found: Found) -> tuple[Tensor, dict[int, str]]:
        """Train the specialists; return each one's log-odds of acceptable for every row, (N, K), and the failures."""
        settings, images, count = self.settings, self.task.images, self.settings.discovery.subtasks
        after, name = self._discovery_stage(), self._specialists_stage()

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
            )
            if settings.specialists.sharing == "trunk" and isinstance(network := trained.networks[0], ImageClassifier):
                save_model(network, folder / "model")
            everything = images.subset(torch.arange(len(images)))
            save_file({"log_odds_NK": trained.logits(everything, settings.hardware)}, folder / "log_odds.safetensors")
            return {"failures": trained.failures}

        stage = self.stages.run(
            name,
            work,
            cache_key=[settings.specialists, settings.specialist_training, settings.specialist],
            after=[after],
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

    def student(self, found: Found, log_odds_NK: Tensor, selection: Selection, name: str = "student") -> ModelScores:
        """Teach the student what the kept specialists know."""
        kept_K = torch.from_numpy(selection.kept)
        settings, images = self.settings, self.task.images
        after = [self._specialists_stage()]
        joint, errors = self.teacher(log_odds_NK, selection), None
        if settings.lesson.calibrated and torch.isfinite(joint).all():
            after.append("fine-tuned")
            joint, errors = self._calibrated(joint, self.fine_tuned(settings.student))
        lesson = prepare(
            self.task.labels,
            found.subtask,
            kept_K,
            joint,
            self.rows("train"),
            settings.lesson,
            errors=errors,
            precision_K=torch.from_numpy(selection.local_precision),
            unlabelled=self.rows("unlabelled"),
            unlabelled_probabilities=found.unlabelled_probabilities,
        )
        weighting, options = settings.weighting, {}
        if weighting is not None:
            fine_tuned = self.fine_tuned(settings.student).scores
            lesson = replace(lesson, fine_tuned_logits=two_way(torch.logit(fine_tuned, eps=1e-6).float()))
            options = options_of(settings, weighting)
            after = [*dict.fromkeys([*after, "fine-tuned"])]
        order = found.mean_confidence
        if settings.learning.curriculum in ("pc", "apc"):
            order = self.performance(log_odds_NK)

        def train(network: ImageClassifier, folder: Path) -> dict[str, Any]:
            made = (
                None
                if weighting is None
                else weighting_of(settings, weighting, network, len(images), len(lesson.sources))
            )
            fitted = teach(
                network,
                lesson,
                images.subset(lesson.rows),
                settings.learning,
                self.selected(folder, network, name),
                confidence_K=order,
                log_odds_NK=log_odds_NK if settings.lesson.teacher == "own" else None,
                weighting=made,
                held_out=images.subset(self.rows("teacher_val", "teacher_test")) if made and made.learns else None,
            )
            if made is None:
                return lesson.left_out
            made.export(folder / WEIGHTS, lesson.sources, self.task.table["id"].tolist())
            history = fitted.weighting_history
            learned = {"learned": history[-1] if history else {}, "modules": made.module_names()}
            return {**lesson.left_out, "weighting": {"name": weighting, "sources": lesson.sources, **learned}}

        cache_key = [settings.lesson, settings.learning, settings.selection, kept_K.tolist()]
        cache_key += [weighting, options, settings.adapt if weighting else None]
        return self.trained(name, settings.student, train, cache_key, after=after)

    def _calibrated(self, joint: Tensor, fine_tuned: ModelScores) -> tuple[Tensor, tuple[float, float]]:
        """Return the joint teacher's calibrated log-odds, and the labels' error rates, both by held-out labels."""
        rows = self.held_out().numpy()
        labels, raw = self.task.labels.numpy()[rows], joint.double().numpy()
        told = [
            calibrate(each[rows], labels, errors="none").log_odds(each[rows]) for each in (raw, fine_tuned.log_odds)
        ]
        errors = label_errors([*told, sum(told)], labels)
        return torch.from_numpy(calibrate(raw[rows], labels, errors=errors).log_odds(raw)).to(joint), errors

    def performance(self, log_odds_NK: Tensor) -> Tensor:
        """Return each specialist's NPV on teacher-val, (K,): what the performance curriculum goes by."""
        rows = self.rows("teacher_val")
        on_val = replace(self.settings.selection, rule="npv", threshold=1.0)
        verdict = select(log_odds_NK[rows].double().numpy(), self.task.labels[rows].numpy(), on_val)
        return torch.from_numpy(verdict.npv).nan_to_num(0.0)

    def fine_tuned(self, model: ModelSettings, name: str = "fine-tuned", label: Tensor | None = None) -> ModelScores:
        """Train a model plainly on the labels: cross-entropy with smoothing at every head.

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

        def train(network: ImageClassifier, folder: Path) -> None:
            heads = ("cls", "dist") if network.distilled else (None,)
            signals = [
                CrossEntropy(smoothing=settings.learning.smoothing, head=head, name=f"label {head or ''}".strip())
                for head in heads
            ]
            examples = WithColumns(images.subset(train_rows), label=target)
            fit(network, examples, signals=signals, plan=self.selected(folder, network, name), weighting=Equal())

        cache_key = [settings.learning.smoothing, target.tolist() if label is not None else None]
        return self.trained(name, model, train, cache_key, classes=classes)

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
            facts = train(network, folder)
            save_model(network, folder / "model")
            everything = images.subset(torch.arange(len(images)))
            outputs, _ = predict(network, everything, workers=settings.hardware.workers, shared=True)
            save_file({"scores": acceptability(outputs)}, folder / "scores.safetensors")
            return facts or {}

        common = [
            self.fingerprint,
            model,
            settings.training,
            settings.budget,
            settings.select_by,
            settings.fpr,
            self._shared(),
        ]
        stage = self.stages.run(name, work, cache_key=[common, cache_key], after=after or [])
        return ModelScores(
            load_file(stage.folder / "scores.safetensors")["scores"], stage.folder / "model", stage.facts
        )


def weighting_of(
    settings: ModerationSettings, name: str, network: ImageClassifier, images: int, sources: int
) -> Weighting:
    """Return what weighs the sources of a student."""
    with seeds.fixed(settings.seed, "weighting"):  # of which one may begin with a random network
        return registry.build(
            name,
            model=network,
            num_examples=images,
            num_signals=sources,
            divide=lambda level: Partition.of(network, level, heads=[]),  # several sources reach each token's head
            **options_of(settings, name),
        )
