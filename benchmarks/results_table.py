"""Tables of results: Markdown for people, JSON for programs, both with how sure we are of each figure."""

from __future__ import annotations

import json
import math
import platform
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from types import MappingProxyType

import torch

from tutelage.files import write_atomically
from tutelage.hardware import available_cpus

DASH = "–"
SPREAD = "± is half the width of the 95 % t-interval of the mean over the seeds (none where there is one seed)."


@dataclass(frozen=True)
class ResultRow:
    """One measured figure beside the paper's.

    Attributes:
        row: the table's row: a method or a setting.
        metric: what is measured. In ``GROUP: NAME`` the group gets a table of its own in the Markdown.
        ours: the mean over the seeds; None where it could not be measured.
        spread: half the width of the 95 % t-interval of that mean; None where one seed tells nothing.
        seeds: how many.
        paper: the paper's figure; None where it has none.
        commit: the code that made the figure; None before it is written.
        hardware: what it ran on; likewise.
        date: when it was written.
        by_seed: the figure of each seed; None in tables that are older than this entry.
    """

    row: str
    metric: str
    ours: float | None
    spread: float | None
    seeds: int
    paper: float | None = None
    commit: str | None = None
    hardware: str | None = None
    date: str | None = None
    by_seed: Mapping[int, float] | None = None

    @classmethod
    def over_seeds(cls, row: str, metric: str, by_seed: Mapping[int, float], paper: float | None = None) -> ResultRow:
        """Return the row of one figure for each seed.

        Raises:
            ValueError: no value, or one that is not finite.
        """
        values = list(by_seed.values())
        if not values or not all(math.isfinite(value) for value in values):
            raise ValueError(f"{row}, {metric}: values={values} must be one finite figure for each seed")
        spread = None
        if (count := len(values)) > 1:
            spread = t_quantile(count - 1) * stdev(values) / math.sqrt(count)
        return cls(row, metric, fmean(values), spread, count, paper, by_seed=dict(by_seed))


@dataclass(frozen=True)
class Measured:
    """One figure of one row, on one case and seed."""

    case: str
    row: str
    seed: int
    figure: str
    value: float


def rows_of(
    measured: Iterable[Measured], papers: Mapping[tuple[str, str, str], float] = MappingProxyType({})
) -> list[ResultRow]:
    """Return a row for each figure of each row on each case, over its seeds, in the order in which they were met.

    Args:
        measured: the figures.
        papers: the paper's figure by case, figure and row, where it has one.
    """
    values: dict[tuple[str, str, str], dict[int, float]] = defaultdict(dict)
    for each in measured:
        values[each.case, each.figure, each.row][each.seed] = each.value
    return [
        ResultRow.over_seeds(row, f"{case}: {figure}", same, papers.get((case, figure, row)))
        for (case, figure, row), same in values.items()
    ]


def t_quantile(freedom: int, level: float = 0.95) -> float:
    """The t with P(|T| <= t) = level under Student's distribution.

    With cos^2(a) = freedom / (freedom + t^2) the probability is a finite sum (Abramowitz and Stegun, 26.7.3 and 26.7.4),
    whose root is found by bisection.

    Args:
        freedom: degrees of freedom, a whole number.
        level: in (0, 1).

    Raises:
        ValueError: freedom below 1, or a level outside (0, 1).
    """
    if freedom < 1 or not 0 < level < 1:
        raise ValueError(f"freedom={freedom} must be at least 1, and level={level} between 0 and 1")

    def within(angle: float) -> float:
        odd = freedom % 2
        term, total = (math.cos(angle) if odd else 1.0), 0.0
        for k in range(1 + odd, freedom, 2):
            total += term
            term *= math.cos(angle) ** 2 * k / (k + 1)
        total *= math.sin(angle)
        return 2 / math.pi * (angle + total) if odd else total

    low, high = 0.0, math.pi / 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle) < level else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def markdown_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its first column to the left and the others to the right, aligned for reading as plain text.

    Raises:
        ValueError: a row has another number of cells than the head.
    """
    rows = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in (head, *body)]
    if wrong := [row for row in rows if len(row) != len(head)]:
        raise ValueError(f"the row {wrong[0]} has {len(wrong[0])} cells, the head has {len(head)}")
    widths = [max(3, *(len(row[column]) for row in rows)) for column in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [
        [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        for row in (rows[0], rule, *rows[1:])
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def results_markdown(rows: Sequence[ResultRow]) -> str:
    """The rows as Markdown: a table for each group of metrics, a column for each metric, the paper's figure beside ours."""
    groups: dict[str, list[ResultRow]] = {}
    for row in rows:
        group, _, _ = row.metric.rpartition(": ")
        groups.setdefault(group, []).append(row)
    parts = []
    for group, members in groups.items():
        parts += [f"## {group}", ""] if group else []
        parts += [_group_table(members), ""]
    return "\n".join(parts)


def _group_table(rows: Sequence[ResultRow]) -> str:
    by_place: dict[tuple[str, str], ResultRow] = {}
    for row in rows:
        if by_place.setdefault((row.row, row.metric), row) is not row:
            raise ValueError(f"row {row.row!r} has the metric {row.metric!r} twice")
    metrics = list(dict.fromkeys(row.metric for row in rows))
    seeds = {row.seeds for row in rows}
    head = [""]
    columns: list[list[str]] = [list(dict.fromkeys(row.row for row in rows))]
    for metric in metrics:
        cells = [by_place.get((name, metric)) for name in columns[0]]
        digits = _digits([row.ours for row in rows if row.metric == metric])
        head.append(metric.rpartition(": ")[2])
        columns.append([_with_spread(cell, digits) for cell in cells])
        published = [None if cell is None else cell.paper for cell in cells]
        if any(value is not None for value in published):
            head.append("paper")
            columns.append([_number(value, _digits(published)) for value in published])
    if len(seeds) > 1:
        head.append("seeds")
        columns.append([", ".join(sorted({str(row.seeds) for row in rows if row.row == name})) for name in columns[0]])
    return markdown_table(head, list(zip(*columns, strict=True)))


def _digits(values: Sequence[float | None]) -> int:
    """Decimals of a column: shares and other figures below 10 get three, percents and larger figures one."""
    return 1 if any(value is not None and abs(value) >= 10 for value in values) else 3


def _number(value: float | None, digits: int) -> str:
    return DASH if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _with_spread(row: ResultRow | None, digits: int) -> str:
    if row is None or row.ours is None or not math.isfinite(row.ours):
        return DASH
    spread = "" if row.spread is None else f" ± {_number(row.spread, digits)}"
    return _number(row.ours, digits) + spread


def hardware() -> str:
    """The processor and its usable cores, and the accelerator where torch finds one."""
    found = f"{_processor()}, {available_cpus()} cores"
    if (accelerator := torch.accelerator.current_accelerator(check_available=True)) is not None:
        module = torch.get_device_module(accelerator)
        name = module.get_device_name() if hasattr(module, "get_device_name") else accelerator.type
        found += f"; {torch.accelerator.device_count()} x {name}"
    return found


def _processor() -> str:
    try:
        facts = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        facts = ""
    models = [line.partition(":")[2].strip() for line in facts.splitlines() if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def commit() -> str:
    """The commit of the code that measures, with ``+ changes`` where the working tree has some.

    A pack for another machine (see `benchmarks.gpu.pack`) says in a file of which commit it is; elsewhere it is unknown.
    """
    here = Path(__file__).parent
    if (told := here.parent / "COMMIT").is_file():
        return told.read_text(encoding="utf-8").strip()

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changes = git("status", "--porcelain", "--untracked-files=no", "--", "..", ":!results")
        return git("rev-parse", "HEAD") + (" + changes" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def write_results(
    name: str,
    scale: str,
    rows: Sequence[ResultRow],
    notes: Sequence[str],
    folder: Path,
    *,
    merge: bool = False,
    between: Callable[[Sequence[ResultRow]], str] = lambda rows: "",
) -> tuple[Path, Path]:
    """Write ``NAME-SCALE.md`` for people and ``NAME-SCALE.json`` for programs; both say which code on which hardware.

    Args:
        name: the table.
        scale: pocket or paper.
        rows: the figures, in the order in which they are shown.
        notes: sentences below the tables: what was done, and what the paper's figures are.
        folder: made where it does not exist.
        merge: keep the other figures and notes of a table that is there, each with the code that made it.
        between: from all rows to what is said in Markdown between the tables and the notes.

    Returns:
        Both paths.

    Raises:
        ValueError: no rows, or one row with the same metric twice.
    """
    if not rows:
        raise ValueError(f"{name}-{scale}: there is no figure to write")
    folder.mkdir(parents=True, exist_ok=True)
    people, programs = folder / f"{name}-{scale}.md", folder / f"{name}-{scale}.json"
    code, machine, today = commit(), hardware(), datetime.now(UTC).date().isoformat()
    rows = [replace(row, commit=code, hardware=machine, date=today) for row in rows]
    if merge and programs.is_file():
        rows = merged(read_results(programs), rows)
        kept = people.read_text(encoding="utf-8").partition("\n## Notes\n\n")[2].splitlines()
        about = {note.partition(": ")[0] for note in notes}  # a note is replaced by one about the same
        notes = [*(note for line in kept if (note := line.removeprefix("- ")).partition(": ")[0] not in about), *notes]
    heading = [
        f"# {name}, {scale} scale",
        "",
        *(f"- {line}" for line in _origins(rows)),
        f"- Software: torch {torch.__version__}, Python {platform.python_version()}",
        f"- Seeds: {', '.join(str(count) for count in sorted({row.seeds for row in rows}))}. {SPREAD}",
        f"- {DASH} stands for a figure that is not there: not measured, or not in the paper.",
        "",
    ]
    text = "\n".join([*heading, results_markdown(rows)])
    text += f"\n{said}" if (said := between(rows)) else ""
    text += "".join(["\n## Notes\n\n", *(f"- {note}\n" for note in notes)]) if notes else ""
    listed = [{key: _finite(value) for key, value in asdict(row).items()} for row in rows]
    for path, content in ((people, text), (programs, json.dumps(listed, indent=1, ensure_ascii=False) + "\n")):
        write_atomically(path, partial(Path.write_text, data=content, encoding="utf-8"))
    return people, programs


def read_results(path: Path) -> list[ResultRow]:
    """Return the figures of a table's JSON file."""
    rows = [ResultRow(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
    return [
        row if row.by_seed is None else replace(row, by_seed={int(seed): value for seed, value in row.by_seed.items()})
        for row in rows
    ]


def merged(old: Sequence[ResultRow], new: Sequence[ResultRow]) -> list[ResultRow]:
    """Return the old figures, with the new ones in their places and what is new behind them."""
    fresh = {(row.row, row.metric): row for row in new}
    kept = [fresh.pop((row.row, row.metric), row) for row in old]
    return [*kept, *fresh.values()]


def _origins(rows: Sequence[ResultRow]) -> list[str]:
    """Say which code made the figures on what hardware, and of several codes which rows each made."""
    made: dict[tuple[str | None, ...], dict[str, None]] = {}
    for row in rows:
        made.setdefault((row.date, row.commit, row.hardware), {})[row.row] = None
    return [
        f"{date or 'Before dates were recorded'}, code {code or 'not recorded'}, on {machine or 'hardware not recorded'}"
        + (f": {', '.join(names)}" if len(made) > 1 else "")
        for (date, code, machine), names in made.items()
    ]


def _finite(value: object) -> object:
    """JSON knows no NaN: what is not finite is null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
