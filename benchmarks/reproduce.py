"""The papers' tables, measured: one function a table, Markdown for people and JSON for programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.amal.mixing import COMPARED as mixing_compared
from benchmarks.amal.mixing import pictures as mixing_pictures
from benchmarks.amal.mixing import results as mixing
from benchmarks.amal.table import COMPARED as amal_compared
from benchmarks.amal.table import results as amal
from benchmarks.audit.table import results as audit
from benchmarks.choice.table import COMPARED as choice_compared
from benchmarks.choice.table import results as choice
from benchmarks.labels.table import COMPARED as labels_compared
from benchmarks.labels.table import results as labels
from benchmarks.laptop.probe import results as encoder
from benchmarks.maoal.modules import COMPARED as modules_compared
from benchmarks.maoal.modules import pictures as modules_pictures
from benchmarks.maoal.modules import results as modules
from benchmarks.maoal.table import COMPARED as maoal_compared
from benchmarks.maoal.table import importances
from benchmarks.maoal.table import results as maoal
from benchmarks.mile.summary import COMPARED as mile_compared
from benchmarks.mile.summary import heat_maps
from benchmarks.mile.summary import results as mile
from benchmarks.moderation.printed import COMPARED as printed_compared
from benchmarks.moderation.printed import results as printed
from benchmarks.moderation.summary import COMPARED as moderation_compared
from benchmarks.moderation.summary import results as moderation
from benchmarks.moderation.sweeps import COMPARED as sweeps_compared
from benchmarks.moderation.sweeps import pictures as sweeps_pictures
from benchmarks.moderation.sweeps import results as sweeps
from benchmarks.paired import Comparison, paired
from benchmarks.pictures import shown, standalone
from benchmarks.results_table import ResultRow, write_results
from benchmarks.rules.summary import COMPARED as rules_compared
from benchmarks.rules.summary import results as rules
from benchmarks.suspicion.table import COMPARED as suspicion_compared
from benchmarks.suspicion.table import results as suspicion
from tutelage.recipes.base import Scale

TABLES: dict[str, Callable[..., tuple[list[ResultRow], list[str]]]] = {
    "moderation": moderation,
    "printed": printed,
    "amal": amal,
    "maoal": maoal,
    "rules": rules,
    "mile": mile,
    "audit": audit,
    "encoder": encoder,
    "choice": choice,
    "labels": labels,
    "suspicion": suspicion,
    "mixing": mixing,
    "modules": modules,
    "sweeps": sweeps,
}
SCALES: dict[str, tuple[Scale, ...]] = {
    "moderation": ("pocket", "laptop", "paper"),
    "amal": ("pocket", "laptop", "paper"),
    "mile": ("pocket", "laptop", "paper"),
    "maoal": ("pocket", "laptop", "paper"),
    "printed": ("laptop",),
    "encoder": ("laptop",),
    "labels": ("laptop",),
    "suspicion": ("pocket", "laptop"),
    "mixing": ("laptop",),
    "modules": ("laptop",),
    "sweeps": ("laptop",),
}
COMPARED: dict[str, Comparison] = {  # the tables in which methods compete
    "moderation": moderation_compared,
    "printed": printed_compared,
    "amal": amal_compared,
    "maoal": maoal_compared,
    "rules": rules_compared,
    "mile": mile_compared,
    "choice": choice_compared,
    "labels": labels_compared,
    "suspicion": suspicion_compared,
    "mixing": mixing_compared,
    "modules": modules_compared,
    "sweeps": sweeps_compared,
}
PLOTS: dict[str, Callable[[list[ResultRow]], dict[str, str]]] = {
    "mile": heat_maps,
    "maoal": importances,
    "mixing": mixing_pictures,
    "modules": modules_pictures,
    "sweeps": sweeps_pictures,
}


def reproduce(
    name: str,
    scale: Scale,
    *,
    seeds: int,
    data: Path | None,
    out: Path,
    runs: Path,
    only: Sequence[str] = (),
) -> list[Path]:
    """Measure a table and write ``NAME-SCALE.md`` and ``NAME-SCALE.json``, and ``NAME-SCALE-PLOT.svg`` where it has plots.

    Args:
        name: the table.
        scale: pocket or paper; laptop for the tables that `SCALES` says.
        seeds: how many; each figure's spread is over them.
        data: the folder of the real data sets, or None to do without.
        out: where the tables go.
        runs: where the runs behind them lie; what is done there is not done again.
        only: measure only these rows, and merge them into the table that is there.

    Raises:
        ValueError: an unknown table, too few seeds, or an unknown row.
    """
    if name not in TABLES:
        raise ValueError(f"name={name!r}: the tables are {', '.join(TABLES)}")
    if scale not in (known := SCALES.get(name, ("pocket", "paper"))):
        raise ValueError(f"scale={scale!r}: the table {name} comes at {', '.join(known)}")
    if seeds < 1:
        raise ValueError(f"seeds={seeds} must be at least 1")
    rows, notes = TABLES[name](scale, seeds=seeds, data=data, runs=runs, only=tuple(only))
    pictures: dict[str, str] = {}

    def between(all_rows: Sequence[ResultRow]) -> str:
        drawn = PLOTS.get(name, lambda _: {})(list(all_rows))
        pictures.update({f"{name}-{scale}-{plot}.svg": svg for plot, svg in drawn.items()})
        return "\n".join(filter(None, [shown(pictures), paired(all_rows, COMPARED.get(name))]))

    written = list(write_results(name, scale, rows, notes, out, merge=bool(only), between=between))
    for file, svg in pictures.items():
        (out / file).write_text(standalone(svg), encoding="utf-8")
        written.append(out / file)
    return written
