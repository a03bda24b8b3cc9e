"""How a training is done, apart from what is trained on what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tutelage.checks import check
from tutelage.signals import Batch, Outputs
from tutelage.training import seeds
from tutelage.training.batches import Augmentation, Examples, Sampler
from tutelage.training.log import Log
from tutelage.training.optimization import Budget, Optimization


@dataclass(frozen=True)
class Hardware:
    """How the arithmetic is done; which device does it is found, never named.

    Args:
        precision: float32, or bf16 for automatic mixed precision.
        compile: Compile the model with torch.compile.
        sync_batchnorm: With several processes, normalise training batches over the examples of all processes, as one process
            would, instead of each over its share.
        workers: Processes that load and augment data.
        checkpoint_seconds: Seconds between two checkpoints; 0 makes one after every step.
        patience: Seconds that a process waits for the others of the run before it stops with an error that names them.
        image_cache: Gigabytes of decoded images to keep on disk if they do not fit in 2 GB of memory; 0 for none.
        trackers: Accelerate's experiment trackers to log to besides log.jsonl, by name, such as tensorboard or wandb.
    """

    precision: Literal["float32", "bf16"] = "float32"
    compile: bool = False
    sync_batchnorm: bool = False
    workers: int = 0
    checkpoint_seconds: float = 30.0
    patience: float = 1800.0
    image_cache: float = 20.0
    trackers: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        """Check the values."""
        check(
            self,
            "hardware",
            workers="[0, inf)",
            checkpoint_seconds="[0, inf)",
            patience="(0, inf)",
            image_cache="[0, inf)",
        )
        if self.compile and self.sync_batchnorm:
            raise ValueError(
                "hardware.sync_batchnorm=True: a compiled model cannot exchange; leave hardware.compile out"
            )

    @property
    def cache_bytes(self) -> int:
        """``image_cache`` in bytes."""
        return int(self.image_cache * 1e9)

    def identity(self) -> list[Any]:
        """Return what a result depends on, so that changed loading workers or trackers do not keep a stage from resuming."""
        return [self.precision, *(["sync_batchnorm"] if self.sync_batchnorm else [])]


@dataclass(frozen=True)
class Plan:
    """How a model is trained by `fit`; the trainings of a chain share one, each under a name of its own.

    Args:
        budget: epochs or steps.
        optimization: the optimiser and its schedule.
        heads: names of the modules with the heads' learning rate.
        augment: a random change of each batch's ``input``.
        sampler: which places of the training data an epoch visits; all, shuffled, by default.
        val: examples that select the weights; evaluated after each epoch and at the end.
        select_by: a number for the outputs on ``val``, higher is better; ties go to the earlier, NaN is never selected.
        until: asked after each epoch; training ends when it says True.
        adapt_every: steps between two calls of ``weighting.adapt``; a weighting that adapts first does so at every step.
        held_out_batch_size: held-out examples in one call of ``weighting.adapt``; as many as in a training batch by default.
        seed: of everything random.
        hardware: precision, compilation, workers, trackers.
        out: the folder of checkpoints and of the log.
        log: where to log instead of ``out/log.jsonl``.
        name: what the person who watches reads.
        optimization_name: what the settings that the person wrote call ``optimization``, for messages.

    Raises:
        ValueError: ``val`` without ``select_by`` or the other way round, or ``adapt_every`` below 1.
    """

    budget: Budget
    optimization: Optimization = Optimization()
    heads: tuple[str, ...] = ()
    augment: Augmentation | None = None
    sampler: Sampler | None = None
    val: Examples | None = None
    select_by: Callable[[Outputs, Batch], float] | None = None
    until: Callable[[], bool] | None = None
    adapt_every: int = 10
    held_out_batch_size: int | None = None
    seed: int = 0
    hardware: Hardware = Hardware()
    out: Path | None = None
    log: Log | None = None
    name: str = "fit"
    optimization_name: str = "optimization"

    def __post_init__(self) -> None:
        """Check the values."""
        check(self, self.name, adapt_every="[1, inf)", held_out_batch_size="[1, inf)")
        if (self.val is None) != (self.select_by is None):
            raise ValueError(f"{self.name}: val and select_by belong together; give both or neither")

    def named(self, name: str) -> Plan:
        """Return the plan of one training of a chain: its seed is derived from this one and the name, its folder is in ``out``.

        A chain that was interrupted is called again as it was: a training that has ended reads its checkpoint and returns at
        once, and the one that was cut goes on.
        """
        out = None if self.out is None else self.out / name
        return replace(self, seed=seeds.derive(self.seed, name), out=out, name=name)
