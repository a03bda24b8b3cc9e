"""Retrospective moderation: a table of any length scored in parts, each of which is done once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from tutelage.data.cells import table_parts
from tutelage.data.fingerprint import file_facts
from tutelage.data.given_features import read_given_features
from tutelage.data.manifest import Columns
from tutelage.data.problems import Problems
from tutelage.hardware import available_cpus
from tutelage.production.answers import NOT_FINITE
from tutelage.production.cluster import cluster, scored_by_cluster
from tutelage.production.decoders import Decoders
from tutelage.production.exported import ExportedModel
from tutelage.production.parts import Scored, claimed, joined, write_part

PART = 4096
BATCH = 64
TEXT = "text"
FEATURES = "features"


def score(
    model_folder: Path,
    data: Path,
    out: Path,
    *,
    columns: Columns = Columns(),
    processes: int | None = None,
    part: int = PART,
    ray: bool = False,
    ray_address: str | None = None,
) -> Scored:
    """Score the images, texts or features of a table by an exported model.

    The table is read, decoded, scored and written in parts; memory does not grow with its length. Finished parts lie in a
    folder beside ``out`` until all are there: killed and started again, it goes on after the last of them.

    Args:
        model_folder: the exported model's.
        data: .csv, .tsv, .parquet or .pq; image paths stand under its folder, texts in its column ``text``. For a model of
            features a file of those.
        out: .parquet or .csv with the columns of `tutelage predict` and the model's version. What was left out is listed beside
            it, in a file whose name ends in ``-problems.csv``.
        columns: the table's own names of its columns.
        processes: that decode images; with Ray, processors of a cluster that is started here. One for each by default.
        part: rows of a part.
        ray: score the parts by the processes of a Ray cluster, each of which sees model and images under the same paths.
        ray_address: of the cluster, see `cluster`; by default it is this machine.

    Returns:
        How many were scored, what was given how often, and what was left out.

    Raises:
        FileNotFoundError, ValueError: no such model or table, a column is missing, another ending, parts of another job, or
            another process that scores into the same file.
        ConnectionError: no cluster answers.
    """
    if out.suffix not in (".parquet", ".csv"):
        raise ValueError(f"out={str(out)!r} must end in .parquet or .csv")
    if not data.is_file():
        raise FileNotFoundError(f"there is no table {data}")
    model = ExportedModel(model_folder)
    parts = out.with_name(out.name + ".parts")
    source = {"image": columns.image, "text": TEXT, "features": FEATURES}[model.kind]
    unread = Problems()
    finished: list[Path] = []
    job = {
        "model": model.version,
        "data": [str(data), *(file_facts(data) or ())],
        "columns": asdict(columns),
        "part": part,
    }
    with claimed(parts, job):
        with ExitStack() as stack:
            bar = stack.enter_context(tqdm(total=_rows(data), unit=model.kind, desc=out.name, disable=None))

            def missing() -> Iterator[tuple[Path, pd.DataFrame]]:
                given = model.card["input"].get("features")
                tables = (
                    features_parts(data, given, part, columns.id)
                    if model.kind == "features"
                    else table_parts(data, part, unread, (source, columns.id))
                )
                for number, table in enumerate(tables):
                    if source not in table:
                        raise ValueError(f"{data} has no column {source!r}; name it by columns.image, or call it text")
                    finished.append(parts / f"{number:06d}.parquet")
                    if finished[-1].is_file():
                        bar.update(len(table))
                    else:
                        yield finished[-1], table

            if ray or ray_address is not None:
                stack.enter_context(cluster(ray_address, processes))
                scored = scored_by_cluster(
                    partial(
                        _scored_elsewhere,
                        model_folder.resolve(),
                        model.version,
                        data.parent.resolve(),
                        source,
                        columns.id,
                    ),
                    missing(),
                )
            else:
                decoders = stack.enter_context(_decoders(model, data.parent, processes or available_cpus()))
                scored = ((path, _scored(model, table, source, columns.id, decoders)) for path, table in missing())
            for path, found in scored:
                write_part(path, found)
                bar.update(len(found))
        return joined(finished, out, parts, unread)


def _scored_elsewhere(
    model_folder: Path, version: str, root: Path, source: str, id: str, table: pd.DataFrame
) -> pd.DataFrame:
    """Score a part in a process of a cluster, by one processor."""
    model = _opened(model_folder)
    if model.version != version:
        raise ValueError(f"{model_folder} holds version {model.version} on another machine, and {version} here")
    with _decoders(model, root, 1) as decoders:
        return _scored(model, table, source, id, decoders)


@cache
def _opened(model_folder: Path) -> ExportedModel:
    return ExportedModel(model_folder, threads=1)


def _decoders(model: ExportedModel, root: Path, processes: int) -> AbstractContextManager[Decoders | None]:
    return Decoders(root, model.card["input"]["size"], processes) if model.kind == "image" else nullcontext()


def _rows(data: Path) -> int | None:
    if data.suffix.lower() not in (".parquet", ".pq"):
        return None
    import pyarrow.parquet as pq

    with pq.ParquetFile(data) as file:
        return file.metadata.num_rows


def _scored(model: ExportedModel, table: pd.DataFrame, source: str, id: str, decoders: Decoders | None) -> pd.DataFrame:
    """Return one row for each of the table's: the answer, or the reason why there is none."""
    sources = table[source].tolist()
    names = table[id].tolist() if id in table else sources
    if model.kind == "features":
        told = model.answer(np.stack(sources))
        found = pd.DataFrame(told, index=range(len(told)))
        found.insert(0, "id", names)
        return found.assign(
            model_version=model.version,
            _reason=["" if each else "not_finite" for each in told],
            _detail=["" if each else NOT_FINITE for each in told],
        )
    names = [name or given for name, given in zip(names, sources, strict=True)]
    answers: list[dict[str, Any]] = [{} for _ in sources]
    refused: list[tuple[str, str]] = [("", "")] * len(sources)
    for rows, batch in _batches(model, sources, decoders, refused):
        for row, answer in zip(rows, model.answer(batch), strict=True):
            answers[row] = answer
            if not answer:
                refused[row] = ("not_finite", NOT_FINITE)
    found = pd.DataFrame(answers)
    found.insert(0, "id", names)
    found.insert(1, "image" if decoders is not None else TEXT, sources)
    return found.assign(
        model_version=model.version, _reason=[why for why, _ in refused], _detail=[why for _, why in refused]
    )


def _batches(
    model: ExportedModel, sources: list[str], decoders: Decoders | None, refused: list[tuple[str, str]]
) -> Iterator[tuple[list[int], NDArray[Any]]]:
    """Yield what can be scored, with its rows; the others are noted in ``refused``."""
    if decoders is None:
        there = [row for row, text in enumerate(sources) if text.strip()]
        for row in set(range(len(sources))) - set(there):
            refused[row] = ("no_text", "the text is empty")
        for start in range(0, len(there), BATCH):
            rows = there[start : start + BATCH]
            yield rows, model.prepare_texts([sources[row] for row in rows])
        return
    named = [row for row, path in enumerate(sources) if path]
    for row in set(range(len(sources))) - set(named):
        refused[row] = ("no_image", "the image's path is empty")
    rows, images = [], []
    for row, image in zip(named, decoders([sources[row] for row in named]), strict=True):
        if isinstance(image, tuple):
            refused[row] = image
            continue
        rows.append(row)
        images.append(image)
        if len(rows) == BATCH:
            yield rows, np.stack(images)
            rows, images = [], []
    if rows:
        yield rows, np.stack(images)


def features_parts(data: Path, num_features: int, rows: int, id: str) -> Iterator[pd.DataFrame]:
    """Yield the rows of a file of features so many at a time: id, and the features of the first view."""
    given = read_given_features(data)
    if given.num_features != num_features:
        raise ValueError(
            f"{data} holds features of {given.num_features} numbers, and this model reads features of {num_features}"
        )
    for start in range(0, len(given.rows), rows):
        part = given.rows[start : start + rows, 0].astype(np.float32)
        ids = map(str, range(start, start + len(part))) if given.ids is None else given.ids[start : start + len(part)]
        yield pd.DataFrame({id: list(ids), FEATURES: list(part)})
