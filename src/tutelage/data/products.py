"""Product photographs of a shop, with the attributes that the shop gives them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tutelage.data.images import decoded
from tutelage.data.table import ImageArray, ImageTable

FILE = "products.parquet"
ATTRIBUTES = {"colour": "baseColour", "season": "season", "gender": "gender"}


def product_attributes(
    folder: str | Path,
    seed: int = 0,
    size: tuple[int, int] = (24, 24),
    least: int = 200,
    max_rows: int | None = None,
) -> ImageTable:
    """Photographs of all frequent article types, ``label`` the type, beside it ``colour``, ``season`` and ``gender``.

    All are classes from 0 in alphabetic order, -1 where the shop does not say; ``article_type`` is the type's name. The split
    is "unassigned".

    Args:
        folder: holds `products.parquet`.
        seed: of the sample.
        size: height and width in pixels.
        least: photographs that an article type must have.
        max_rows: a random sample of so many; None takes all.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no article type has so many photographs.
    """
    shop = read_shop(folder, ["id", "image", "articleType", *ATTRIBUTES.values()])
    counts = shop["articleType"].value_counts()
    shop = shop[shop["articleType"].map(counts) >= least].reset_index(drop=True)
    if shop.empty:
        raise ValueError(
            f"least={least}: no article type has so many photographs; the most frequent has {counts.max()}"
        )
    rows = np.random.default_rng([seed, 3]).permutation(len(shop))[:max_rows]
    chosen = shop.iloc[np.sort(rows)].reset_index(drop=True)
    classes = {"label": "articleType", **ATTRIBUTES}
    codes = {name: pd.factorize(shop[column], sort=True)[0][np.sort(rows)] for name, column in classes.items()}
    table = pd.DataFrame({"id": chosen["id"].astype(str), "split": "unassigned", "article_type": chosen["articleType"]})
    return ImageTable(
        ImageArray(decoded(chosen["image"], size)),
        table.assign(**{name: code.astype(np.int64) for name, code in codes.items()}),
    )


def read_shop(folder: str | Path, columns: Sequence[str]) -> pd.DataFrame:
    """Return these columns of the shop's file.

    Raises:
        FileNotFoundError: no such file.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        raise FileNotFoundError(f"folder={str(folder)!r} holds no {FILE}")
    return pd.read_parquet(path, columns=list(columns))
