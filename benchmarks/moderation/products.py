"""Product photographs of a shop as a moderation task: some article types are restricted, and the label hides which."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tutelage.data.duplicates import near_groups, perceptual_hashes
from tutelage.data.images import decoded
from tutelage.data.posters import annotated
from tutelage.data.products import FILE, read_shop
from tutelage.data.table import ImageArray, Images, ImageTable

COLUMNS = ("id", "image", "masterCategory", "articleType")
DOMAIN = ("Apparel", "Accessories")
RESTRICTED = (
    "Belts",
    "Wallets",
    "Ties",
    "Earrings",
    "Sunglasses",
    "Caps",
    "Socks",
    "Shorts",
    "Sarees",
    "Scarves",
)
LOOK_ALIKE = "Tshirts"
OTHER_RESTRICTED = (
    "Handbags",
    "Trousers",
    "Track Pants",
    "Tunics",
    "Leggings",
    "Pendant",
    "Capris",
    "Ring",
    "Dupatta",
    "Cufflinks",
)
RADIUS = 16  # bits in which the perceptual hashes of near-copies may differ
# Never in a split of the moderation task: an encoder may be pre-trained on telling these types apart.
PRETRAINING = (
    "Watches",
    "Shirts",
    "Backpacks",
    "Jeans",
    "Dresses",
    "Clutches",
    "Sweatshirts",
    "Sweaters",
    "Jackets",
    "Kurtis",
    "Skirts",
    "Necklace and Chains",
)


def product_photographs(
    folder: str | Path,
    seed: int = 0,
    noise: str = "uniform",
    noise_rate: float = 0.2,
    size: tuple[int, int] = (24, 24),
    restricted: Sequence[str] = RESTRICTED,
    look_alike: str = LOOK_ALIKE,
    train: tuple[int, int] = (600, 3000),
    validation: tuple[int, int] = (400, 2000),
    test: tuple[int, int] = (800, 4000),
    unlabelled: int = 4000,
    max_rows: int | None = None,
) -> ImageTable:
    """Photographs of apparel and accessories, about ten of whose article types are restricted.

    Restricted goods are drawn as often as the shop has them; half of the acceptable goods are of the type `look_alike`,
    the rest of all other types of the domain, but for those kept for pre-training. The moderator's `label` is wrong for
    a share of the train and validation parts (see `posters.annotated`) and right in the test part; `true_label` and
    `true_subtask` (a restricted type's place in `restricted`) are for evaluation only. The photographs depend on the
    seed alone.
    Unlabelled are photographs of the shop's other categories (footwear, personal care, ...).

    Args:
        folder: holds `products.parquet`: `id`, `image` (JPEG bytes), `masterCategory`, `articleType`.
        seed: of everything that is drawn.
        noise: "uniform", or "structured" (an annotator who takes the look-alike for restricted).
        noise_rate: share of the labels that are wrong.
        size: height and width in pixels.
        restricted, look_alike: article types.
        train, validation, test: numbers of (restricted, acceptable) photographs.
        unlabelled: number of near-domain photographs.
        max_rows: scale all numbers, in proportion, so that together they are at most so many; `None` leaves them.
            The numbers are lowered further where the shop has too few: `max_rows=10**9` takes all that there is.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an article type that the shop does not have or that is named twice, or too few photographs.
    """
    shop = read_shop(folder, COLUMNS)
    unknown = sorted({*restricted, look_alike} - set(shop["articleType"]))
    if unknown:
        raise ValueError(f"article types {unknown} are not in {FILE}")
    if look_alike in restricted or len(set(restricted)) != len(restricted):
        raise ValueError(f"restricted={tuple(restricted)}, look_alike={look_alike!r}: name a type once")
    in_domain = shop["masterCategory"].isin(DOMAIN) & ~shop["articleType"].isin(PRETRAINING)
    is_restricted = shop["articleType"].isin(restricted) & shop["masterCategory"].isin(DOMAIN)
    rng = np.random.default_rng([seed, 1])

    def shuffled(mask: pd.Series) -> np.ndarray:
        return rng.permutation(np.flatnonzero(mask))

    defective = shuffled(is_restricted)
    alike = shuffled(in_domain & (shop["articleType"] == look_alike))
    other = shuffled(in_domain & ~is_restricted & (shop["articleType"] != look_alike))
    near = shuffled(~shop["masterCategory"].isin(DOMAIN) & ~shop["articleType"].isin([*restricted, *PRETRAINING]))
    parts = {"train": train, "validation": validation, "test": test}
    if max_rows is not None:
        scale = max_rows / (sum(sum(numbers) for numbers in parts.values()) + unlabelled)
        n_defective = sum(d for d, _ in parts.values())
        n_acceptable = sum(a for _, a in parts.values())
        scale = min(scale, len(defective) / n_defective, 2 * min(len(alike), len(other)) / n_acceptable)
        parts = {name: (int(scale * d), 2 * int(scale * a / 2)) for name, (d, a) in parts.items()}
        unlabelled = min(int(scale * unlabelled), len(near))
    taken, split = [], []
    for name, (n_defective, n_acceptable) in parts.items():
        half = n_acceptable // 2
        if min(len(defective) - n_defective, len(alike) - half, len(other) - n_acceptable + half) < 0:
            raise ValueError(f"{name}={parts[name]}: too few photographs left ({len(defective)} restricted, "
                             f"{len(alike)} {look_alike}, {len(other)} other)")  # fmt: skip
        rows = [defective[:n_defective], alike[:half], other[: n_acceptable - half]]
        defective, alike, other = defective[n_defective:], alike[half:], other[n_acceptable - half :]
        taken.append(rng.permutation(np.concatenate(rows)))
        split += [name] * (n_defective + n_acceptable)
    if unlabelled > len(near):
        raise ValueError(f"unlabelled={unlabelled}: the other categories have only {len(near)} photographs")
    taken.append(near[:unlabelled])
    split += ["unlabelled"] * unlabelled
    chosen = shop.iloc[np.concatenate(taken)].reset_index(drop=True)
    subtask = chosen["articleType"].map({name: k for k, name in enumerate(restricted)}).fillna(-1).astype(int)
    table = pd.DataFrame({"id": chosen["id"].astype(str), "split": split, "true_subtask": subtask})
    table["true_label"] = (subtask < 0).astype(int)
    table = annotated(table, (chosen["articleType"] == look_alike).to_numpy(), noise, noise_rate, seed)
    return ImageTable(_photographs(str(folder), tuple(table["id"]), size), table)


@lru_cache(maxsize=1)
def _photographs(folder: str, ids: tuple[str, ...], size: tuple[int, int]) -> ImageArray:
    """Return these photographs; both kinds of noise have the same."""
    shop = read_shop(folder, COLUMNS)
    rows = pd.Series(np.arange(len(shop)), index=shop["id"].astype(str))[list(ids)]
    return ImageArray(decoded(shop["image"].iloc[rows], size))


def without_copies(images: ImageTable, groups: np.ndarray) -> ImageTable:
    """Leave out what of the test has a near-copy in the training or the validation.

    Args:
        images: the table, with its splits.
        groups: of each image, (N,); near-copies are in one group.
    """
    split = images.table["split"]
    learned = set(groups[split.isin(["train", "teacher_val", "teacher_test", "student_val"])])
    copied = (split == "test") & np.isin(groups, list(learned))
    return images.with_split(split.mask(copied, "left_out").to_numpy())


@lru_cache(maxsize=1)
def groups_of_photographs(folder: str, ids: tuple[str, ...], size: tuple[int, int]) -> np.ndarray:
    """Return the group of near-copies that each of these photographs belongs to."""
    return copy_groups(_photographs(folder, ids, size))


def copy_groups(images: Images) -> np.ndarray:
    """Return the group of near-copies that each image belongs to, (N,)."""
    return near_groups(perceptual_hashes(images), RADIUS)


def article_types(
    folder: str | Path, seed: int = 0, size: tuple[int, int] = (24, 24), examples: int = 6000
) -> tuple[Tensor, Tensor]:
    """Photographs of the article types that `product_photographs` never uses, and their types: a pre-training task.

    Returns:
        uint8 images (N, 3, height, width) and int64 labels (N,), a type's place in `PRETRAINING`;
        N is `examples`, or all that there are.
    """
    shop = read_shop(folder, COLUMNS)
    rows = np.flatnonzero(shop["articleType"].isin(PRETRAINING))
    rows = np.random.default_rng([seed, 2]).permutation(rows)[:examples]
    chosen = shop.iloc[rows]
    labels = chosen["articleType"].map({name: c for c, name in enumerate(PRETRAINING)}).to_numpy()
    return decoded(chosen["image"], size), torch.from_numpy(labels.astype(np.int64))
