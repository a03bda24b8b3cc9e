"""The semi-supervised rows of the moderation table: SWSL and Noisy Student on the near-domain images without a label."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from tutelage.generations import (
    Course,
    NoisyStudentSettings,
    SelfTrainingSettings,
    noisy_student,
    self_training,
)
from tutelage.models import ImageClassifier
from tutelage.recipes.base import ModelSettings
from tutelage.recipes.moderation.pipeline import Pipeline
from tutelage.subtasks import selects

STUDENTS = 3


def swsl(model: ModelSettings) -> Callable[[Pipeline], Tensor]:
    """Return what trains SWSL on a task: each class gets a quarter of the unlabelled images, those of its own surest."""

    def scores(pipeline: Pipeline) -> Tensor:
        settings, images = pipeline.settings, pipeline.task.images
        labelled, unlabelled = pipeline.rows("train"), pipeline.rows("unlabelled")
        chosen = SelfTrainingSettings(max(1, len(unlabelled) // 4), 1, smoothing=settings.learning.smoothing)

        def train(network: ImageClassifier, folder: Path) -> None:
            def new(generation: int) -> ImageClassifier:
                return network if generation == 1 else pipeline.new(model, 2)

            self_training(new, images.subset, labelled, unlabelled, chosen, _course(pipeline, network, folder))

        return pipeline.trained("swsl", model, train, [chosen]).scores

    return scores


def noisy(model: ModelSettings) -> Callable[[Pipeline], Tensor]:
    """Return what trains Noisy Student on a task: three students of the teacher's size, on soft labels of sure images."""

    def scores(pipeline: Pipeline) -> Tensor:
        images = pipeline.task.images
        labelled, unlabelled = pipeline.rows("train"), pipeline.rows("unlabelled")
        chosen = NoisyStudentSettings(STUDENTS, confidence=0.5, smoothing=pipeline.settings.learning.smoothing)

        def train(network: ImageClassifier, folder: Path) -> None:
            def new(generation: int) -> ImageClassifier:
                return network if generation == STUDENTS else pipeline.new(model, 2)

            noisy_student(new, images.subset, labelled, unlabelled, chosen, _course(pipeline, network, folder))

        return pipeline.trained("noisy-student", model, train, [chosen]).scores

    return scores


def _course(pipeline: Pipeline, network: ImageClassifier, folder: Path) -> Course:
    settings = pipeline.settings
    return Course(
        settings.budget,
        settings.training,
        network.heads,
        val=pipeline.task.images.subset(pipeline.rows("student_val")),
        select_by=selects(settings.select_by, settings.fpr),
        **pipeline._common(folder),
    )
