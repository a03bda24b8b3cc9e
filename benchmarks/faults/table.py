"""The table of faults: what was done to runs and to what they read, how often, and what came of it."""

from __future__ import annotations

import contextlib
import platform
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock
from xml.etree import ElementTree

import torch

from benchmarks.faults.damage import DAMAGES, damaged
from benchmarks.faults.kills import killed
from benchmarks.faults.smallest import SMALLEST
from benchmarks.faults.values import refused
from benchmarks.results_table import commit, hardware, markdown_table
from tutelage.files import write_atomically
from tutelage.metrics import bootstrap, paired_bootstrap

HOSTILE = {
    "image files: bombs, animations, other formats, cut, of one pixel": "tests/data/test_images.py",
    "tables: bombs, aliases, formulas, endless nesting": "tests/test_tables_of_strangers.py",
    "model folders of a stranger: pickles, addresses, huge sizes": "tests/models/test_foreign_folders.py",
    "names and texts in reports: markup, scripts": "tests/reports/test_report.py",
}


def faults(out: Path, *, kills: int) -> Path:
    """Do every kind of fault, and write ``faults.md`` with the counts.

    Args:
        out: the folder of the table.
        kills: of each recipe.

    Raises:
        ValueError: fewer than one.
    """
    if kills < 1:
        raise ValueError(f"kills={kills} must be at least 1")
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # so that the process can be copied
    warnings.simplefilter("ignore")
    # A figure's interval is not at stake, and would take most of the time.
    with contextlib.ExitStack() as quickly:
        for function in (bootstrap, paired_bootstrap):
            assert function.__kwdefaults__ is not None
            quickly.enter_context(mock.patch.dict(function.__kwdefaults__, resamples=20))
        parts = [_heading(), _kills(kills), _damage()]
    parts += [_values(), _hostile()]
    path = out / "faults.md"
    write_atomically(path, lambda temporary: temporary.write_text("\n".join(parts), encoding="utf-8"))
    return path


def _heading() -> str:
    made = f"{datetime.now(UTC).date().isoformat()}, code {commit()}, on {hardware()}"
    software = f"torch {torch.__version__}, Python {platform.python_version()}"
    return f"# Faults\n\n{made}; {software}. Made by `python -m benchmarks faults`.\n"


def _kills(kills: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        found = [killed(name, kills, Path(folder) / name) for name in SMALLEST]
    rows = [[each.recipe, *map(str, (each.kills, each.runs, each.same, each.files))] for each in found]
    table = markdown_table(["recipe", "kills", "runs", "of these the same", "files"], [*rows, _totals(rows, 3)])
    return f"""## Kills

Each recipe's smallest run, with a checkpoint after every step, is killed at random moments (by SIGKILL or SIGTERM, at a toss),
run again, killed again, and so on until it ends. The same: every file that it leaves, but for logs, marks and the report's
time, has the bytes of a run that nobody killed.

{table}
"""


def _damage() -> str:
    with tempfile.TemporaryDirectory() as folder:
        table = _counted("file", damaged(Path(folder)), ("as without", "refused", "else"))
    return f"""## Damaged files

Every file of a run that was cut off and of one that had ended, in {len(DAMAGES)} ways ({", ".join(DAMAGES)}), and the same
command again. As without: it ends in the same bytes. Refused: in one line, which names the file and what to delete.

{table}
"""


def _values() -> str:
    return f"""## Values that cannot be meant

The tables of `tests/test_bad_values.py`. Refused: by an error that names the field; on the command line in one line, before
anything is written. Else: another error.

{_counted("given to", refused(), ("refused", "accepted", "else"))}
"""


def _hostile() -> str:
    found = [(f"{what} (`{file}`)", _cases(file)) for what, file in HOSTILE.items()]
    return f"""## Hostile inputs

Cases of the tests that are named; each says what must come of it.

{_counted("what", found, ("held", "broken"))}
"""


def _cases(file: str) -> Counter[str]:
    """Run the tests of a file, and count them."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told.xml"
        words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={told}", file]
        subprocess.run([sys.executable, *words], cwd=Path(__file__).parents[2], capture_output=True, check=False)
        suites = ElementTree.parse(told).getroot().iter("testsuite")
        counts = [[int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")] for suite in suites]
    tests, *others = map(sum, zip(*counts, strict=True))
    return Counter(held=tests - sum(others), broken=sum(others))


def _counted(head: str, found: Sequence[tuple[str, Counter[str]]], outcomes: Sequence[str]) -> str:
    rows = [[name, str(count.total()), *(str(count[outcome]) for outcome in outcomes)] for name, count in found]
    return markdown_table([head, "cases", *outcomes], [*rows, _totals(rows, 1 + len(outcomes))])


def _totals(rows: Sequence[Sequence[str]], columns: int) -> list[str]:
    sums = [str(sum(int(row[column]) for row in rows)) for column in range(1, 1 + columns)]
    return ["all", *sums, *[""] * (len(rows[0]) - 1 - columns)]
