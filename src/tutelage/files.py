"""Files from outside have limits, and files for others are whole or absent."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.temporaries import remove_abandoned, temporary_of

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

_JSON_BYTES, _YAML_BYTES, _YAML_DEPTH = 256 << 20, 4 << 20, 100
_TABLE_CELLS, _TABLE_BYTES = 500_000_000, 4 << 30
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def read_json(path: Path) -> dict[str, Any]:
    """Return what a JSON file holds by name.

    Raises:
        ValueError: it is too large, damaged, or holds something else.
    """
    _at_most(path, _JSON_BYTES)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged, or no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds {type(found).__name__}; expected values by name")
    return found


def read_yaml(path: Path) -> Any:
    """Return the plain values of a YAML file.

    Raises:
        yaml.YAMLError: it is too large or too deep, no YAML, or holds an alias.
    """
    _at_most(path, _YAML_BYTES)
    return load_yaml(path.read_text(encoding="utf-8"))


def load_yaml(text: str, load: Callable[[str], Any] | None = None) -> Any:
    """Return the plain values of a YAML text; aliases, which can multiply what they stand for, are refused.

    Args:
        text: the text.
        load: what reads it, `yaml.safe_load` by default.

    Raises:
        yaml.YAMLError: it is too deep, no YAML, or holds an alias.
    """
    import yaml

    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"the alias *{event.anchor} is not read; write out what it stands for")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _YAML_DEPTH:  # the parser's time is quadratic in it
            raise yaml.YAMLError(f"the values are nested more than {_YAML_DEPTH} deep")
    return (load or yaml.safe_load)(text)


def _at_most(path: Path, size: int) -> None:
    if path.stat().st_size > size:
        raise ValueError(f"{path} has {path.stat().st_size / 2**20:.0f} MiB; at most {size >> 20} are read")


def read_parquet(path: Path, **options: Any) -> pd.DataFrame:
    """Return a Parquet table as `pandas.read_parquet` does, if it is no more than a few gigabytes when it is unpacked.

    The size of texts is counted by their dictionaries, before any is unpacked.

    Raises:
        ValueError: it is larger, or damaged.
    """
    import pandas as pd
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        facts = file.metadata
    leaves = [facts.schema.column(i) for i in range(facts.num_columns)]
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
    groups = [facts.row_group(i) for i in range(facts.num_row_groups)]
    size = sum(group.column(i).total_uncompressed_size for group in groups for i in range(facts.num_columns))
    cells = facts.num_rows * facts.num_columns
    if cells <= _TABLE_CELLS and size <= _TABLE_BYTES and texts:
        size = 0
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            for batch in file.iter_batches(1 << 16):
                size += sum(map(_unpacked, batch.columns))
                if size > _TABLE_BYTES:
                    break
    if cells > _TABLE_CELLS or size > _TABLE_BYTES:
        raise ValueError(
            f"{path} unpacks to {facts.num_rows:,} rows of {facts.num_columns} columns and over {size / 2**30:.1f} GiB; "
            f"at most {_TABLE_CELLS:,} cells and {_TABLE_BYTES >> 30} GiB are read"
        )
    return pd.read_parquet(path, **options)


def _unpacked(array: Any) -> int:
    """The bytes of an Arrow array after its dictionaries were written out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(array.type):
        lengths = pc.binary_length(array.dictionary).cast(pa.int64())
        return pc.sum(lengths.take(array.indices)).as_py() or 0
    if pa.types.is_struct(array.type):
        return sum(map(_unpacked, array.flatten()))
    return _unpacked(array.flatten()) if pa.types.is_list(array.type) else array.nbytes


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Call ``write(temporary_path)``, flush it to the disk, then put it in the place of ``path`` in one step.

    Of several that write one file at the same time, the last decides what it holds.

    Raises:
        OSError: the disk is full or the folder cannot be written; it names ``path``, which is as it was.
    """
    temporary = temporary_of(path)
    try:
        remove_abandoned(path)
        write(temporary)
        flush(temporary)
        os.replace(temporary, path)
        flush(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file.

    Raises:
        OSError: the disk is full or the folder cannot be written; it names the file, where the library's error is its own.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), path, metadata)
    except SafetensorError as error:
        if (found := re.search(r"\(os error (\d+)\)", str(error))) is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error


def flush(path: Path) -> None:
    """Block until a file's content, or a folder's list of files, is on disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table for people as .parquet or, by any other ending, as CSV, whole or not at all.

    In CSV, what a list holds is divided by ``|``, and a text that a spreadsheet would take for a formula stands behind an
    apostrophe; numbers stay as they are. `literal` takes the apostrophe away.
    """
    if path.suffix == ".parquet":
        write_atomically(path, lambda temporary: table.to_parquet(temporary, index=False))
        return
    import pandas as pd

    columns = [
        column.reset_index(drop=True)
        if column.dtype.kind in "biufcmM"
        else pd.Series([_cell(value) for value in column], dtype=object)
        for _, column in table.items()
    ]
    cells = pd.DataFrame(dict(enumerate(columns)))
    cells.columns = [_cell(str(name)) for name in table.columns]
    told: dict[str, Any] = {
        "errors": "backslashreplace",
        "lineterminator": "\r\n",
    }  # so that both stand in quotes in a cell
    write_atomically(path, lambda temporary: cells.to_csv(temporary, index=False, **told))


def literal(cell: str) -> str:
    """Return the text that `write_table` wrote as this cell."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _cell(value: Any) -> Any:
    if hasattr(value, "tolist"):  # a list, as Parquet gives it back
        value = value.tolist()
    if isinstance(value, list):
        value = "|".join(f"{item:.6g}" if isinstance(item, float) else str(item) for item in value)
    if not isinstance(value, str) or not _FORMULA.match(value) or NUMBER.fullmatch(value):
        return value
    return "'" + value
