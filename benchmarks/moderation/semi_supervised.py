"""The semi-supervised rows of the moderation table: SWSL and Noisy Student on the near-domain images without a label."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from tutelage.generations import (
    NoisyStudentSettings,
    SelfTrainingSettings,
    noisy_student,
    self_training,
)
from tutelage.models import ImageClassifier, ModelSettings
from tutelage.recipes.moderation.pipeline import Pipeline

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

            self_training(new, images.subset, labelled, unlabelled, chosen, pipeline.selected(folder, network, ""))

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

            noisy_student(new, images.subset, labelled, unlabelled, chosen, pipeline.selected(folder, network, ""))

        return pipeline.trained("noisy-student", model, train, [chosen]).scores

    return scores
