"""From a list of examples to an image table: each image is decoded once, what cannot be read is left out and listed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tutelage.data.duplicates import as_hex
from tutelage.data.encoded import EncodedTable, ImageFeatures
from tutelage.data.given_features import FILES, GivenFeatures, GivenRows, read_given_features
from tutelage.data.problems import Problems
from tutelage.data.read_once import read_once
from tutelage.data.table import UNLABELLED, ImageFiles, ImageTable, NoImages


def image_table(
    table: pd.DataFrame,
    files: Callable[[list[str]], ImageFiles] | None,
    problems: Problems,
    memory_bytes: int,
    cache_bytes: int,
    features: GivenFeatures | None,
    count: int,
) -> tuple[ImageTable, NDArray[np.int64]]:
    """Return a list's image table, and the places of its examples in the data.

    Args:
        table: the list; its index is the place in the data, from 0.
        files: from paths to images; None where there are none.
        problems: collects what is left out.
        memory_bytes, cache_bytes: as of `read_once`.
        features: what the table yields in the place of pixels, where they are given.
        count: of examples in the data, with those that were left out before.
    """
    places = np.zeros(len(table), dtype=np.int64)
    if features is not None:
        places = features.places(table["id"], count, problems)
        table, places = table[places >= 0], places[places >= 0]
    if files is not None:
        images, readable, hashes = read_once(
            files(table["image"].tolist()), table["id"], memory_bytes, problems, cache_bytes
        )
        table, places = table[readable], places[readable]
    elif features is not None:
        images, hashes = NoImages(len(table)), features.hashes(places)
    table, left = table.assign(phash=as_hex(hashes)), table.index.to_numpy(np.int64)
    if features is None or table.empty:
        return ImageTable(images, table), left
    rows = ImageFeatures(GivenRows(features, places), features.key(places), None)
    return EncodedTable(images, table, rows), left


def features_table(path: Path, num_features: int) -> EncodedTable:
    """Return the examples of a file of features, without labels, for a model that reads so many numbers.

    Raises:
        FileNotFoundError, ValueError: see `read_given_features`; the file's rows are longer or shorter.
    """
    reads = f"this model reads features of {num_features} numbers and no images"
    if path.is_dir():
        raise ValueError(f"{path} is a folder, and {reads}; give {FILES}")
    try:
        given = read_given_features(path)
    except ValueError as error:
        raise ValueError(f"{error} ({reads})") from error
    if given.num_features != num_features:
        raise ValueError(f"{path} holds features of {given.num_features} numbers, and {reads}")
    places = np.arange(len(given.rows))
    ids = [str(place) for place in places] if given.ids is None else given.ids
    table = pd.DataFrame({"id": ids, "label": UNLABELLED, "split": "unlabelled"})
    rows = ImageFeatures(GivenRows(given, places), given.key(places), None)
    return EncodedTable(NoImages(len(table)), table, rows)
