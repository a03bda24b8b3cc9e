"""Which step of iterated learning belongs to which generation and phase, and which examples it draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from tutelage import distributed
from tutelage.checks import check
from tutelage.data.fingerprint import fingerprint
from tutelage.training import Budget, seeds

Language = Literal["sets", "hard", "soft"]
Variant = Literal["printed", "released"]
Passing = Callable[[Tensor, int], Tensor]
"""``passing(places, number)``: the pass of this number over places, in order, as many as they are."""


@dataclass(frozen=True)
class IteratedSettings:
    """How generations of teachers and students follow one another. The defaults are the paper's.

    Args:
        interaction: Steps k_t in which a teacher learns from the given labels.
        imitation: Steps k_s in which a student learns from that teacher.
        rho: The teacher says yes to a class whose sigmoid is above this.
        variant: Where a student starts: printed, from the student before it, as the paper's algorithm says; released, from its
            teacher's weights, as the authors' program does.
        optimizer_state: Whether the optimiser's moments are kept from phase to phase, as the released program does, or reset.
        language: What a teacher says: sets (sigmoid, threshold, binary cross-entropy; MILe), hard (argmax, cross-entropy) or
            soft (softmax, KL divergence).
        union: Whether the given label always belongs to what the teacher says; of sets.
        sample: Temperature at which sets are drawn from the sigmoids in the place of the threshold; null thresholds.
        temperature: Of the soft language.
        reduction: Sum over the classes, as released, or mean, as printed; of sets.
        evaluate_every: Generations between two evaluations.
    """

    interaction: int = 2000
    imitation: int = 2000
    rho: float = 0.25
    variant: Variant = "printed"
    optimizer_state: Literal["kept", "reset"] = "kept"
    language: Language = "sets"
    union: bool = False
    sample: float | None = None
    temperature: float = 1.0
    reduction: Literal["sum", "mean"] = "sum"
    evaluate_every: int = 1

    def __post_init__(self) -> None:
        """Check the values."""
        steps = dict.fromkeys(("interaction", "imitation", "evaluate_every"), "[1, inf)")
        check(self, **steps, rho="[0, 1)", sample="(0, inf)", temperature="(0, inf)")


@dataclass(frozen=True)
class Schedule:
    """Which step belongs to which generation and phase.

    The steps of a budget that are no whole generation come first, as more interaction, so that each run has exactly its
    budget and ends with a student.

    Args:
        steps: of the whole training.
        interaction, imitation: k_t and k_s.
    """

    steps: int
    interaction: int
    imitation: int

    def __post_init__(self) -> None:
        """Check that there is a generation."""
        if self.steps < self.length:
            raise ValueError(
                f"interaction={self.interaction} and imitation={self.imitation} make generations of {self.length} steps, and "
                f"the budget has {self.steps}; shorten the phases or lengthen the budget"
            )

    @property
    def length(self) -> int:
        """Steps of a generation."""
        return self.interaction + self.imitation

    @property
    def generations(self) -> int:
        """How many there are."""
        return self.steps // self.length

    def start(self, generation: int) -> int:
        """Return the first step of a generation, counted from 0; of the one after the last, the number of steps."""
        return 0 if generation == 0 else self.steps - (self.generations - generation) * self.length

    def turn(self, generation: int) -> int:
        """Return the step with which a generation's imitation begins."""
        return self.start(generation + 1) - self.imitation

    def generation(self, step: int) -> int:
        """Return the generation of a step."""
        return max(0, self.generations - 1 - (self.steps - 1 - step) // self.length)


def schedule_of(settings: IteratedSettings, budget: Budget, index: Tensor, batch_size: int) -> Schedule:
    """Return the generations of a budget, whose epoch is a pass over the labelled examples.

    Args:
        settings: k_t and k_s.
        budget: of all generations together.
        index: of the labelled examples, (n,).
        batch_size: examples in a batch of all processes.

    Raises:
        ValueError: a budget of less than one generation, or no labelled example for a process.
    """
    processes = distributed.rank_world()[1]
    share = int(torch.bincount(index % processes, minlength=processes).min())
    if share == 0:
        raise ValueError(
            f"labelled: iterated learning needs an example with a label in each of {processes} processes, and "
            f"there are {len(index)}"
        )
    own = max(1, batch_size // processes)
    return Schedule(budget.total(-(-share // own)), settings.interaction, settings.imitation)


class Generations:
    """A sampler whose epochs are whole generations: labelled examples for the interaction, all for the imitation.

    Both phases draw from streams without end, ordered anew after each pass; where all examples are labelled there is one
    stream for both, as for a plain training. Each process has streams of its own, so that their phases begin together.

    Args:
        schedule: the generations.
        labelled: places of the labelled examples.
        everything: places of all examples.
        batch_size: examples in a batch of one process.
        every: generations in an epoch.
        seed: of the shuffles.
        passing: orders a pass over places, and may repeat some in the place of others; shuffles by default.
        owner: the process that draws each place, (len(train),), where there are several; each has a labelled one.
    """

    def __init__(
        self,
        schedule: Schedule,
        labelled: Tensor,
        everything: Tensor,
        *,
        batch_size: int,
        every: int = 1,
        seed: int = 0,
        passing: Passing | None = None,
        owner: Tensor | None = None,
    ) -> None:
        self.schedule = schedule
        self.batch_size = batch_size
        self.every = every
        self.seed = seed
        self.passing = passing
        self.groups = [(labelled, everything)]
        if owner is not None:
            self.groups = [
                (labelled[owner[labelled] == rank], everything[owner[everything] == rank])
                for rank in range(int(owner.max()) + 1)
            ]

    def config(self) -> dict[str, Any]:
        """Return what the sampler is; its order is another one for another number of processes."""
        own = [self.schedule, self.groups, self.batch_size, self.every, self.seed, self.passing]
        return {"name": "generations", "processes": len(self.groups), "made of": fingerprint(own)}

    def __call__(self, epoch: int) -> Tensor:
        """Return the places of an epoch's generations, (n,)."""
        last = self.schedule.generations
        own = range(min(epoch * self.every, last), min((epoch + 1) * self.every, last))
        phases = [
            part
            for generation in own
            for labelled, everything in self.groups
            for part in self._phases(generation, labelled, everything)
        ]
        return torch.cat(phases) if phases else torch.zeros(0, dtype=torch.int64)

    def _phases(self, generation: int, labelled: Tensor, everything: Tensor) -> list[Tensor]:
        schedule = self.schedule
        start, turn, end = schedule.start(generation), schedule.turn(generation), schedule.start(generation + 1)
        if len(labelled) == len(everything):
            return [self._stream(everything, "order", start, end)]
        imitated = generation * schedule.imitation
        return [
            self._stream(labelled, "interaction", start - imitated, turn - imitated),
            self._stream(everything, "imitation", imitated, imitated + end - turn),
        ]

    def _stream(self, places: Tensor, name: str, start: int, end: int) -> Tensor:
        """Return what the steps from start to end draw of an endless stream of passes."""
        first, last = start * self.batch_size, end * self.batch_size
        passes = range(first // len(places), -(-last // len(places)))
        drawn = torch.cat([self._pass(places, name, number) for number in passes])
        skipped = passes.start * len(places)
        return drawn[first - skipped : last - skipped]

    def _pass(self, places: Tensor, name: str, number: int) -> Tensor:
        if self.passing is not None:
            return self.passing(places, number)
        return places[torch.randperm(len(places), generator=seeds.generator(self.seed, name, number))]
