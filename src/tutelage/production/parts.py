"""The folder of the parts of a table that is scored: one job's and one process's at a time, and in the end one file."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from filelock import FileLock, Timeout

from tutelage.data.problems import Problems
from tutelage.files import write_atomically, write_table

_COUNTED = ("decision", "predicted", "label")


class Scored(NamedTuple):
    """How many examples were scored, how often each decision or class was given, and what was left out."""

    scored: int
    given: dict[str, int]
    left_out: Problems


@contextmanager
def claimed(parts: Path, job: dict[str, Any]) -> Iterator[None]:
    """Hold the folder of a job's parts, which is made where there is none.

    Raises:
        ValueError: another process holds it, or it holds parts of another job.
    """
    parts.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(parts / "job.lock", timeout=0):
            _mark(parts, job)
            yield
    except Timeout:
        raise ValueError(
            f"{parts} is in use by another process that scores into the same file; wait for it, or give another out"
        ) from None


def _mark(parts: Path, job: dict[str, Any]) -> None:
    """Say whose parts a folder holds, or find that they are this job's."""
    marker = parts / "job.json"
    job = json.loads(json.dumps(job))
    if not marker.is_file():
        write_atomically(marker, lambda temporary: temporary.write_text(json.dumps(job), encoding="utf-8"))
        return
    found = json.loads(marker.read_text(encoding="utf-8"))
    if differing := [name for name in job if found.get(name) != job[name]]:
        raise ValueError(
            f"{parts} holds parts of another job (its {differing[0]} differs); delete the folder, or give another out"
        )


def write_part(path: Path, table: pd.DataFrame) -> None:
    """Write a part whole or not at all."""
    write_atomically(path, lambda temporary: table.to_parquet(temporary, index=False))


def joined(finished: list[Path], out: Path, parts: Path, left_out: Problems) -> Scored:
    """Put the parts together, one after another, and count; then they are deleted."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    count, given = 0, Counter[str]()
    whole, schema = parts / f"whole{out.suffix}", None
    writer: Any = None
    with whole.open("wb") as file:
        for path in finished:
            table = pd.read_parquet(path)
            wrong = table["_reason"] != ""
            for row in table.loc[wrong, ["id", "_reason", "_detail"]].itertuples(index=False):
                left_out.add(*row)
            good = table[~wrong].drop(columns=["_reason", "_detail"])
            count += len(good)
            for name in _COUNTED:
                given.update(map(str, good.get(name, [])))
            if not len(good):
                continue
            if out.suffix == ".csv":
                small = parts / "small.csv"
                write_table(small, good)
                lines = small.read_bytes()
                file.write(lines if writer is None else lines[lines.index(b"\r\n") + 2 :])
                writer = writer or file
                continue
            found = pa.Table.from_pandas(good, preserve_index=False, schema=schema)
            if writer is None:
                schema = _wide(found.schema)
                writer = pq.ParquetWriter(file, schema)
            writer.write_table(found.cast(schema))
        if out.suffix == ".parquet" and writer is not None:
            writer.close()
    where = left_out.write(out.parent, f"{out.stem}-problems.csv")
    if not count:
        raise ValueError(f"nothing could be scored; {left_out.summary()}. See {where}")
    write_atomically(out, whole.replace)
    shutil.rmtree(parts)
    return Scored(count, dict(given.most_common()), left_out)


def _wide(schema: Any) -> Any:
    """Return a schema in which a column that was empty in the first part may hold something in the next."""
    import pyarrow as pa

    return pa.schema(
        [pa.field(each.name, pa.float64() if pa.types.is_null(each.type) else each.type) for each in schema]
    )
