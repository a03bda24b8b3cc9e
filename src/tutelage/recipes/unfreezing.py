"""`--unfreeze last`: the encoder's last block learns with the heads, and stays so where held-out labels say it is better."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from tutelage.data import WithColumns
from tutelage.data.augment import augmentation
from tutelage.data.fingerprint import fingerprint
from tutelage.data.table import ImageTable
from tutelage.files import save_tensors
from tutelage.metrics import Interval
from tutelage.models import ImageClassifier, joint_logits
from tutelage.models.features import EncoderDoor
from tutelage.signals import Signal
from tutelage.subtasks import with_example_weights
from tutelage.training import Budget, Log, Optimization, Plan, Stages, fit, predict
from tutelage.weighting.structure import blocks, within

STAGE = "unfrozen"
BLOCK_LR = 5e-5
TRAINING = Optimization(lr=3e-4, encoder_lr=BLOCK_LR, weight_decay=0.01, schedule="cosine", warmup=0.1, clip_norm=1.0)
BUDGET = Budget(epochs=3)
LEVEL = 0.8  # of the gain's interval; its lower end has 90 % confidence
ROUNDING = 1e-9  # no gain is smaller: where calibration makes all scores the same, models differ in the last bit


@dataclass(frozen=True)
class Unfrozen:
    """What a model has become whose encoder's last block has learned, too.

    Attributes:
        folder: the model's.
        logits: of every image, (N, C).
        facts: the block's name, how many of the encoder's weights it has, and how many there are.
        gain: by how much it is better on held-out labels, with its interval; None before they were asked.
    """

    folder: Path
    logits: Tensor
    facts: dict[str, Any]
    gain: Interval | None = None
    judged_on: int = 0
    criterion: str = ""

    @property
    def kept(self) -> bool:
        """Whether it is served."""
        return self.gain is not None and self.gain.low > ROUNDING

    def told(self) -> dict[str, Any]:
        """Return it as a metrics file has it."""
        gain = None if self.gain is None else {**self.gain.plain(), "level": self.gain.level}
        return {
            "kept": self.kept,
            "criterion": self.criterion,
            "judged_on": self.judged_on,
            "gain": gain,
            **self.facts,
        }


def last_block(encoder: ImageClassifier) -> tuple[str, list[str]]:
    """Return the name of an encoder's last block, as its own structure divides it, and the names of its parameters."""
    names = [name for name, _ in encoder.named_parameters()]
    found = blocks(encoder, names)
    last = next(reversed(found))
    return last, [name for name in names if any(within(name, part) for part in found[last])]


def unfreeze_last(network: nn.Module) -> dict[str, Any]:
    """Let the last block of a network's frozen encoder learn, with all that is behind it, and return facts about it.

    The encoder stays in eval mode: statistics of normalisations do not move.
    """
    door = next(module for module in network.modules() if isinstance(module, EncoderDoor))
    name, inside = last_block(door.encoder)
    network.requires_grad_(True)
    for each, parameter in door.encoder.named_parameters():
        parameter.requires_grad_(each in inside)
    counts = [parameter.numel() for parameter in door.encoder.parameters() if parameter.requires_grad]
    return {"block": name, "trained": sum(counts), "of": sum(each.numel() for each in door.encoder.parameters())}


def unfrozen(
    network: nn.Module,
    heads: str,
    images: ImageTable,
    rows: Tensor,
    target_NC: Tensor,
    signal: Signal,
    save: Callable[[Any, Path], None],
    *,
    settings: Any,
    stages: Stages,
    log: Log,
    weight_N: Tensor | None = None,
) -> Unfrozen:
    """Train the last block of a model's encoder, and its heads further, on images, in a stage of its own.

    Args:
        network: encoder and heads as one; it stays as it is.
        heads: the name of the module that holds all heads; a kernel regression has nothing to learn there.
        images: the run's, with features; their pixels are what is learned from.
        rows: that are trained on, (n,).
        target_NC: what they are taught: see `half_label`.
        signal: the loss, which reads ``target``.
        save: writes a model into a folder.
        settings: of the run.
        stages, log: of the run.
        weight_N: how often each row counts.
    """
    pixels = ImageTable(images.images, images.table)
    learns = any(True for _ in network.get_submodule(heads).parameters())
    training = TRAINING if learns else replace(TRAINING, lr=BLOCK_LR, encoder_lr=None)
    examples, signals = with_example_weights(
        WithColumns(pixels.subset(rows), target=target_NC), [signal], weight_N, rows
    )

    def work(folder: Path) -> dict[str, Any]:
        made = deepcopy(network)
        facts = unfreeze_last(made)
        log.say(
            f"the encoder's last block, {facts['block']}, with {facts['trained']:,} of its {facts['of']:,} weights, learns "
            f"with the heads from {len(rows):,} images in {BUDGET.epochs} passes"
        )
        plan = Plan(
            BUDGET,
            training,
            (heads,),
            augment=augmentation(settings.augmentation),
            seed=settings.seed,
            hardware=settings.hardware,
            out=folder,
            log=log,
            name=STAGE,
        )
        fit(made, examples, signals=signals, plan=plan)
        save(made, folder / "model")
        outputs, _ = predict(made, pixels.subset(torch.arange(len(pixels))), batch_size=64, shared=True)
        save_tensors({"logits": joint_logits(outputs).contiguous()}, folder / "logits.safetensors")
        return facts

    key = [fingerprint(images, network.state_dict(), target_NC, rows, weight_N), signal, training, BUDGET]
    run = [settings.seed, settings.augmentation, settings.hardware.precision]
    stage = stages.run(STAGE, work, cache_key=[key, run])
    logits = load_file(stage.folder / "logits.safetensors")["logits"]
    return Unfrozen(stage.folder / "model", logits, stage.facts)


def half_label(labels_N: Tensor, said_NC: Tensor) -> Tensor:
    """Return the mean of each label, one-hot, and what the frozen model says, (N, C); of the latter alone without a label.

    So a label that the frozen model doubts counts half: a block of an encoder can learn by heart what heads alone could not.
    It is soft bootstrapping (Reed et al. 2015) with a half each, by the frozen model's answers.
    """
    one_hot_NC = nn.functional.one_hot(labels_N.clamp_min(0), said_NC.shape[1]).to(said_NC.dtype)
    return torch.where((labels_N >= 0)[:, None], (one_hot_NC + said_NC) / 2, said_NC)


def mean_gain(values: NDArray[np.float64]) -> Interval:
    """Return the mean of differences, one for each held-out example, with its interval by the normal approximation."""
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * float(values.std(ddof=1)) / float(np.sqrt(values.size))
    mean = float(values.mean())
    return Interval(mean, mean - half, mean + half, LEVEL, 0)
