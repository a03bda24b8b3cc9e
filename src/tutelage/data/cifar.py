"""CIFAR-10 and CIFAR-100, with people's labels where there are some.

Two layouts are read: the published *binary* version, and Parquet files with an encoded image a row. The published
*python* version is a pickle, and is never opened.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tutelage.data.images import resized
from tutelage.data.table import ImageArray, ImageTable

CifarName = Literal["cifar10", "cifar100"]
SIDE = 32
FORMATS = ["PNG", "WEBP", "JPEG"]
PARTS = ("train", "test")
_BINARY = {
    "cifar10": {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]},
    "cifar100": {"train": ["train.bin"], "test": ["test.bin"]},
}
_LABELS = {"cifar10": ["label"], "cifar100": ["coarse", "label"]}  # the bytes before an image's pixels
_NAMES = {"cifar10": {"label": "batches.meta.txt"}, "cifar100": {
    "label": "fine_label_names.txt", "coarse": "coarse_label_names.txt"}}  # fmt: skip
_COLUMNS = {"fine": "label", "noisy_fine": "noisy_label"}  # how Parquet files call them, and how they are called here


def read_cifar(
    name: CifarName,
    folder: str | Path,
    *,
    train: int | None = None,
    test: int | None = None,
    classes: Sequence[str] | None = None,
    size: int = SIDE,
    seed: int = 0,
) -> tuple[ImageTable, dict[str, list[str]]]:
    """Read CIFAR-10 or CIFAR-100: the published test images are the split "test", all else is "unassigned".

    Beside `label` the table holds what else the files do: `coarse` (CIFAR-100's 20 super-classes), and people's labels of the
    training images, -1 for those of the test: `noisy_label` (CIFAR-100N), or `aggre_label`, `random_label1` to 3 and
    `worse_label` (CIFAR-10N). An id is the image's place in the published order, such as ``cifar100-train-00042``.

    Args:
        name: which of the two.
        folder: holds the binary version's files, or ``train*.parquet`` and ``test*.parquet``.
        train, test: a random sample of so many images of each part; all by default.
        classes: only images of these classes, by name, which are then numbered in this order; all by default. `coarse` keeps
            its numbers, and a person's label that is another class's is -1.
        size: height and width in pixels; other than 32, images are resized by area.
        seed: of the sample.

    Returns:
        The table, and the names of the classes by column.

    Raises:
        FileNotFoundError: the folder holds neither layout.
        ValueError: it holds pickles, a damaged file, or no class of such a name; or fewer images than asked for.

    Source: Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009; Wei et al., *Learning with Noisy Labels
    Revisited: A Study Using Real-World Human Annotations*, ICLR 2022.
    """
    folder = Path(folder)
    if name not in _BINARY:
        raise ValueError(f"name={name!r} is neither cifar10 nor cifar100")
    read = _binary if (folder / _BINARY[name]["train"][0]).is_file() else _parquet
    parts = {part: read(name, folder, part) for part in PARTS}
    names = parts["train"][2]
    if classes is not None and (unknown := sorted(set(classes) - set(names.get("label", ())))):
        raise ValueError(
            f"classes names {unknown[0]!r}; the classes of {folder} are {', '.join(names.get('label', []))}"
        )
    pixels, tables = [], []
    for part, count in (("train", train), ("test", test)):
        facts, decode, _ = parts[part]
        rows = np.arange(len(facts))
        if classes is not None:
            facts, rows = _of_classes(facts, [names["label"].index(each) for each in classes])
        if count is not None:
            if count > len(facts):
                raise ValueError(f"{part}={count}: there are {len(facts)} such images in {folder}")
            drawn = np.sort(np.random.default_rng([seed, PARTS.index(part)]).permutation(len(facts))[:count])
            facts, rows = facts.iloc[drawn], rows[drawn]
        facts = facts.assign(split="test" if part == "test" else "unassigned")
        facts.insert(0, "id", [f"{name}-{part}-{place:05}" for place in facts.pop("index")])
        tables.append(facts)
        pixels.append(resized(decode(rows), size))
    table = pd.concat(tables, ignore_index=True)
    for column in table.columns.difference(["id", "split"]):
        table[column] = table[column].fillna(-1).astype(np.int64)
    if classes is not None:
        names = {**names, "label": list(classes)}
    return ImageTable(ImageArray(torch.cat(pixels)), table), names


def _of_classes(facts: pd.DataFrame, kept: Sequence[int]) -> tuple[pd.DataFrame, np.ndarray]:
    new = {old: place for place, old in enumerate(kept)}
    rows = np.flatnonzero(facts["label"].isin(kept))
    facts = facts.iloc[rows].copy()
    for column in facts.columns.difference(["index", "coarse"]):
        facts[column] = facts[column].map(new).fillna(-1).astype(np.int64)
    return facts, rows


def _binary(name: str, folder: Path, part: str) -> tuple[pd.DataFrame, Any, dict[str, list[str]]]:
    """Return one part of the published binary version: its facts, what decodes rows of it, and the names of its classes."""
    labels = _LABELS[name]
    length = len(labels) + 3 * SIDE * SIDE
    records = []
    for file in _BINARY[name][part]:
        path = folder / file
        if not path.is_file():
            raise FileNotFoundError(f"{folder} holds no {file}; the binary version of {name} has it")
        if path.stat().st_size % length:
            raise ValueError(
                f"{path} has {path.stat().st_size} bytes, which is no multiple of {length}: it is cut short"
            )
        records.append(np.fromfile(path, dtype=np.uint8).reshape(-1, length))
    records_NL = np.concatenate(records)
    facts = pd.DataFrame({"index": np.arange(len(records_NL))})
    for place, column in enumerate(labels):
        facts[column] = records_NL[:, place].astype(np.int64)
    names = {
        column: [line for line in (folder / file).read_text(encoding="ascii").split("\n") if line.strip()]
        for column, file in _NAMES[name].items()
        if (folder / file).is_file()
    }

    def decode(rows: np.ndarray) -> Tensor:
        return torch.from_numpy(records_NL[rows, len(labels) :].reshape(-1, 3, SIDE, SIDE))

    return facts, decode, names


def _parquet(name: str, folder: Path, part: str) -> tuple[pd.DataFrame, Any, dict[str, list[str]]]:
    """Return one part as Parquet, like `_binary`; names of classes stand in the schema's metadata."""
    import pyarrow.parquet as parquet

    files = sorted(folder.glob(f"{part}*.parquet"))
    if not files:
        first = _BINARY[name]["train"][0]
        pickles = [file for file in ("data_batch_1", "train", "meta", "batches.meta") if (folder / file).is_file()]
        if pickles:
            raise ValueError(
                f"{folder} holds {pickles[0]}, a pickle, which is never opened since it can run anything; "
                f"get the binary version of {name}, which has {first}"
            )
        raise FileNotFoundError(f"{folder} holds neither {first} (the binary version of {name}) nor {part}*.parquet")
    metadata = parquet.read_schema(files[0]).metadata or {}
    told = {"label": b"names", "coarse": b"coarse_names"} | ({"label": b"fine_names"} if name == "cifar100" else {})
    names = {column: metadata[key].decode().split(",") for column, key in told.items() if key in metadata}
    listed = pd.concat([pd.read_parquet(file) for file in files], ignore_index=True).sort_values(
        "index", ignore_index=True
    )
    listed = listed.rename(columns=_COLUMNS)
    if "label" not in listed:
        raise ValueError(f"{files[0]} has no column label (or fine); it has {', '.join(listed.columns)}")
    images = listed.pop("image")
    facts = listed[[column for column in listed if pd.api.types.is_integer_dtype(listed[column])]].astype(np.int64)

    def decode(rows: np.ndarray) -> Tensor:
        from PIL import Image

        out = np.empty((len(rows), SIDE, SIDE, 3), dtype=np.uint8)
        for place, row in enumerate(rows):
            with Image.open(io.BytesIO(images.iloc[row]), formats=FORMATS) as image:
                if image.size != (SIDE, SIDE):
                    raise ValueError(
                        f"{folder}: image {facts['index'].iloc[row]} of {part} is {image.size}, not 32 x 32"
                    )
                out[place] = np.asarray(image.convert("RGB"))
        return torch.from_numpy(out).permute(0, 3, 1, 2).contiguous()

    return facts, decode, names


PEOPLE_AND_OTHERS = {
    "people": ("baby", "boy", "girl", "man", "woman"),
    "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
    "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
    "food_containers": ("bottle", "bowl", "can", "cup", "plate"),
    "fruit_and_vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    "electrical_devices": ("clock", "keyboard", "lamp", "telephone", "television"),
    "furniture": ("bed", "chair", "couch", "table", "wardrobe"),
    "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    "large_carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
    "large_things": ("bridge", "castle", "house", "road", "skyscraper"),
}
"""The eleven super-classes of CIFAR-100 that MAOAL's authors take, with their classes; people are the primary task."""


def read_groups(
    folder: Path, *, train: int | None = None, size: int = 32, seed: int = 0
) -> tuple[ImageTable, dict[str, Tensor]]:
    """Return the images of `PEOPLE_AND_OTHERS`, and for each super-class which of its classes an image is, -1 for none.

    Arguments as in `read_cifar`.
    """
    names = [name for members in PEOPLE_AND_OTHERS.values() for name in members]
    table, _ = read_cifar("cifar100", folder, train=train, classes=names, size=size, seed=seed)
    place, label = table.labels // 5, table.labels % 5
    return table, {group: torch.where(place == k, label, -1) for k, group in enumerate(PEOPLE_AND_OTHERS)}
