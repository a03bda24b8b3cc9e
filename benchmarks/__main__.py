"""The papers' tables, from a checkout: ``python -m benchmarks amal --seeds 3`` or ``make reproduce NAME=amal``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from benchmarks.reproduce import TABLES, reproduce


def main(arguments: list[str] | None = None) -> None:
    """Measure a table, and write it as Markdown and JSON with the paper's figures beside ours."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__, allow_abbrev=False)
    parser.add_argument("name", choices=list(TABLES), help="the table")
    parser.add_argument("--scale", choices=("pocket", "laptop", "paper"), default="pocket", help="pocket takes minutes")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    given = os.environ.get("TUTELAGE_DATA")
    parser.add_argument(
        "--data", type=Path, default=given and Path(given), help="the real data sets; TUTELAGE_DATA by default"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the tables")
    parser.add_argument("--runs", type=Path, default=Path("runs/reproduce"), help="finished stages are kept there")
    parser.add_argument("--only", nargs="*", default=(), metavar="ROW", help="measure only these rows, and merge them")
    asked = parser.parse_args(arguments)
    try:
        for path in reproduce(**vars(asked)):
            print(path)
    except (ValueError, OSError) as error:
        sys.exit(f"{parser.prog}: {' '.join(str(error).split())}")


if __name__ == "__main__":
    main()
