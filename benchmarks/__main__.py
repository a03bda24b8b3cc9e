"""The papers' tables and that of faults, from a checkout: ``python -m benchmarks amal``, ``make reproduce NAME=faults``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from benchmarks.faults.table import faults
from benchmarks.reproduce import TABLES, reproduce


def main(arguments: list[str] | None = None) -> None:
    """Measure a table, and write it as Markdown and JSON with the paper's figures beside ours."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__, allow_abbrev=False)
    parser.add_argument("name", choices=[*TABLES, "faults"], help="the table")
    parser.add_argument("--scale", choices=("pocket", "laptop", "paper"), default="pocket", help="pocket takes minutes")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    given = os.environ.get("TUTELAGE_DATA")
    parser.add_argument(
        "--data", type=Path, default=given and Path(given), help="the real data sets; TUTELAGE_DATA by default"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the tables")
    parser.add_argument("--runs", type=Path, default=Path("runs/reproduce"), help="finished stages are kept there")
    parser.add_argument("--only", nargs="*", default=(), metavar="ROW", help="measure only these rows, and merge them")
    parser.add_argument("--kills", type=int, default=10, help="of faults: how often each recipe's run is killed")
    asked = vars(parser.parse_args(arguments))
    kills = asked.pop("kills")
    try:
        for path in [faults(asked["out"], kills=kills)] if asked["name"] == "faults" else reproduce(**asked):
            print(path)
    except (ValueError, OSError) as error:
        sys.exit(f"{parser.prog}: {' '.join(str(error).split())}")


if __name__ == "__main__":
    main()
