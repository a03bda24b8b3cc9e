"""Near-duplicates: perceptual hashes within a Hamming radius, or, if asked, the same headline. Exact: no pair is missed."""

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from tutelage.checks import check_number, nearest
from tutelage.data.problems import Problems
from tutelage.data.table import Images, ImageTable, NoImages

_SIDE = 64  # pictures are compared at this size,
_LOW = 16  # by this many low frequencies a side:
_BITS = _LOW * _LOW
_DCT = 2 * np.cos(math.pi * np.arange(_LOW)[:, None] * (2 * np.arange(_SIDE) + 1) / (2 * _SIDE))
_AT_ONCE = 1 << 16  # pairs that are compared at once
_LUMA = torch.tensor([0.299, 0.587, 0.114])

Rows = npt.NDArray[np.int64]
Edges = npt.NDArray[np.int64]  # (2, E)
Hashes = npt.NDArray[np.uint64]  # (N, 4)
NO_DUPLICATES = pd.DataFrame(columns=["group", "id", "reason", "kept", "label", "conflict"])
DuplicateRule = Literal["image", "headline_or_image", "none"]


def perceptual_hash(images_BCHW: Tensor) -> Hashes:
    """Return the 256-bit DCT hash of each image: which of the 16 x 16 lowest frequencies lie above their median.

    The grey picture, 64 x 64, is transformed by the unnormalised DCT-II of both axes; the bits stand in row order. Copies
    that were re-encoded or resized mostly stay within 16 bits; crops, mirror images and look-alikes do not: this finds
    copies, not similar pictures. The more common 64 bits are too few for photographs of one kind: of 6,000
    product photographs they grouped 18 % (radius 4), where these group 1 %, and nearly the same share of copies.

    Args:
        images_BCHW: uint8 (B, 3, H, W).

    Returns:
        uint64 (B, 4).

    Source: Weng and Preneel 2011 for the idea; the ImageHash library's `phash(hash_size=16)` for the definition.
    """
    grey = torch.einsum("bchw,c->bhw", images_BCHW.float(), _LUMA)
    small = interpolate(grey[:, None], (_SIDE, _SIDE), mode="bilinear", antialias=True)[:, 0]
    low = _DCT @ small.double().numpy() @ _DCT.T
    low = low.round(3).reshape(len(low), _BITS)  # a flat picture has zeros here, not rounding noise
    return _packed(low > np.median(low, axis=1, keepdims=True))


def perceptual_hashes(images: Images, batch_size: int = 64) -> Hashes:
    """`perceptual_hash` of every image: uint64 (N, 4)."""
    rows = range(len(images))
    parts = [perceptual_hash(images.gather(rows[i : i + batch_size])) for i in rows[::batch_size]]
    return np.concatenate([np.empty((0, _BITS // 64), np.uint64), *parts])


def as_hex(hashes: Hashes) -> list[str]:
    """Return hashes (N, 4) as 64 hexadecimal digits each, to stand in a table."""
    return [row.tobytes().hex() for row in hashes]


def from_hex(texts: Iterable[str]) -> Hashes:
    """Return the inverse of `as_hex`."""
    return np.frombuffer(bytes.fromhex("".join(texts)), dtype=np.uint64).reshape(-1, _BITS // 64)


def near_groups(hashes: Hashes, radius: int) -> Rows:
    """Group hashes that differ in at most `radius` bits from another one of their group: its smallest row (N,).

    Cut the bits into radius // 2 + 1 bands: two such hashes differ in at most one bit of at least one band
    (pigeonhole). So only pairs whose words of a band are equal, or differ in one bit, are compared, and none is missed.
    Pairs that are in one group already are passed over, and about 2^16 (or N) are held at a time.

    Args:
        hashes: uint64 (N, 4).
        radius: bits, 0 to 127.

    Raises:
        ValueError: `radius` is out of range.
    """
    check_number("radius", radius, f"[0, {_BITS // 2 - 1}]", int)
    bits = np.unpackbits(hashes.view(np.uint8), axis=1)
    root = np.arange(len(hashes))
    for band in np.array_split(np.arange(_BITS), max(radius // 2 + 1, _BITS // 64)):
        words, word, count = np.unique(_packed(bits[:, band])[:, 0], return_inverse=True, return_counts=True)
        bucket = _Buckets(word, np.argsort(word, kind="stable"), np.cumsum(count) - count, count)
        several = np.flatnonzero(count > 1)
        root = bucket.join(hashes, radius, root, several, several)
        for wildcard in _packed(np.eye(len(band), dtype=np.uint8))[:, 0]:
            without = np.flatnonzero(words & wildcard == 0)
            place = np.searchsorted(words, words[without] | wildcard)
            found = words[np.minimum(place, len(words) - 1)] == words[without] | wildcard
            root = bucket.join(hashes, radius, root, without[found], place[found])
    return root


@dataclass(frozen=True)
class _Buckets:
    """The rows that have each word: `members[start:start + count]`."""

    word: Rows
    members: Rows
    start: Rows
    count: Rows

    def rows(self, words: Rows) -> Rows:
        return self.members[_ranges(self.start[words], self.count[words])]

    def spread(self, root: Rows, words: Rows) -> tuple[Rows, Rows]:
        """Return the lowest and the highest root among the rows of each word."""
        if not len(words):
            return words, words
        roots, at = root[self.rows(words)], np.cumsum(self.count[words]) - self.count[words]
        return np.minimum.reduceat(roots, at), np.maximum.reduceat(roots, at)

    def join(self, hashes: Hashes, radius: int, root: Rows, left: Rows, right: Rows) -> Rows:
        """Return the roots after all rows of the words `left` were compared with those of the words `right`."""
        (low, high), (low_right, high_right) = self.spread(root, left), self.spread(root, right)
        several = np.minimum(low, low_right) < np.maximum(high, high_right)
        left, right = left[several], right[several]
        rows, other = self.rows(left), np.repeat(right, self.count[left]) * len(hashes)
        inside = self.rows(np.unique(right))
        while len(rows):  # by word and group: a row's own group is a run of its bucket, which is passed over
            key = self.word[inside] * len(hashes) + root[inside]
            order = np.argsort(key)
            key, inside = key[order], inside[order]
            first, last = np.searchsorted(key, other), np.searchsorted(key, other + len(hashes))
            own = other + root[rows]
            ends = np.stack([np.searchsorted(key, own), last], 1)
            starts = np.stack([first, np.searchsorted(key, own, side="right")], 1)
            lengths = (ends - starts).sum(1)
            now = np.cumsum(lengths) <= _AT_ONCE
            now[:1] = True
            one = np.repeat(rows[now], lengths[now])
            two = inside[_ranges(starts[now].ravel(), (ends - starts)[now].ravel())]
            near = np.bitwise_count(hashes[one] ^ hashes[two]).sum(1) <= radius
            if near.any():
                edges, moved = root[np.stack([one[near], two[near]])], np.arange(len(root))
                touched = np.zeros(len(root), dtype=bool)
                touched[edges] = True
                labels = np.flatnonzero(touched)
                moved[labels] = labels[connected(len(labels), (np.cumsum(touched) - 1)[edges])]
                root = moved[root]
            rows, other = rows[~now], other[~now]
        return root


def _ranges(starts: Rows, lengths: Rows) -> Rows:
    """Return the numbers from each start on, as many as each length, one after the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)


def _packed(bits: npt.NDArray) -> Hashes:
    """Return rows of bits (N, n) as words (N, ceil(n / 64))."""
    words = -(-bits.shape[1] // 64)
    padded = np.zeros((len(bits), 64 * words), dtype=np.uint8)
    padded[:, : bits.shape[1]] = bits
    return np.packbits(padded, axis=1).view(np.uint64)


def connected(count: int, edges: Edges) -> Rows:
    """Return the connected component of each of `count` nodes under `edges` (2, E): its smallest node (N,).

    Every root is hooked onto the lowest root beside it, all at once, until nothing moves: about log N rounds.
    """
    root = np.arange(count)
    while True:
        left, right = root[edges]
        new = root.copy()
        for side in (left, right):  # one at a time: numpy 2.4's `at` reads out of bounds when it has to broadcast
            np.minimum.at(new, side, np.minimum(left, right))
        while not np.array_equal(shorter := new[new], new):
            new = shorter
        if np.array_equal(new, root):
            return root
        root = new


@dataclass(frozen=True)
class Duplicates:
    """Groups of near-duplicates in a table.

    Attributes:
        groups: int64 (N,), the smallest row of each row's group; itself where a row stands alone.
        kept: bool (N,), one row per group: labelled before unlabelled, then the first submitted, then the first row.
        listing: the groups of two or more: `group` (0, 1, ...), `id`, `reason` (headline, image, headline+image),
            `kept`, `label`, and `conflict` where the labelled rows of a group disagree.
    """

    groups: Rows
    kept: npt.NDArray[np.bool_]
    listing: pd.DataFrame


def find_duplicates(images: ImageTable, radius: int = 16, rule: DuplicateRule = "image") -> Duplicates:
    """Group the rows that are near-duplicates of one another; groups that touch become one.

    Args:
        images: the table; rows of split `left_out` are no part of it. A column `phash` saves decoding again.
        radius: Hamming distance, in bits, within which two pictures count as the same.
        rule: image: the picture decides, whatever the headline, since "Sale" stands over many pictures. headline_or_image: a
            repeated headline alone is enough, as in the sub-task imputation paper. none: nothing is a duplicate.

    Raises:
        ValueError: `radius` is out of range, or there is no such rule.
    """
    if rule not in get_args(DuplicateRule):
        rules = get_args(DuplicateRule)
        raise ValueError(f"duplicates={rule!r} is not one of {', '.join(rules)}{nearest(rule, rules)}")
    table = images.table
    hashes = from_hex(table["phash"]) if "phash" in table else perceptual_hashes(images.images)
    present = np.flatnonzero(table["split"] != "left_out")
    alone = np.arange(len(present))
    near = alone if rule == "none" else near_groups(hashes[present], radius)
    edges = {"image": np.stack([near, alone])[:, near != alone]}
    if "headline" in table and rule == "headline_or_image":
        edges["headline"] = alike([normalised(text) for text in table["headline"].iloc[present]])

    groups = np.arange(len(table))
    groups[present] = present[connected(len(present), np.concatenate(list(edges.values()), axis=1))]
    reasons = np.full(len(table), "", dtype=object)
    for name in sorted(edges):
        touched = present[np.unique(edges[name])]
        reasons[touched] += np.where(reasons[touched] == "", name, "+" + name).astype(object)
    kept = _first_of_each(table, groups)
    return Duplicates(groups, kept, _listing(table, groups, kept, reasons))


def drop_duplicates(
    images: ImageTable, problems: Problems, radius: int = 16, rule: DuplicateRule = "image"
) -> tuple[ImageTable, pd.DataFrame]:
    """Keep one row per group of near-duplicates; the others go to the split `left_out`, and into `problems`.

    Where the labels of a group disagree, the kept row stands in `problems` with a warning. Of examples without images those are
    copies whose given features are equal.

    Returns:
        The table with its new splits, and the listing of all groups (see `Duplicates`).
    """
    found = find_duplicates(images, radius, rule)
    listing, why = found.listing, "near_duplicate"
    if isinstance(images.images, NoImages):  # whose hashes are those of features that were given
        listing, why = listing.assign(reason=listing["reason"].replace("image", "features")), "duplicate_features"
    _tell(listing, problems, why)
    return images.with_split(images.table["split"].where(found.kept, "left_out").to_numpy()), listing


def drop_equal_texts(table: pd.DataFrame, problems: Problems) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Keep one row per text, which is the same whatever its spacing; the others are left out, and go into `problems`.

    Args:
        table: id, text, and label (-1 for none) of each row.
        problems: collects what is left out, and the kept row where the labels of a text disagree.

    Returns:
        The rows that are kept, and the listing of all groups (see `Duplicates`).
    """
    facts = table[["id", "label"]].reset_index(drop=True)
    groups = connected(len(facts), alike([" ".join(text.split()) for text in table["text"]]))
    kept = _first_of_each(facts, groups)
    listing = _listing(facts, groups, kept, np.full(len(facts), "text", dtype=object))
    _tell(listing, problems, "duplicate_text")
    return table[kept], listing


def _tell(listing: pd.DataFrame, problems: Problems, why: str) -> None:
    """Note who is left out, and whose group disagrees."""
    keeper_of = dict(zip(listing["group"][listing["kept"]], listing["id"][listing["kept"]], strict=True))
    for row in listing[~listing["kept"]].itertuples():
        conflict = "; the labels of its group disagree" if row.conflict else ""
        problems.add(row.id, why, f"of {keeper_of[row.group]} by {row.reason}{conflict}")
    for group, rows in listing[listing["conflict"] & (listing["label"] >= 0)].groupby("group"):
        others = rows["id"][~rows["kept"]].tolist()
        told = f"{others[0]}{f' and {len(others) - 1} more' if len(others) > 1 else ''}"
        problems.warn(
            keeper_of[group],
            "conflicting_labels",
            f"the same as {told}, with another label; its own is used: see duplicates.csv",
        )


def normalised(text: object) -> str:
    """Return a headline without case, punctuation, accents' encodings and spacing; empty for what is no text."""
    if not isinstance(text, str):
        return ""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def alike(values: Sequence[str]) -> Edges:
    """Return edges (2, E) from the first place of each value to its other places; the empty text is like nothing."""
    codes, _ = pd.factorize(np.array(values, dtype=object))
    _, start = np.unique(codes, return_index=True)
    pairs = np.stack([start[codes], np.arange(len(values))])
    return pairs[:, (pairs[0] != pairs[1]) & np.array([value != "" for value in values], dtype=bool)]


def _first_of_each(table: pd.DataFrame, groups: Rows) -> npt.NDArray[np.bool_]:
    order = pd.DataFrame({"group": groups, "unlabelled": table["label"] < 0, "row": np.arange(len(table))})
    order["time"] = table.get("submitted_at", 0)
    first = order.sort_values(["group", "unlabelled", "time", "row"], kind="stable").drop_duplicates("group")
    kept = np.zeros(len(table), dtype=bool)
    kept[first["row"]] = True
    return kept


def _listing(table: pd.DataFrame, groups: Rows, kept: npt.NDArray[np.bool_], reasons: np.ndarray) -> pd.DataFrame:
    labels = table["label"].where(table["label"] >= 0).groupby(groups)
    facts = pd.DataFrame({"group": groups, "id": table["id"], "reason": reasons, "kept": kept, "label": table["label"]})
    facts["conflict"] = labels.transform("nunique") > 1
    facts = facts[facts["group"].duplicated(keep=False)].sort_values("group", kind="stable", ignore_index=True)
    return facts.assign(group=pd.factorize(facts["group"])[0])
