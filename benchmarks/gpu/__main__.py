"""``make bench-gpu``: what has to be measured on an accelerator, in pieces that go on where they stopped; ``make gpu-pack``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from benchmarks.gpu.pack import pack
from benchmarks.gpu.pieces import PIECES, Place, work
from benchmarks.gpu.runner import run
from tutelage.training import Interrupted

RESULTS = Path(__file__).parents[1] / "results"


def main(arguments: list[str] | None = None) -> None:
    """Run the pieces that are not done yet until the time is over, or make the pack that another machine can run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=main.__doc__, allow_abbrev=False)
    jobs = parser.add_subparsers(dest="job", required=True)
    given = os.environ.get("TUTELAGE_DATA")
    for name, about in (("run", "run the pieces"), ("piece", "run one piece"), ("pack", "make the pack")):
        job = jobs.add_parser(name, help=about, allow_abbrev=False)
        job.add_argument("--data", type=Path, default=given and Path(given), help="the real data sets")
        if name == "pack":
            job.add_argument("sets", nargs="*", default=("fashion-products", "cifar10", "nyuv2"), help="data sets")
            job.add_argument("--out", type=Path, default=Path("build/gpu-pack.tar.gz"), help="the archive")
            job.add_argument("--limit", type=float, default=63.9, help="its size in MiB at most")
            job.add_argument("--python", default="3.12", help="of the machine; with --no-wheels nothing is fetched")
            job.add_argument("--no-wheels", action="store_true", help="leave the wheels out")
            continue
        job.add_argument("--runs", type=Path, default=Path("runs/gpu"), help="what is finished is kept there")
        job.add_argument("--out", type=Path, default=RESULTS, help="folder of the tables")
        job.add_argument("--tiny", action="store_true", help="at sizes that only show that everything works")
        if name == "piece":
            job.add_argument("name", choices=list(PIECES))
        else:
            job.add_argument("--minutes", type=float, default=7.0, help="stop after so long; the same call goes on")
    asked = vars(parser.parse_args(arguments))
    job = asked.pop("job")
    try:
        if job == "pack":
            wheels = None if asked.pop("no_wheels") else asked["python"]
            print(pack(asked["out"], asked["data"], tuple(asked["sets"]), limit=asked["limit"], python=wheels))
            return
        if job == "piece":
            work(asked.pop("name"), Place(**asked))
            return
        minutes = asked.pop("minutes")
        sys.exit(run(Place(**asked), minutes=minutes))
    except Interrupted as stopped:
        sys.exit(f"{parser.prog}: {stopped}")
    except (ValueError, OSError) as error:
        sys.exit(f"{parser.prog}: {' '.join(str(error).split())}")


if __name__ == "__main__":
    main()
