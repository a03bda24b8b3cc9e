"""The last block of the encoder learns the primary task with the networks that are served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tutelage.data.encoded import EncodedTable
from tutelage.models import save_ensemble
from tutelage.models.features import FeatureDoor, feature_door
from tutelage.recipes.auxiliary.judgement import Outcomes, answer, outcomes, selected_by
from tutelage.recipes.auxiliary.pipeline import Learned, Pipeline, ensemble
from tutelage.recipes.auxiliary.task import AuxiliaryTask, present
from tutelage.recipes.served import Served, gain_of
from tutelage.recipes.unfreezing import LEVEL, Unfrozen, half_label, unfrozen
from tutelage.signals import CrossEntropy, Outputs, Scaled, Signal, SquaredError
from tutelage.training import predict


@dataclass(frozen=True)
class Models:
    """The trainings by method, which of them is served, and what its encoder's last block has learned."""

    found: dict[str, Learned]
    choice: Served
    unfrozen: Unfrozen | None = None


def door_of(problem: AuxiliaryTask) -> FeatureDoor | None:
    """Return by what networks of features see images; None for networks of images or fields."""
    if not isinstance(problem.images, EncodedTable):
        return None
    features = problem.images.features
    return feature_door(features.encoder, features.mean, features.std)


def unfreeze(pipeline: Pipeline, models: Models) -> Models:
    """Train the last block of the encoder with all networks of the served model; it is kept if validation says it is better.

    They learn the primary task alone, of each example the mean of its label and of what they said before: see `half_label`. For
    numbers it is the mean of both numbers.
    """
    problem, settings, primary = pipeline.problem, pipeline.settings, pipeline.problem.primary
    best = models.found[models.choice.chosen]
    networks = best.members or (best,)
    images = problem.images
    assert images is not None
    frozen = ensemble(problem, settings, networks)  # which reads features, as they are there
    told, _ = predict(frozen, images.subset(torch.arange(len(problem.split))), shared=True)
    signal, target = _lesson(pipeline, told)
    train = problem.rows("train", "held_out")
    made = unfrozen(
        ensemble(problem, settings, networks, door_of(problem)),
        "members",
        images,
        train[present(primary, problem.judged_by()[train])],
        target,
        signal,
        save_ensemble,
        settings=settings,
        stages=pipeline.stages,
        log=pipeline.log,
    )
    after = {part: _outcomes(pipeline, made.logits, part) for part in ("test", "val")}
    gain = gain_of(lambda found: selected_by(primary, found), [after["val"]], [best.on_val], (), settings.seed, LEVEL)
    made = replace(made, gain=gain, judged_on=len(after["val"]), criterion=models.choice.criterion)
    if not made.kept:
        return replace(models, unfrozen=made)
    value = selected_by(primary, after["val"])
    learned = replace(best, outcomes=after["test"], on_val=after["val"], val=value, folder=made.folder)
    return Models({**models.found, models.choice.chosen: learned}, models.choice, made)


def _lesson(pipeline: Pipeline, told: Outputs) -> tuple[Signal, Tensor]:
    """Return the loss, and of each example the mean of its label and of what the frozen networks say, or that alone."""
    problem, primary = pipeline.problem, pipeline.problem.primary
    labels = problem.judged_by()
    assert isinstance(told, Mapping)
    said = told[primary.name]
    if primary.kind == "regression":
        said = said[:, 0].to(labels.dtype)
        target = torch.where(labels.isnan(), said, (labels + said) / 2)
        error = SquaredError("target", head=primary.name, name="half label")
        return Scaled(error, problem.standard(primary)[1] ** -2), target
    return CrossEntropy("target", head=primary.name, name="half label"), half_label(labels, said.exp())


def _outcomes(pipeline: Pipeline, logits: Tensor, part: str) -> Outcomes:
    problem, primary = pipeline.problem, pipeline.problem.primary
    rows = problem.rows(part)
    answers = answer({primary.name: logits[rows]}, primary)
    return outcomes(answers, problem.judged_by()[rows], primary.kind, pipeline.classes)
