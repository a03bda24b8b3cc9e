"""Class-incremental learning with labels that are refined later (IIRC): the protocol, its baselines, and MILe in each task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tutelage.checks import check
from tutelage.generations.chain import Relabelled
from tutelage.generations.iterated import iterate
from tutelage.generations.schedule import IteratedSettings
from tutelage.metrics import pw_jaccard
from tutelage.models.heads import grow_head
from tutelage.signals import BinaryCrossEntropy
from tutelage.training import Budget, Plan, fit, predict, seeds


@dataclass(frozen=True)
class Task:
    """One task of the stream: new classes, and images with one label each out of them, whatever else they show.

    Attributes:
        classes: the classes that it introduces.
        rows: its images, (n,).
        labels: the one label that each is given, (n,).
    """

    classes: tuple[int, ...]
    rows: Tensor
    labels: Tensor


@dataclass(frozen=True)
class IncrementalSettings:
    """How a stream of tasks is learned.

    Args:
        method: finetune, on the task's images alone, or replay, with a few images of each earlier class.
        buffer: Images that are kept of each class, with the label that they had.
        threshold: A class belongs to the prediction where its sigmoid is above it.
        first: Budget of the first task; the plan's where it is not given. The paper takes 140 epochs, and then 70.
        iterated: With it each task is learned by iterated learning.
    """

    method: Literal["finetune", "replay"] = "replay"
    buffer: int = 20
    threshold: float = 0.5
    first: Budget | None = None
    iterated: IteratedSettings | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        check(self, buffer="[1, inf)", threshold="[0, 1)")


@dataclass(frozen=True)
class Incremental:
    """What was learned of a stream.

    Attributes:
        model: after the last task.
        after: pw-JS over all classes seen so far, after each task.
        by_task: [j][k], pw-JS after task j on the images that have a class of task k, for k up to j.
    """

    model: nn.Module
    after: list[float]
    by_task: list[list[float]]


def refining_tasks(
    truth_NC: Tensor,
    parent_of: Mapping[int, int],
    tasks: Sequence[Sequence[int]],
    *,
    coarse: float = 0.6,
    fine: float = 0.6,
    seed: int = 0,
) -> list[Task]:
    """Divide images among tasks as IIRC does: a sub-class's image is met under its super-class's name, under its own, or both.

    Args:
        truth_NC: all labels of the training images, bool: a sub-class and its parent, or a class without any.
        parent_of: the super-class of each sub-class.
        tasks: the classes that each task introduces; a super-class comes before its sub-classes.
        coarse: share of a sub-class's images that are met with the super-class's label.
        fine: share that are met with their own; images of both shares are met twice.
        seed: of the draws.

    Raises:
        ValueError: a class that comes twice, or before its super-class, or shares that leave images out.

    Source: Abdelsalam et al., *IIRC: Incremental Implicitly-Refined Classification*, CVPR 2021, section 3.
    """
    if coarse + fine < 1:
        raise ValueError(f"coarse={coarse} and fine={fine} leave images out; they must sum to at least 1")
    order = [number for classes in tasks for number in classes]
    if twice := sorted({number for number in order if order.count(number) > 1}):
        met = [at for at, classes in enumerate(tasks) for number in classes if number == twice[0]]
        raise ValueError(
            f"tasks introduce class {twice[0]} in tasks {', '.join(map(str, met))}; name it in the first one alone"
        )
    place = {number: at for at, classes in enumerate(tasks) for number in classes}
    for child, parent in parent_of.items():
        if child in place and parent in place and place[parent] >= place[child]:
            raise ValueError(f"class {child} comes in task {place[child]}, not after its super-class {parent}")
    shares: dict[int, tuple[Tensor, Tensor]] = {}
    for child in sorted(set(parent_of)):
        members = truth_NC[:, child].nonzero().squeeze(1)
        members = members[torch.randperm(len(members), generator=seeds.generator(seed, "refining", child))]
        count = len(members)
        shares[child] = members[: round(coarse * count)], members[count - round(fine * count) :]
    found = []
    for classes in tasks:
        rows, labels = [], []
        for number in classes:
            if number in parent_of:
                own = shares[number][1]
            else:
                children = [child for child, parent in parent_of.items() if parent == number]
                bare = truth_NC[:, number].clone()
                for child in children:
                    bare &= ~truth_NC[:, child]
                own = torch.cat([bare.nonzero().squeeze(1), *(shares[child][0] for child in children)])
            rows.append(own.sort().values)
            labels.append(torch.full((len(own),), number))
        found.append(Task(tuple(classes), torch.cat(rows), torch.cat(labels)))
    return found


def learn_incrementally(
    model: nn.Module,
    head: str,
    tasks: Sequence[Task],
    examples: Callable[[Tensor], Any],
    test: Any,
    truth_NC: Tensor,
    settings: IncrementalSettings,
    plan: Plan,
) -> Incremental:
    """Learn the tasks one after another with a head that grows, and judge after each.

    The loss is binary cross-entropy over the classes seen so far, its mean. An image is labelled with the one class that its
    task names; the others count as absent, which is what MILe's pseudo-labels undo.

    Args:
        model: its head has the first task's classes, in the order of the stream; trained in place.
        head: the name of its last linear layer.
        tasks: the stream.
        examples: ``examples(rows)`` is the data set of these rows.
        test: the test images; their ``index`` is a row of ``truth_NC``.
        truth_NC: all labels of the test's images, bool.
        settings: the method.
        plan: what the trainings share; its budget is one task's.

    Source: as `refining_tasks`, sections 4 and 5.
    """
    order: list[int] = []
    kept_rows, kept_labels = torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    after, by_task = [], []
    for number, task in enumerate(tasks):
        order += task.classes
        own = plan.named(f"task-{number}")
        if number == 0 and settings.first is not None:
            own = replace(own, budget=settings.first)
        with seeds.fixed(plan.seed, "head", number):
            grow_head(model, head, len(order))
        rows, labels = torch.cat([task.rows, kept_rows]), torch.cat([task.labels, kept_labels])
        given = (labels[:, None] == torch.tensor(order)).float()
        train = Relabelled(examples(rows), given=given)
        if settings.iterated is None:
            fit(model, train, signals=[BinaryCrossEntropy("given", reduction="mean")], plan=own)
        else:
            iterate(model, train, replace(settings.iterated, reduction="mean"), own, target="given")
        if settings.method == "replay":
            for label in task.classes:
                members = task.rows[task.labels == label]
                drawn = torch.randperm(len(members), generator=seeds.generator(plan.seed, "buffer", label))
                kept_rows = torch.cat([kept_rows, members[drawn[: settings.buffer]]])
                kept_labels = torch.cat([kept_labels, torch.full((min(settings.buffer, len(members)),), label)])
        logits, rest = predict(model, test)
        assert isinstance(logits, Tensor)
        sets = logits.sigmoid() > settings.threshold
        truth = truth_NC[rest["index"]][:, order]
        after.append(_judge(sets, truth, truth.any(1)))
        of_task = [truth_NC[rest["index"]][:, list(old.classes)].any(1) for old in tasks[: number + 1]]
        by_task.append([_judge(sets, truth, rows) for rows in of_task])
    return Incremental(model, after, by_task)


def _judge(sets: Tensor, truth: Tensor, rows: Tensor) -> float:
    return pw_jaccard(sets[rows].numpy(), truth[rows].numpy()) if rows.any() else float("nan")
