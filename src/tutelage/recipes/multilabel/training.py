"""One model by one method: what is trained in a stage, and what the stage leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tutelage.data import WithColumns
from tutelage.data.sampling import Rebalanced, fraction
from tutelage.files import save_tensors
from tutelage.generations import iterate, noisy_student
from tutelage.generations.schedule import Language, Passing
from tutelage.models import ImageClassifier, build, joint_logits, save_model
from tutelage.models.heads import expect_one_label
from tutelage.recipes.input import augmentation_of
from tutelage.recipes.multilabel.settings import ONE_LABEL, MultilabelSettings, plain_of
from tutelage.recipes.multilabel.task import MultilabelTask
from tutelage.signals import BinaryCrossEntropy, CrossEntropy, Distillation, EarlyLearning
from tutelage.training import Log, Plan, Stages, fit, predict, seeds
from tutelage.weighting import Fixed

ITERATED = ("mile", "hard", "soft")
"""Methods in generations of k_t and k_s steps."""


@dataclass(frozen=True)
class TrainedCandidate:
    """What a stage leaves behind.

    Attributes:
        name: the stage's.
        settings: what it was trained with.
        scores_NC: each image's probability of each class.
        folder: of the model.
        first_said: the generation in which a teacher first said a class of an image, (N, C) int16, -1 for never, or None.
        coverage: mean number of classes that the teacher of each generation said of an image.
    """

    name: str
    settings: MultilabelSettings
    scores_NC: Tensor
    folder: Path
    first_said: Tensor | None
    coverage: list[float]


def train(task: MultilabelTask, settings: MultilabelSettings, stages: Stages, log: Log) -> TrainedCandidate:
    """Train a model by ``settings.method`` in a stage of its own, and return what it says of every image."""
    name = stage_name(settings)
    rows = training_rows(task, settings)
    everything = task.images.subset(torch.arange(len(task.images)))

    def work(folder: Path) -> dict[str, Any]:
        model = new_model(task, settings)
        coverage, said = _train(model, task, settings, rows, folder, log, name)
        save_model(model, folder / "model")
        outputs, _ = predict(model, everything, workers=settings.hardware.workers, shared=True)
        logits_NC = joint_logits(outputs)
        if not torch.isfinite(logits_NC).all():
            raise ValueError(f"{name}: what the trained model says is not finite; take a lower training.lr")
        scores_NC = logits_NC.softmax(1) if settings.method in ONE_LABEL else logits_NC.sigmoid()
        tensors = {"scores": scores_NC.contiguous()} | ({} if said is None else {"first_said": said})
        save_tensors(tensors, folder / "scores.safetensors")
        return {"coverage": coverage}

    relevant = replace(settings, threshold=None, unfreeze=None, choose_by="given", val=0.1, test=0.2)
    relevant = replace(relevant, search=type(settings.search)())
    stage = stages.run(name, work, cache_key=[task.fingerprint(), relevant])
    saved = load_file(stage.folder / "scores.safetensors")
    coverage = stage.facts["coverage"]
    return TrainedCandidate(name, settings, saved["scores"], stage.folder / "model", saved.get("first_said"), coverage)


def stage_name(settings: MultilabelSettings) -> str:
    """Return a stage's name: the method, and what the generations are made of."""
    if settings.method not in ITERATED:
        return settings.method
    it = settings.iterated
    threshold = f"-rho{it.rho:g}" if settings.method == "mile" else ""
    return f"{settings.method}-{it.variant}{threshold}-kt{it.interaction}-ks{it.imitation}"


def candidates(settings: MultilabelSettings) -> list[MultilabelSettings]:
    """Return plain training, and the settings that a search tries; these alone where it tries none."""
    search, it = settings.search, settings.iterated
    plain = plain_of(settings.method)
    first = [] if plain == settings.method else [replace(settings, method=plain)]
    if settings.method != "mile":
        return [*first, settings]
    tried = product(
        search.rhos or (it.rho,), search.interactions or (it.interaction,), search.imitations or (it.imitation,)
    )
    return first + [
        replace(settings, iterated=replace(it, rho=rho, interaction=interaction, imitation=imitation))
        for rho, interaction, imitation in tried
    ]


def training_rows(task: MultilabelTask, settings: MultilabelSettings) -> Tensor:
    """Return the labelled rows that are trained on."""
    rows = task.images.rows("train")
    rows = rows[task.given_NC[rows].any(1)]
    if settings.share < 1:
        rows = rows[fraction(task.images.labels[rows], settings.share, settings.seed)]
    return rows


def balanced(labels_N: Tensor, settings: MultilabelSettings) -> Passing:
    """Return passes in which rare classes come oftener, drawn anew for each; what has no label comes once in each."""

    def passing(places: Tensor, number: int) -> Tensor:
        labelled = labels_N[places] >= 0
        own, others = places[labelled], places[~labelled]
        order = Rebalanced(labels_N[own], settings.seed, settings.rebalance)(number)
        mixed = torch.randperm(len(places), generator=seeds.generator(settings.seed, "balanced", number))
        return torch.cat([own[order], others])[mixed]

    return passing


def new_model(task: MultilabelTask, settings: MultilabelSettings) -> ImageClassifier:
    """Return a fresh model; its sigmoids start at one label an image."""
    with seeds.fixed(settings.seed, "init", settings.model.name):
        spec = settings.model.spec(len(task.classes), settings.image_size, task.images.num_features)
        model = build(spec, settings.model.pretrained)
    if settings.self_supervised is not None:
        from tutelage.models.self_supervised import load_self_supervised

        layout = load_self_supervised(model.backbone, Path(settings.self_supervised))
        if layout == "simclr_v2":  # it saw pixels in [0, 1]
            model.pixels.mean.zero_()
            model.pixels.std.fill_(1.0)
    if settings.method not in ONE_LABEL:
        expect_one_label(model, model.heads)
    return model


def teacher_settings(settings: MultilabelSettings) -> MultilabelSettings:
    """Return the settings of the model that a distilled one learns from."""
    own, seed = settings.distilled, seeds.derive(settings.seed, "teacher")
    if own.teacher is None:
        return replace(settings, seed=seed)
    return replace(settings, seed=seed, model=own.teacher, self_supervised=own.self_supervised)


def given_labels(task: MultilabelTask) -> tuple[str, Callable[[Tensor], Any]]:
    """Return the batches' key of the given labels, and the function that makes the data set of some rows."""
    if not task.several:
        return "label", task.images.subset
    given_NC = task.given_NC.float()
    given_NC[~task.given_NC.any(1)] = -1.0
    return "given", lambda rows: WithColumns(task.images.subset(rows), given=given_NC)


def _train(
    model: ImageClassifier,
    task: MultilabelTask,
    settings: MultilabelSettings,
    rows: Tensor,
    folder: Path,
    log: Log,
    name: str,
) -> tuple[list[float], Tensor | None]:
    plan = Plan(
        settings.budget,
        settings.training,
        model.heads,
        augment=augmentation_of(settings),
        seed=settings.seed,
        hardware=settings.hardware,
        out=folder,
        log=log,
        name=name,
        optimization_name="training",
    )
    count, classes = task.given_NC.shape
    target, examples = given_labels(task)
    together = torch.cat([rows, task.images.rows("unlabelled")])
    passing = balanced(task.images.labels[together], settings) if settings.rebalance > 0 else None
    if settings.method == "distilled":
        teacher = new_model(task, teacher_settings(settings))
        first, second = (
            replace(plan.named(name), heads=own.heads, sampler=passing and partial(passing, torch.arange(len(places))))
            for name, own, places in (("teacher", teacher, rows), ("student", model, together))
        )
        fit(teacher, examples(rows), signals=[CrossEntropy(target)], plan=first)
        said = Distillation(teacher, temperature=settings.distilled.temperature)
        fit(model, examples(together), signals=[said], plan=second)
        return [], None
    if settings.method == "noisy_student":
        others = [
            new_model(task, replace(settings, seed=seeds.derive(settings.seed, "student", number)))
            for number in range(settings.noisy_student.students)
        ]
        noisy_student(
            lambda number: [*others, model][number],
            task.images.subset,
            rows,
            task.images.rows("unlabelled"),
            settings.noisy_student,
            plan,
        )
        return [], None
    if settings.method in ("mile", "hard", "soft"):
        language: Language = "sets" if settings.method == "mile" else settings.method
        iterated = replace(settings.iterated, language=language)
        found = iterate(
            model,
            examples(together),
            iterated,
            plan,
            labelled=torch.arange(len(rows)),
            target=target,
            remember=(count, classes),
            passing=passing,
        )
        return found.coverage, found.first_said
    if passing is not None:
        plan = replace(plan, sampler=partial(passing, torch.arange(len(rows))))
    if settings.method == "elr":
        early = settings.early_learning
        signals = [CrossEntropy(target), EarlyLearning(count, classes, beta=early.beta)]
        fit(model, examples(rows), signals=signals, plan=plan, weighting=Fixed([1.0, early.weight]))
    else:
        signal = BinaryCrossEntropy(target) if settings.method == "sigmoid" else CrossEntropy(target)
        fit(model, examples(rows), signals=[signal], plan=plan)
    return [], None
