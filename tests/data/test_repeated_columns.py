"""Two columns of one name are refused, whoever reads the table: either could be meant."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tutelage.data.cells import read_cells, read_table, table_parts
from tutelage.data.problems import Problems


def read_whole(path: Path) -> object:
    return read_table(path, Problems())


def read_texts(path: Path) -> object:
    return read_cells(path, Problems())


def read_parts(path: Path) -> object:
    return list(table_parts(path, 10, Problems(), ("image",)))


@pytest.mark.parametrize("read", [read_whole, read_texts, read_parts])
@pytest.mark.parametrize(
    "text",
    [
        "image,label,label\na.png,defective,acceptable\n",
        "sep=;\nimage;label; label \na.png;defective;acceptable\n",
        '\n\n"image"\tlabel\t"label"\na.png\tdefective\tacceptable\n',
    ],
    ids=["commas", "spreadsheet", "tabs"],
)
def test_a_name_that_comes_twice_is_named(tmp_path, read, text):
    path = tmp_path / "ads.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"ads.csv has 2 columns named 'label', and .*: rename all but one"):
        read(path)


@pytest.mark.parametrize("read", [read_whole, read_texts, read_parts])
def test_a_name_that_comes_twice_in_parquet(tmp_path, read):
    path = tmp_path / "ads.parquet"
    pq.write_table(pa.table([["a.png"], ["defective"], ["acceptable"]], names=["image", "label", "label"]), path)
    with pytest.raises(ValueError, match=r"ads.parquet has 2 columns named 'label'"):
        read(path)


@pytest.mark.parametrize("read", [read_whole, read_texts, read_parts])
def test_columns_without_a_name_may_be_many(tmp_path, read):
    path = tmp_path / "ads.csv"
    path.write_text("image,label,,\na.png,defective,,\n")  # as a spreadsheet leaves them
    read(path)
