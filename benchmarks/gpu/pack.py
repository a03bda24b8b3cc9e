"""One archive that holds all that an accelerator's machine without a network needs: code, tests, data, small wheels."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.results_table import commit

HERE = Path(__file__).parents[2]
MIB = 1 << 20
BUFFERED = 1 << 16  # of the archive, not on the disk yet
CODE = (
    "src",
    "tests",
    "benchmarks",
    "examples",
    "docs",
    "pyproject.toml",
    "requirements.lock",
    "README.md",
    "Makefile",
)
WHEELS = (  # what a machine for PyTorch often lacks, and what it needs; none is large
    "accelerate",
    "alembic",
    "colorlog",
    "filelock",
    "hypothesis",
    "jsonargparse",
    "Mako",
    "optuna",
    "pytest",
    "PyYAML",
    "safetensors",
    "shtab",
    "sortedcontainers",
    "timm",
    "tqdm",
    "typeshed_client",
)
START = """#!/usr/bin/env bash
# Unpacked anywhere: bash bench-gpu.sh, again and again until it says that nothing is left to do. Needs Python with PyTorch.
set -euo pipefail
cd "$(dirname "$0")"
PYTHON=${PYTHON:-python3}
if ls wheels/*.whl >/dev/null 2>&1 && [ ! -d site ]; then
    $PYTHON -m pip install --quiet --no-index --no-deps --no-compile --target site wheels/*.whl
fi
export PYTHONPATH="$PWD/src:$PWD:${PYTHONPATH:-}:$PWD/site" TUTELAGE_DATA="$PWD/data" PYTHONUNBUFFERED=1
exec $PYTHON -m benchmarks.gpu run --out "${OUT:-benchmarks/results}" "$@"
"""


def pack(out: Path, data: Path | None, sets: tuple[str, ...], *, limit: float = 63.9, python: str | None = None) -> str:
    """Write the archive, and return a sentence about it.

    Args:
        out: the archive.
        data: the folder of the real data sets, or None for none.
        sets: of these; the last one is cut down to a random share of its rows where it does not fit.
        limit: in MiB.
        python: the version whose wheels are fetched from the package index; None for no wheels.

    Raises:
        ValueError: what must be in it is larger than the limit.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    told: dict[str, object] = {"commit": commit()}
    with tempfile.TemporaryDirectory() as kept, tarfile.open(out, "w:gz") as archive:
        for name, path in _code():
            archive.add(path, name, recursive=False)
        _text(archive, "bench-gpu.sh", START)
        _text(archive, "COMMIT", commit())
        if python is not None:
            for path in _wheels(Path(kept), python):
                archive.add(path, f"wheels/{path.name}")
        packed: float = out.stat().st_size + BUFFERED  # data are compressed already: what is added has its own size
        for place, name in enumerate(sets if data is not None else ()):
            assert data is not None
            files = sorted(path for path in (data / name).rglob("*") if path.is_file())
            room = limit * MIB - packed - 4096
            size = sum(path.stat().st_size for path in files)
            share = min(1.0, room / size)
            if share <= 0 or (share < 1 and place + 1 < len(sets)):
                raise ValueError(
                    f"{name} has {size / MIB:.0f} MiB, and {room / MIB:.0f} are left; name fewer data sets"
                )
            told[name] = share
            packed += share * size + 2048 * len(files)
            for path in files:
                _add(archive, path, f"data/{path.relative_to(data)}", 0.95 * share if share < 1 else 1.0)
        _text(archive, "pack.json", json.dumps(told, indent=1))
    size = out.stat().st_size
    if size > limit * MIB:
        raise ValueError(f"{out} has {size / MIB:.1f} MiB, which is more than limit={limit}; name fewer data sets")
    shares = ", ".join(f"{name} ({share:.0%})" for name, share in told.items() if isinstance(share, float))
    return f"{out}: {size / MIB:.1f} MiB; data: {shares or 'none'}. Unpack it there and run: bash bench-gpu.sh"


def _code() -> Iterator[tuple[str, Path]]:
    for top in CODE:
        path = HERE / top
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts and ".egg-info" not in str(file):
                yield str(file.relative_to(HERE)), file


def _text(archive: tarfile.TarFile, name: str, text: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(text.encode())
    archive.addfile(entry, io.BytesIO(text.encode()))


def _wheels(folder: Path, python: str) -> list[Path]:
    pins = dict(line.split("==") for line in (HERE / "requirements.lock").read_text().split() if "==" in line)
    platforms = [word for tag in ("2_28", "2_17") for word in ("--platform", f"manylinux_{tag}_x86_64")]
    wanted = [f"{name}=={pins[name]}" for name in WHEELS]
    words = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--python-version", python, *platforms]
    subprocess.run([sys.executable, "-m", "pip", *words, "-d", str(folder), *wanted], check=True)
    return sorted(folder.glob("*.whl"))


def _add(archive: tarfile.TarFile, path: Path, name: str, share: float) -> None:
    """Add a file, or a random share of a table's rows."""
    if share == 1 or path.suffix != ".parquet":
        archive.add(path, name)
        return
    table = pq.read_table(path)
    rows = np.random.default_rng(0).choice(len(table), int(share * len(table)), replace=False)
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        pq.write_table(table.take(np.sort(rows)), file.name, compression="zstd")
        archive.add(file.name, name)
