"""Students of other ways of distillation, made of the same trainings: over an assistant, and self-supervised."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from tutelage.generations import FourViews, SSKDSettings, sskd
from tutelage.models import ImageClassifier, ModelSettings
from tutelage.recipes.distill.pipeline import Pipeline, Taught, accuracy
from tutelage.recipes.distill.settings import TeacherSettings
from tutelage.signals import Batch, Outputs
from tutelage.training import Budget


def over_assistant(pipeline: Pipeline, assistant: ModelSettings, heard: Literal["takd", "dgkd"]) -> Taught:
    """Teach an assistant by the pipeline's teachers, and the student by it alone (TAKD), or by it and them (DGKD)."""
    settings, folder = pipeline.settings, pipeline.stages.folder
    teachers = tuple(TeacherSettings(folder=taught.folder) for taught in pipeline.teachers())

    def part(name: str, **changed: Any) -> Pipeline:
        return Pipeline(pipeline.task, replace(settings, **changed), folder / name, pipeline.log)

    between = TeacherSettings(folder=part("assistant", student=assistant, teachers=teachers).student("kd").folder)
    if heard == "takd":
        return part("takd", teachers=(between,)).student("kd")
    return part("dgkd", teachers=(*teachers, between)).student("dropped_teachers")


def self_supervised(pipeline: Pipeline) -> Taught:
    """Teach the student by SSKD, which trains a teacher of its own, as long as the student.

    Its projection is trained for a quarter of the budget, the authors' 60 of 240 epochs.
    """
    settings, train = pipeline.settings, pipeline.rows("train")
    if settings.train_on_held_out:
        train = pipeline.rows("train", "held_out")
    rivals = SSKDSettings(
        label=1 - settings.kd_weight,
        distillation=settings.kd_weight,
        temperature=settings.temperature,
        projection=_quarter(settings.budget),
    )

    def make(folder: Path) -> tuple[ImageClassifier, dict[str, Any]]:
        networks = [pipeline.new(settings.teachers[0].model, "teacher"), pipeline.new(settings.student, "student")]

        def new(place: int) -> FourViews:
            network = networks[place]
            features, head = _Features(network), network.get_submodule(network.heads[0])
            return FourViews(features, head, network.backbone.num_features, rivals.width)

        plan = pipeline.plan(folder, "sskd", settings.budget, settings.select)
        if settings.select:
            plan = replace(plan, select_by=_accuracy)
        student = sskd(new, pipeline.task.images.subset(train), rivals, plan).student
        return networks[1], {"steps": student.steps}

    cache_key = [settings.teachers[0].model, settings.student, settings.budget, settings.select, rivals, train.tolist()]
    return pipeline.judged("student-sskd", make, [*cache_key, *pipeline.shared_key()])


class _Features(nn.Module):
    """What a classifier's head sees."""

    def __init__(self, model: ImageClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, input: Tensor) -> Tensor:
        return self.model.features(input)


def _accuracy(outputs: Outputs, batch: Batch) -> float:
    assert not isinstance(outputs, Tensor)
    return accuracy(outputs["logits"], batch)


def _quarter(budget: Budget) -> Budget:
    if budget.steps is not None:
        return Budget(steps=max(1, budget.steps // 4))
    return Budget(epochs=max(1, (budget.epochs or 0) // 4))
