"""What a batch of photographs costs: decoded, and read from the cache of decoded images.

OMP_NUM_THREADS=1 python -m benchmarks.speed.decoding    # a minute; writes results/decoding.md
"""

import argparse
import datetime
import io
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import PIL
import torch
from PIL import Image

from benchmarks.results_table import hardware
from tutelage.data import Problems
from tutelage.data.read_once import read_once
from tutelage.data.table import ImageFiles

SIDE, COUNT, BATCH, ROUNDS = 224, 256, 64, 8
SOURCES = ((320, 240), (640, 480), (1600, 1200))


def photograph(seed: int, width: int, height: int) -> bytes:
    """A JPEG file with large shapes, small ones and noise, of about the bytes a pixel that photographs have."""
    draws = np.random.default_rng(seed)
    layers = [
        np.asarray(
            Image.fromarray(draws.integers(0, 256, (cells, cells, 3), dtype=np.uint8)).resize((width, height)),
            np.float32,
        )
        for cells in (3, 12, 48)
    ]
    pixels = 0.5 * layers[0] + 0.3 * layers[1] + 0.2 * layers[2] + draws.normal(0, 4, (height, width, 3))
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def measured(folder: Path, width: int, height: int) -> str:
    names = [f"{row}.jpg" for row in range(COUNT)]
    sizes = []
    for row, name in enumerate(names):
        sizes.append((folder / name).write_bytes(photograph(row, width, height)))

    def read(cache_bytes: int) -> ImageFiles:
        found = read_once(ImageFiles(folder, names, SIDE), names, 0, Problems(), cache_bytes)[0]
        assert isinstance(found, ImageFiles)
        return found

    plain, first, again = (seconds(partial(read, given)) for given in (0, 10**10, 10**10))
    files, cached = ImageFiles(folder, names, SIDE), read(10**10)
    draws = np.random.default_rng(0)
    batches = [draws.permutation(COUNT)[:BATCH].tolist() for _ in range(ROUNDS)]
    assert torch.equal(files.gather(batches[0]), cached.gather(batches[0]))

    def a_batch(source: ImageFiles) -> float:
        return min(seconds(partial(source.gather, batch)) for batch in batches) / BATCH * 1e3

    decode, mapped = a_batch(files), a_batch(cached)
    return (
        f"| {width} x {height} | {np.mean(sizes) / 1e3:.0f} KB | {decode:.2f} | {mapped:.3f} | {decode / mapped:.0f} | "
        f"{plain / COUNT * 1e3:.2f} | {first / COUNT * 1e3:.2f} | {again / COUNT * 1e3:.2f} |"
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/decoding.md"))
    out = parser.parse_args(arguments).out
    lines = [
        "# Decoding and the cache of decoded images",
        "",
        f"{datetime.date.today()}; {hardware()}, one thread; Pillow {PIL.__version__}.",
        f"Generated JPEG photographs, resized to {SIDE} pixels. CPU milliseconds an image, so that a busy machine counts",
        f"little: of a batch of {BATCH} in a random order (the least of {ROUNDS}; the files in the operating system's memory),",
        "and of the pass in which a run looks at each image once: without the cache, with an empty one, and with a full one.",
        "Made by `OMP_NUM_THREADS=1 python -m benchmarks.speed.decoding`.",
        "",
        "| photograph | its file | decoded | from the cache | ratio | first pass: plain | empty cache | full cache |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for width, height in SOURCES:
        with tempfile.TemporaryDirectory() as folder, mock.patch.dict("os.environ", XDG_CACHE_HOME=folder):
            lines.append(measured(Path(folder), width, height))
        print(lines[-1])
    out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
