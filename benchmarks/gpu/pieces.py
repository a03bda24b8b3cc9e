"""What is done on an accelerator, the most telling first."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from benchmarks.faults.smallest import SMALLEST
from benchmarks.gpu import agreement, products, speed
from benchmarks.maoal.cases import SERVED
from benchmarks.reproduce import reproduce
from benchmarks.results_table import ResultRow, write_results
from tutelage.files import write_atomically

HERE = Path(__file__).parents[2]


@dataclass(frozen=True)
class Place:
    """Where pieces find and leave things.

    Attributes:
        data: the folder of the real data sets, or None.
        runs: of the runs.
        out: of the tables.
        tiny: whether only to show that everything works.
    """

    data: Path | None
    runs: Path
    out: Path
    tiny: bool = False


@dataclass(frozen=True)
class Piece:
    """A piece of work.

    Attributes:
        tells: what it is.
        do: does it.
        sets: the data sets that it reads.
    """

    tells: str
    do: Callable[[Place], None]
    sets: tuple[str, ...] = ()

    def missing(self, place: Place) -> str:
        """Return the first data set that is not there, nothing where all are."""
        there = [name for name in self.sets if place.data is not None and (place.data / name).is_dir()]
        return next((name for name in self.sets if name not in there), "")


def work(name: str, place: Place) -> None:
    """Do a piece here."""
    torch.set_float32_matmul_precision("high")
    PIECES[name].do(place)


def _tests(place: Place) -> None:
    """Run the tests that are marked `gpu`, and write down how they ended."""
    words = ["-m", "gpu", "-p", "no:cacheprovider", "tests/accelerator"]
    words += ["-k", "clusters"] if place.tiny else []
    ended = subprocess.run([sys.executable, "-m", "pytest", *words], cwd=HERE, capture_output=True, text=True)
    print(ended.stdout, ended.stderr)
    if ended.returncode:
        raise ValueError(f"the tests that are marked gpu ended with {ended.returncode}")
    place.out.mkdir(parents=True, exist_ok=True)
    last = ended.stdout.strip().splitlines()[-1]
    text = f"# The tests that are marked gpu\n\n{speed.heading()}\n\n{last}\n"
    write_atomically(place.out / "gpu-tests.md", partial(Path.write_text, data=text, encoding="utf-8"))


def _agrees(recipe: str, place: Place) -> None:
    """Compare a recipe's smallest run on the accelerator with that on the CPU."""
    apart = agreement.difference(recipe, place.runs / "agreement" / recipe)
    row = ResultRow.over_seeds(recipe, "largest difference of what is said of an example", {0: apart})
    notes = [
        f"The smallest run of each recipe, without dropout, in full float32; asked for is {agreement.TOLERANCE:g} at most."
    ]
    write_results("agreement", "gpu", [row], notes, place.out, merge=True)
    if apart > agreement.TOLERANCE:
        print(f"{recipe}: differs by {apart:.2g}, which is more than {agreement.TOLERANCE:g}")


def _table(name: str, only: tuple[str, ...], place: Place) -> None:
    """Measure rows of a paper's table at full size, with one seed."""
    if place.tiny:
        raise ValueError(f"{name}: a paper's table has no tiny size; its own tests try it")
    reproduce(name, "paper", seeds=1, data=place.data, out=place.out, runs=place.runs / "tables", only=only)


def _paper(name: str, tells: str, sets: tuple[str, ...], *only: str) -> Piece:
    return Piece(tells, partial(_table, name, only), sets)


PEOPLE, ROOMS = "CIFAR-100 people, 10 side tasks", "NYUv2, 72 x 96 pixels"
SIDES = ("SLL", "Equal", "MAOAL", "MAOAL, evidence", SERVED)
TEACHES = "CIFAR-100, ResNet-20 teaches ResNet-8"
PIECES: dict[str, Piece] = {
    "tests": Piece("the tests that are marked gpu", _tests),
    **{
        f"agreement of {name}": Piece("its smallest run here and on the CPU", partial(_agrees, name))
        for name in SMALLEST
    },
    "speed": Piece("the hot paths here and on the CPU", lambda place: speed.table(place.out, tiny=place.tiny)),
    "products": Piece(
        "moderation of all product photographs at 112 pixels, from an encoder that is made here",
        lambda place: products.table(place.data, place.runs, place.out, tiny=place.tiny),
        ("fashion-products",),
    ),
    "mile": _paper("mile", "MILe on CIFAR-10 with human labels, full size and length", ("cifar10",), "cifar"),
    "maoal rooms": _paper("maoal", "MAOAL on NYUv2", ("nyuv2",), ROOMS, *SIDES),
    "maoal people": _paper("maoal", "MAOAL on CIFAR-100's people", ("cifar100",), PEOPLE, *SIDES),
    "amal noise": _paper(
        "amal", "AMAL on CIFAR-100, 40 % wrong", ("cifar100",), f"{TEACHES}, 40 % of the labels wrong"
    ),
    "amal distillation": _paper("amal", "AMAL on CIFAR-100", ("cifar100",), f"{TEACHES}, distillation"),
}
"""By name, in the order in which they are done."""
