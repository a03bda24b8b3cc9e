"""What is run where there is an accelerator, tried at tiny size where there is none."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from benchmarks.gpu import pieces, runner
from benchmarks.gpu.agreement import largest
from benchmarks.gpu.pack import MIB, pack
from benchmarks.gpu.pieces import PIECES, Piece, Place
from benchmarks.moderation.products import LOOK_ALIKE, PRETRAINING, RESTRICTED
from benchmarks.results_table import read_results
from PIL import Image

HERE = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(None, tmp_path / "runs", tmp_path / "results", tiny=True)


def test_the_speed_table_is_made_at_tiny_size(place: Place) -> None:
    pieces.work("speed", place)
    rows = read_results(place.out / "speed-gpu.json")
    assert {row.metric for row in rows} == {"CPU, ms", "accelerator, ms", "times as fast"}
    assert all(row.ours > 0 for row in rows)
    assert "plain step" in (place.out / "speed-gpu.md").read_text()


def test_the_largest_difference_of_two_tables_is_found_in_lists_too(tmp_path: Path) -> None:
    one = pd.DataFrame({"id": ["a", "b"], "score": [0.1, np.nan], "scores": [np.array([0.5, 0.5]), np.array([1.0])]})
    one.to_parquet(tmp_path / "one.parquet")
    assert largest(tmp_path / "one.parquet", tmp_path / "one.parquet") == 0
    one.assign(scores=[np.array([0.5, 0.75]), np.array([1.0])]).to_parquet(tmp_path / "two.parquet")
    assert largest(tmp_path / "one.parquet", tmp_path / "two.parquet") == 0.25
    one.assign(scores=[np.array([0.5, 0.5]), np.array([1.0, 0.0])]).to_parquet(tmp_path / "two.parquet")
    assert largest(tmp_path / "one.parquet", tmp_path / "two.parquet") > 1


def test_every_piece_that_reads_data_is_left_out_without_it(place: Place) -> None:
    without = [name for name, piece in PIECES.items() if not piece.missing(place)]
    assert without == [name for name, piece in PIECES.items() if not piece.sets]
    assert len(without) < len(PIECES)


def test_the_paper_s_pieces_name_rows_that_their_tables_have() -> None:
    from benchmarks.amal.cases import cases as amal_cases
    from benchmarks.maoal.cases import cases as maoal_cases

    names = {case.name for case in (*amal_cases("paper"), *maoal_cases("paper"))}
    for name in ("maoal rooms", "maoal people", "amal noise", "amal distillation"):
        assert PIECES[name].do.args[1][0] in names


def test_moderation_of_photographs_works_from_the_encoder_on(place: Place, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_shop(data / "fashion-products")
    pieces.work("products", Place(data, place.runs, place.out, tiny=True))
    rows = read_results(place.out / "products-gpu.json")
    assert [row.metric for row in rows] == ["uniform noise: NPV at 1 % FPR", "uniform noise: AUROC"]
    assert all(0 <= row.ours <= 1 for row in rows)


def write_shop(folder: Path) -> None:
    """A shop whose photographs are noise about a shade of their article type's."""
    draw, rows = np.random.default_rng(0), []
    kinds = dict.fromkeys(RESTRICTED, ("Accessories", 24)) | dict.fromkeys(PRETRAINING, ("Apparel", 8))
    kinds |= {LOOK_ALIKE: ("Apparel", 250), "Tops": ("Apparel", 250), "Heels": ("Footwear", 60)}
    for shade, (kind, (category, count)) in enumerate(kinds.items()):
        for _ in range(count):
            stream = io.BytesIO()
            pixels = draw.integers(0, 60, (16, 12, 3)) + 7 * shade
            Image.fromarray(pixels.astype(np.uint8)).save(stream, "JPEG")
            rows.append((kind, category, stream.getvalue()))
    shop = pd.DataFrame(rows, columns=["articleType", "masterCategory", "image"])
    shop.insert(0, "id", np.arange(len(shop)))
    folder.mkdir(parents=True)
    shop.to_parquet(folder / "products.parquet")


def test_what_is_done_is_not_done_again_and_what_fails_or_lasts_is_told(
    place: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ends = {"first": (0, False), "second": (1, False), "third": (-15, True), "fourth": (0, False)}
    called: list[str] = []
    monkeypatch.setattr(runner, "PIECES", {name: Piece(name, lambda place: None) for name in ends})
    monkeypatch.setattr(runner, "_call", lambda name, place, seconds: called.append(name) or ends[name])
    assert runner.run(place, minutes=1) == 3
    assert called == ["first", "second", "third"]
    assert runner.finished(place.runs) == ["first"]
    ends["third"] = (0, False)
    assert runner.run(place, minutes=1) == 1
    ends["second"] = (0, False)
    assert runner.run(place, minutes=1) == 0
    assert called[3:] == ["second", "third", "fourth", "second"]
    assert "second: failed with 1" in (said := capfd.readouterr().out)
    assert "nothing is left to do" in said


def test_the_pack_runs_where_it_is_unpacked_and_knows_its_commit(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "small").mkdir(parents=True)
    (data / "large").mkdir()
    pd.DataFrame({"index": range(10)}).to_parquet(data / "small" / "train.parquet")
    noise = np.random.default_rng(0).integers(0, 256, (20_000, 300), dtype=np.uint8)
    pd.DataFrame({"index": range(20_000), "image": [row.tobytes() for row in noise]}).to_parquet(
        data / "large" / "train.parquet"
    )
    archive = tmp_path / "pack.tar"
    code = (tmp_path / "pack.tar", None, ())
    pack(*code)
    limit = archive.stat().st_size / MIB + 3
    said = pack(archive, data, ("small", "large"), limit=limit)
    assert archive.stat().st_size <= limit * MIB
    assert "small (100%), large (" in said
    with pytest.raises(ValueError, match="name fewer data sets"):
        pack(archive, data, ("large", "small"), limit=limit)
    pack(archive, data, ("small", "large"), limit=limit)
    there = tmp_path / "there"
    with tarfile.open(archive) as file:
        file.extractall(there, filter="data")
    kept = pd.read_parquet(there / "data" / "large" / "train.parquet")
    assert kept["index"].is_monotonic_increasing
    assert len(kept) == int(0.95 * json.loads((there / "pack.json").read_text())["large"] * 20_000)
    told = subprocess.run(
        ["bash", "bench-gpu.sh", "--tiny", "--minutes", "0"],
        cwd=there,
        env={**os.environ, "PYTHON": sys.executable, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    assert told.returncode == 3, told.stderr
    assert "the time is over before tests" in told.stdout
    commit = subprocess.run(
        [sys.executable, "-c", "from benchmarks.results_table import commit; print(commit())"],
        cwd=there,
        env={**os.environ, "PYTHONPATH": "src"},
        capture_output=True,
        text=True,
    )
    assert commit.stdout.strip() == (there / "COMMIT").read_text()
