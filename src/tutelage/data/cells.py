"""Tables in files: Parquet, or text in the encoding and with the delimiter that it turns out to have."""

from __future__ import annotations

import codecs
import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tutelage.checks import nearest
from tutelage.data.problems import Problems
from tutelage.files import read_parquet


def read_table(path: Path, problems: Problems, hint: str = "", **parquet: Any) -> pd.DataFrame:
    """Return a table, all of a .csv or .tsv file as text, which has an empty text where there is nothing.

    Columns are divided by whatever divides the header: a comma, semicolon, tab or bar. A first line ``sep=;`` is Excel's
    and says so. Texts are UTF-8, UTF-16, or else Windows-1252.

    Args:
        path: the file.
        problems: collects the rows that have more cells than the header.
        hint: what else could be given, for the message.
        parquet: options of `tutelage.files.read_parquet`.

    Raises:
        ValueError: another ending, or a column's name comes twice.
        pandas.errors.EmptyDataError: a text without a header.
    """
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".pq"):
        import pyarrow.parquet as pq

        _require_once(pq.read_schema(path).names, path)
        return read_parquet(path, **parquet)
    if suffix not in (".csv", ".tsv"):
        raise ValueError(f"{path} ends in {suffix!r}: give a .csv, .tsv, .parquet or .pq file{hint}")
    return pd.read_csv(path, **_as_text(path, problems))


def read_cells(path: Path, problems: Problems) -> pd.DataFrame:
    """Return all cells as stripped text, the empty text where there is nothing."""
    if path.is_dir():
        raise ValueError(f"manifest {path} is a folder: give a .csv, .tsv, .parquet or .pq file")
    if not path.is_file():
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise FileNotFoundError(f"there is no manifest {path}{nearest(path.name, beside)}")

    try:
        cells = read_table(path, problems, dtype_backend="numpy_nullable")
    except pd.errors.EmptyDataError as error:
        raise ValueError(
            f"manifest {path} is empty: it needs a line of column names, and a row for each image"
        ) from error
    if not isinstance(cells.index, pd.RangeIndex):
        cells = cells.reset_index()
    return cells.apply(as_text)


def as_text(cells: pd.Series) -> pd.Series:
    """Return a column's cells as stripped text, the empty text where there is nothing.

    A whole number is written without a point whatever the column's type, which pandas makes float where a number is missing.
    """
    text = cells.astype("string").fillna("").astype(object).str.strip()
    if pd.api.types.infer_dtype(cells, skipna=True) not in ("floating", "mixed-integer-float", "decimal"):
        return text
    whole = cells.notna() & cells.map(lambda cell: not pd.isna(cell) and cell == cell // 1).astype(bool)
    return text.mask(whole, cells[whole].map(lambda cell: str(int(cell))))


def table_parts(path: Path, rows: int, problems: Problems, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Yield a table so many rows at a time, as texts, with those of its columns that are asked for; otherwise as `read_table`.

    Raises:
        ValueError: another ending, or a column's name comes twice.
    """
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".pq"):
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            _require_once(file.schema_arrow.names, path)
            there = [name for name in columns if name in file.schema_arrow.names]
            for batch in file.iter_batches(rows, columns=there):
                yield batch.to_pandas().apply(as_text)
        return
    if suffix not in (".csv", ".tsv"):
        raise ValueError(f"{path} ends in {suffix!r}: give a .csv, .tsv, .parquet or .pq file")
    with pd.read_csv(path, **_as_text(path, problems), chunksize=rows) as parts:
        for part in parts:
            yield part[[name for name in columns if name in part]]


def _as_text(path: Path, problems: Problems) -> dict[str, Any]:
    """Return the options of `pandas.read_csv` that read all cells as text."""

    def too_long(row: list[str]) -> None:
        problems.add(row[0], "bad_row", f"{len(row)} cells, more than the header has")

    encoding = _encoding(path)
    delimiter, skipped = _delimiter(path, encoding, "\t" if path.suffix.lower() == ".tsv" else ",")
    return {
        "sep": delimiter,
        "skiprows": skipped,
        "dtype": str,
        "keep_default_na": False,
        "index_col": False,
        "encoding": encoding,
        "encoding_errors": "replace",
        "engine": "python",
        "on_bad_lines": too_long,
    }


def _encoding(path: Path) -> str:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open(path, "rb") as file:
        head = file.read(1 << 12)
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        for name, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[::2])):
            if zeros.count(0) > len(zeros) // 2:
                return name
        try:
            decoder.decode(head)
            while part := file.read(1 << 20):
                decoder.decode(part)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252"
    return "utf-8-sig"


def _delimiter(path: Path, encoding: str, usual: str) -> tuple[str, int]:
    """Return what divides the header into most columns, the usual one where several do, and the lines before the header."""
    with open(path, encoding=encoding, errors="replace", newline="") as file:
        lines = (line for line in file if line.strip())
        header = next(lines, "")
        if told := header.startswith("sep=") and len(header.strip()) == 5:
            marks, header = [header[4]], next(lines, "")
        else:
            marks = [usual, ",", ";", "\t", "|"]
    columns = {mark: next(csv.reader([header], delimiter=mark), []) for mark in marks}
    delimiter = max(columns, key=lambda mark: len(columns[mark]))
    _require_once(columns[delimiter], path)
    return delimiter, int(told)


def _require_once(names: Sequence[str], path: Path) -> None:
    """Refuse a table of which two columns have one name, since either could be meant."""
    counts = Counter(str(name).strip() for name in names)
    if twice := [name for name, count in counts.items() if name and count > 1]:
        raise ValueError(
            f"{path} has {counts[twice[0]]} columns named {twice[0]!r}, and which is meant cannot be told: rename all but one"
        )
