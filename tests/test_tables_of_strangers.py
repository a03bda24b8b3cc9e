"""What is read from outside has limits; what is written for people is whole, and no spreadsheet runs it."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tutelage import files
from tutelage.cli import main
from tutelage.data import Problems, read_manifest
from tutelage.data.given_features import read_given_features
from tutelage.data.text_table import read_texts
from tutelage.data.votes import Votes, read_votes
from tutelage.files import literal, load_yaml, read_json, read_parquet, read_yaml, write_table
from tutelage.hardware import available_cpus

FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''@x"]


def cells(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_of_a_csv_file_is_a_formula(text: str, tmp_path: Path) -> None:
    table = pd.DataFrame({text: [text, "plain"], "list": [[text, "b"], []], "category": pd.Categorical([text, "b"])})
    write_table(tmp_path / "table.csv", table)
    first, *rows = cells(tmp_path / "table.csv")
    assert first == ["'" + text, "list", "category"]
    assert rows[0] == ["'" + text, f"'{text}|b", "'" + text]
    assert literal(rows[0][0]) == text
    problems = Problems()
    problems.add(text, "bad_row", text)
    assert cells(problems.write(tmp_path))[1][:3] == ["'" + text, "bad_row", "'" + text]
    write_table(tmp_path / "table.parquet", table)
    assert pd.read_parquet(tmp_path / "table.parquet")[text].tolist() == [text, "plain"]


def test_numbers_stay_numbers(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"x": [-1.5, np.nan], "n": [-3, 4], "id": ["-7", "+.5e-3"], "empty": [None, ""], "list": [[-0.5], [1]]}
    )
    write_table(tmp_path / "table.csv", table)
    assert cells(tmp_path / "table.csv")[1:] == [["-1.5", "-3", "-7", "", "-0.5"], ["", "4", "+.5e-3", "", "1"]]


@given(st.text(max_size=8))
def test_the_apostrophe_comes_off_again(text: str) -> None:
    assert literal(files._cell(text)) == text
    assert not files._FORMULA.match(files._cell(text)) or files.NUMBER.fullmatch(text) or files._cell(text)[0] == "'"


def test_votes_keep_their_ids_and_names(tmp_path: Path) -> None:
    votes = Votes(np.array([[1, -1], [0, 1]], np.int16), ("=rule", "@other"))
    votes.write(tmp_path / "votes.csv", ["=a", "-b"])
    assert all(cell[0] not in "=@" for row in cells(tmp_path / "votes.csv") for cell in row)
    found, ids = read_votes(tmp_path / "votes.csv", ["-b", "=a"])
    assert ids == ["=a", "-b"]
    assert found.names == votes.names
    assert found.values.tolist() == [[0, 1], [1, -1]]


def test_a_table_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.csv"
    write_table(path, pd.DataFrame({"a": [1]}))

    def full(self: Any, file: Path, **options: Any) -> None:
        file.write_text("a\n1")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    with pytest.raises(OSError, match="No space left"):
        write_table(path, pd.DataFrame({"a": [2]}))
    assert path.read_text() == "a\n1\n"
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"]


def bomb(path: Path, rows: int = 2_000, size: int = 4_000_000) -> Path:
    """A few kilobytes that unpack to rows * size bytes of text."""
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["x" * size]))
    pq.write_table(pa.table({"id": column, "label": column}), path, compression="zstd")
    assert path.stat().st_size < 20_000
    return path


def test_a_parquet_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bomb(tmp_path / "bomb.parquet")

    def unpacked(*_: Any, **__: Any) -> None:
        raise AssertionError("it was unpacked")

    monkeypatch.setattr(pd, "read_parquet", unpacked)
    for read in (
        read_parquet,
        read_votes,
        read_texts,
        read_given_features,
        lambda path: read_manifest(path, size=8),
    ):
        with pytest.raises(ValueError, match=r"bomb\.parquet unpacks to 2,000 rows of 2 columns and over .* GiB"):
            read(path)


def test_a_table_with_too_many_cells_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pd.DataFrame({"a": np.zeros(1000), "b": ["x"] * 1000, "c": [[1, 2]] * 1000}).to_parquet(tmp_path / "table.parquet")
    assert len(read_parquet(tmp_path / "table.parquet")) == 1000
    monkeypatch.setattr(files, "_TABLE_CELLS", 2999)
    with pytest.raises(ValueError, match="1,000 rows of 3 columns"):
        read_parquet(tmp_path / "table.parquet")


LAUGHS = "a: &a [lol, lol]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_yaml_aliases_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "laughs.yaml").write_text(LAUGHS)
    with pytest.raises(yaml.YAMLError, match=r"the alias \*a is not read; write out what it stands for"):
        read_yaml(tmp_path / "laughs.yaml")
    for words in (["demo", "--config"], ["predict", "run", "new.csv", "--config"], ["demo", "--hardware"]):
        with pytest.raises(SystemExit) as stop:
            main([*words, str(tmp_path / "laughs.yaml")])
        assert stop.value.code == 2
        assert "Traceback" not in (err := capsys.readouterr().err)
        assert "alias" in err or "is no value" in err
    assert load_yaml("a: [1, {b: x}]") == {"a": [1, {"b": "x"}]}


def test_files_without_an_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").write_text("[" * 20_000)
    with pytest.raises(yaml.YAMLError, match="nested more than 100 deep"):
        read_yaml(tmp_path / "deep")
    with pytest.raises(ValueError, match="is damaged, or no JSON"):
        read_json(tmp_path / "deep")
    monkeypatch.setattr(files, "_YAML_BYTES", 10)
    with pytest.raises(ValueError, match="at most 0 are read"):
        read_yaml(tmp_path / "deep")
    (tmp_path / "facts.json").write_text(json.dumps({"a": 1}))
    assert read_json(tmp_path / "facts.json") == {"a": 1}


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000 100000"}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000"}, 64),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "250000 100000"}, 3),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "1000 100000"}, 1),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/x\n3:memory:/y\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us": "400000",
                "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000",
            },
            4,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            64,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "garbage"}, 64),
        ({}, 64),
    ],
)
def test_processors_are_those_of_the_containers_quota(
    groups: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(64)), raising=False)
    for name, text in groups.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_cpus(tmp_path) == expected
