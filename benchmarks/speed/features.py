"""What the features of photographs cost beside a bare loop that decodes, augments and encodes them and keeps nothing.

OMP_NUM_THREADS=1 python -m benchmarks.speed.features --data DATA    # two core-minutes; writes results/features.md
"""

import argparse
import datetime
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from benchmarks.results_table import hardware
from tutelage.data.augment import augmentation
from tutelage.data.products import read_shop
from tutelage.data.stored_rows import RowStore
from tutelage.data.table import ImageFiles, ImageTable
from tutelage.models import ImageClassifier, ModelSpec, build
from tutelage.recipes.encoding import EncoderSettings
from tutelage.recipes.feature_maker import FeatureMaker

VIEWS, BATCH, ROUNDS = 2, 32, 3
ENCODERS = (
    (ModelSpec("pocket_resnet", 0, 48, options={"widths": [32, 64, 128, 256]}), 192),
    (ModelSpec("vit_tiny_patch16_224", 0, 224), 48),
)


def spent(work: Callable[[], object]) -> tuple[float, float]:
    """Return processor time and time by the clock, in seconds."""
    processor, clock = time.process_time(), time.monotonic()
    work()
    return time.process_time() - processor, time.monotonic() - clock


def bare(files: ImageFiles, encoder: ImageClassifier) -> list[Tensor]:
    """Encode all images and their augmented views, as anybody would write it."""
    augment = augmentation("randaugment")
    assert augment is not None
    found = []
    with torch.no_grad():
        for rows in torch.arange(len(files)).split(BATCH):
            images = files.gather(rows.tolist())
            views = torch.stack([images, *(augment(images) for _ in range(VIEWS))], dim=1)
            found.append(encoder.features(views.flatten(0, 1)))
    return found


def measured(folder: Path, spec: ModelSpec, count: int) -> str:
    """Return a line: the bare loop and ours by turns, the least of each, and what of it is the encoder's alone."""
    names = sorted(path.name for path in folder.glob("*.jpg"))[:count]
    files, encoder = ImageFiles(folder, names, spec.image_size), build(spec).eval()
    table = ImageTable(files, pd.DataFrame({"id": names, "label": 0, "split": "train"}))
    pixels = files.gather(range(BATCH)).repeat(1 + VIEWS, 1, 1, 1)
    with torch.no_grad():
        encoder.features(pixels)
        alone = min(spent(lambda: encoder.features(pixels))[0] for _ in range(ROUNDS)) / BATCH
    plain, ours = [], []
    for number in range(ROUNDS):

        def fill(number: int = number) -> None:
            settings = EncoderSettings(cache=folder / f"{spec.name}-{number}", views=VIEWS, batch_size=BATCH)
            keys = [int(files.key(row), 16) - (1 << 63) for row in range(len(names))]
            made = FeatureMaker(table, keys, encoder, settings, "randaugment")
            store = RowStore(made.folder, "features")
            made.fill(store, store.missing(keys))

        plain.append(spent(lambda: bare(files, encoder)))
        ours.append(spent(fill))
    of = [[min(each[kind] for each in runs) / len(names) * 1e3 for kind in (0, 1)] for runs in (plain, ours)]
    return (
        f"| {spec.name}, {spec.image_size} px | {len(names)} | {alone * 1e3:.1f} | {of[0][0]:.1f} | {of[1][0]:.1f} | "
        f"{of[1][0] / of[0][0]:.2f} | {of[0][1]:.1f} | {of[1][1]:.1f} | {of[1][1] / of[0][1]:.2f} |"
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True, help="Folder of the data sets.")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/features.md"))
    told = parser.parse_args(arguments)
    shop = read_shop(told.data / "fashion-products", ("id", "image"))
    lines = [
        "# Features beside a bare loop",
        "",
        f"{datetime.date.today()}; {hardware()}, {torch.get_num_threads()} thread; encoders with random weights.",
        f"Product photographs as JPEG files; milliseconds an image, with {VIEWS} augmented views of it. The bare loop decodes,",
        "augments and encodes, and keeps nothing; ours also finds what is there already, draws each view by the image's hash,",
        "writes files with checksums, tells its progress, and begins with 9 images to forecast the time. By turns, the least",
        f"of {ROUNDS}; processor time counts all threads, and the clock stands still for nobody else on the machine.",
        "Made by `OMP_NUM_THREADS=1 python -m benchmarks.speed.features --data DATA`.",
        "",
        "| encoder | images | encoder alone | processor: bare | ours | ratio | clock: bare | ours | ratio |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for id, image in list(zip(shop["id"], shop["image"], strict=True))[: max(count for _, count in ENCODERS)]:
            (Path(folder) / f"{id}.jpg").write_bytes(image)
        for spec, count in ENCODERS:
            lines.append(measured(Path(folder), spec, count))
            print(lines[-1])
    told.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
