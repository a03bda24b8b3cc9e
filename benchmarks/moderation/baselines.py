"""What only the moderation table needs: k-means, a single teacher, and plain fine-tuning in several ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tutelage.data import WithColumns
from tutelage.metrics import auroc
from tutelage.models import ImageClassifier
from tutelage.recipes.moderation.belief import HALF, Belief
from tutelage.recipes.moderation.found import ModelScores
from tutelage.recipes.moderation.pipeline import Pipeline
from tutelage.recipes.moderation.served import held_out
from tutelage.signals import CrossEntropy, Distillation, Outputs, Signal
from tutelage.subtasks import features, kmeans
from tutelage.training import fit
from tutelage.weighting import Fixed


def k_means(pipeline: Pipeline) -> Tensor:
    """Return what k-means finds on the features with which discovery starts, (N,): the plain alternative."""
    settings, task = pipeline.settings, pipeline.task
    train = pipeline.rows("train")
    defects = train[task.labels[train] == 0]
    start = pipeline.new(settings.specialist, settings.discovery.outputs)
    subtask = torch.full((len(task.images),), -1)
    found = features(start, task.images.subset(defects))
    subtask[defects] = kmeans(found, settings.discovery.subtasks, seed=settings.seed)[0]
    return subtask


def single_teacher(pipeline: Pipeline, name: str = "single-teacher") -> ModelScores:
    """Train the student with one teacher, a specialist's network that has seen all the data (DeiT's own recipe)."""
    settings, images = pipeline.settings, pipeline.task.images
    teacher = pipeline.fine_tuned(replace(settings.specialist), "teacher")
    log_odds = torch.logit(teacher.scores.double(), eps=1e-9).float()
    logits = torch.stack([torch.zeros_like(log_odds), log_odds], 1)

    def train(network: ImageClassifier, folder: Path) -> None:
        signals: list[Signal] = [
            CrossEntropy(smoothing=settings.learning.smoothing, head="cls"),
            Distillation("teacher_logits", head="dist"),
        ]
        examples = WithColumns(images.subset(pipeline.rows("train")), teacher_logits=logits)
        plan = pipeline.selected(folder, network, name)
        fit(network, examples, signals=signals, plan=plan, weighting=Fixed([1.0, 1.0]))

    return pipeline.trained(name, settings.student, train, [settings.learning.smoothing], after=["teacher"])


def averaged(pipeline: Pipeline, count: int = 2) -> Tensor:
    """Return the mean log-odds of plain fine-tunings that differ by their seeds, the run's own the first, (N,)."""
    total = torch.from_numpy(pipeline.fine_tuned(pipeline.settings.student).log_odds)
    for number in range(1, count):
        other = pipeline.with_settings(replace(pipeline.settings, seed=pipeline.settings.seed + 10_000 * number))
        total = total + torch.from_numpy(
            other.fine_tuned(other.settings.student, f"fine-tuned-again-{number}").log_odds
        )
    return total / count


def longer(pipeline: Pipeline, times: int = 2) -> Tensor:
    """Return the scores of plain fine-tuning with so many times the budget, (N,)."""
    settings = pipeline.settings
    other = pipeline.with_settings(replace(settings, budget=settings.budget.times(times)))
    return other.fine_tuned(settings.student, f"fine-tuned-{times}-times").scores


def tuned(pipeline: Pipeline, rates: Sequence[float] = (3e-4, 1e-3, 3e-3)) -> Tensor:
    """Return the log-odds of plain fine-tuning at the learning rate whose model ranks held-out labels best, (N,)."""
    settings = pipeline.settings
    rows = held_out(pipeline).numpy()
    labels, found = pipeline.task.labels.numpy()[rows], []
    for rate in rates:
        other = pipeline.with_settings(replace(settings, training=replace(settings.training, lr=rate)))
        found.append(other.fine_tuned(settings.student, f"fine-tuned-{rate:g}").log_odds)
    return torch.from_numpy(max(found, key=lambda log_odds: auroc(log_odds[rows], labels)))


class Following(nn.Module):
    """A network that is judged with the exponential moving average of its weights: what training at a constant rate lacks.

    After step n the average is d w' + (1 - d) w with d = min(decay, (1 + n) / (10 + n)); it is up to date at the next forward
    pass of training, one step late. As buffers the averages are in every checkpoint.

    Args:
        network: trained as it is.
        decay: of the average.
    """

    def __init__(self, network: ImageClassifier, decay: float) -> None:
        super().__init__()
        self.network, self.decay = network, decay
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        for place, weight in enumerate(network.parameters()):
            self.register_buffer(f"average_{place}", weight.detach().clone())

    def forward(self, input: Tensor) -> Outputs:
        if not self.training:
            return functional_call(self.network, self.averages(), (input,))
        steps = self.get_buffer("steps")
        decay = min(self.decay, (1 + int(steps)) / (10 + int(steps)))
        with torch.no_grad():
            for average, weight in zip(self.averages().values(), self.network.parameters(), strict=True):
                average.lerp_(weight, 1 - decay)
            steps += 1
        return self.network(input)

    def averages(self) -> dict[str, Tensor]:
        """Return the averages by the weights' names in the network."""
        names = dict(self.network.named_parameters())
        return {name: self.get_buffer(f"average_{place}") for place, name in enumerate(names)}

    def settle(self) -> None:
        """Give the network its average."""
        self.network.load_state_dict(self.averages(), strict=False)


def weights_averaged(pipeline: Pipeline, decay: float = 0.98) -> Tensor:
    """Return the scores of plain fine-tuning whose weights are averaged over the last steps, some 50 of 400, (N,)."""
    settings = pipeline.settings

    def train(network: ImageClassifier, folder: Path) -> None:
        following = Following(network, decay)
        signals = [
            CrossEntropy(smoothing=settings.learning.smoothing, head=head, name=f"label {head}")
            for head in ("cls", "dist")
        ]
        plan = pipeline.selected(folder, network, "fine-tuned-average")
        plan = replace(plan, heads=tuple(f"network.{head}" for head in network.heads))
        fit(following, pipeline.task.images.subset(pipeline.rows("train")), signals=signals, plan=plan)
        following.settle()

    cache_key = [settings.learning.smoothing, decay]
    return pipeline.trained("fine-tuned-average", settings.student, train, cache_key).scores


def without_doubted(pipeline: Pipeline, belief: Belief, times: int = 1) -> Tensor:
    """Return the scores of plain fine-tuning on the labels that leave-one-out does not contradict, (N,): no sub-tasks."""
    label = torch.where(belief.posterior < HALF, -1, pipeline.task.labels)
    name = "fine-tuned-pruned" if times == 1 else f"fine-tuned-pruned-{times}-times"
    pipeline = pipeline.with_settings(replace(pipeline.settings, budget=pipeline.settings.budget.times(times)))
    return pipeline.fine_tuned(pipeline.settings.student, name, label).scores
