"""Which examples a process sees: in an epoch, in a step of a learned weighting, and when it looks at all of its own."""

from __future__ import annotations

from torch import Tensor

from tutelage.training import seeds
from tutelage.training.batches import Batches, Examples, Shuffled, indices_of, left_over, own_places
from tutelage.training.plan import Plan
from tutelage.training.resumption import Standing


class Deal:
    """Shares out the examples of a training among its processes.

    Args:
        plan: the training's plan.
        train: what is trained on.
        held_out: what a weighting learns from, where one does.
        rank, world: which process this is, of how many.

    Raises:
        ValueError: a batch that the processes cannot share.
    """

    def __init__(self, plan: Plan, train: Examples, held_out: Examples | None, rank: int, world: int) -> None:
        self.plan, self.train, self.held_out, self.rank, self.world = plan, train, held_out, rank, world
        self.sampler = plan.sampler or Shuffled(len(train), plan.seed)
        batch_size = plan.optimization.batch_size
        self.size, rest = divmod(batch_size, world)
        if rest:
            raise ValueError(
                f"{plan.name}: {plan.optimization_name}.batch_size={batch_size} is shared by {world} processes; "
                f"make it a multiple of {world}"
            )

    def batches(self, at: Standing) -> Batches:
        """Return this process's batches of the epoch, or of what other numbers of processes have left of it."""
        left = self.sampler(at.epoch)
        for world, done in at.dealt:
            left = left_over(left, self.train, world, self.size * self.world // world, done)
        places = own_places(left, self.train, self.rank, self.world)
        if at.dealt and len(places) == 1:  # no batch normalisation over one
            places = places[:0]
        if len(places) == 0 and not at.dealt:
            raise ValueError(f"{self.plan.name}: epoch {at.epoch} of the sampler visits no example")
        dealt = [number for part in at.dealt for number in part]
        seed: tuple[int | str, ...] = (self.plan.seed, "batch", at.epoch, self.rank, *dealt)
        return Batches(self.train, places, self.size, self.plan.augment, seed)

    def held_out_batch(self, call: int) -> dict[str, Tensor]:
        """Return this process's share of the held-out batch for a call of ``adapt``: shuffled anew after each pass."""
        assert self.held_out is not None
        size = min(self.plan.held_out_batch_size or self.plan.optimization.batch_size, len(self.held_out))
        passes, number = divmod(call, len(self.held_out) // size)
        places = Shuffled(len(self.held_out), seeds.derive(self.plan.seed, "held out"))(passes)
        places = places[: len(places) // size * size].view(-1, size)
        if size >= self.world:  # else all see all of them
            places = places[:, self.rank :: self.world]
        seed = (self.plan.seed, "held out", passes)
        return Batches(self.held_out, places.flatten(), places.shape[1], None, seed)[number]

    def own(self) -> Tensor:
        """Return the places of the examples that this process owns."""
        return (indices_of(self.train) % self.world == self.rank).nonzero().squeeze(1)
