"""Decoded images on the disk, for those that do not fit in memory: decoded once, found again by their files' content."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import __version__ as pillow
from safetensors import SafetensorError
from torch import Tensor
from tqdm import tqdm

from tutelage.data.fingerprint import fingerprint
from tutelage.data.stored_rows import SEGMENT, RowStore, StoredRows
from tutelage.decoding import UnreadableImage
from tutelage.distributed import is_main_process, rank_world

if TYPE_CHECKING:
    from tutelage.data.table import ImageFiles


def user_cache(name: str) -> Path:
    """Return a folder of ours in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tutelage" / name


def content_key(data: bytes) -> int:
    """Return the hash of a file's content, a whole number of 64 bits with a sign."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big", signed=True)


class ImageCache:
    """The pixels of images, uint8 (3, size, size), by the content of their files; several runs may share it.

    Args:
        read_as: how an image is read, of which pixels are a function: its size and the limits.
        limit: bytes that the folder may hold, and never more than half of what the disk has free. Where it is full, what was
            used least lately goes; images that find no room are decoded at every use.
        folder: ``tutelage/images`` in the user's cache folder by default.
    """

    def __init__(self, *read_as: object, limit: int, folder: Path | None = None) -> None:
        self.home = user_cache("images") if folder is None else folder
        self.store = RowStore(self.home / fingerprint(pillow, *read_as), "pixels")
        self.limit = limit
        self.full = ""

    def images(
        self, files: ImageFiles, pool: ThreadPoolExecutor
    ) -> Iterator[tuple[int, int, Tensor | UnreadableImage]]:
        """Yield each image's row, the key of its content, and its pixels or what is wrong with it; keep what is decoded.

        Of several processes each begins elsewhere, and finds there what the others have kept.
        """
        rank, world = rank_world()
        parts = list(torch.arange(len(files)).split(SEGMENT))
        first = rank * len(parts) // world
        for part in (*parts[first:], *parts[:first]):
            yield from self._part(files, part.tolist(), pool)

    def _part(
        self, files: ImageFiles, rows: list[int], pool: ThreadPoolExecutor
    ) -> Iterator[tuple[int, int, Tensor | UnreadableImage]]:
        def key_of(row: int) -> int | UnreadableImage:
            try:
                return content_key(files.content(row))
            except UnreadableImage as error:
                return error

        def decode(row: int) -> tuple[int, Tensor | UnreadableImage]:
            try:
                data = files.content(row)
                return content_key(data), files.decoded(data)
            except UnreadableImage as error:
                return 0, error

        keys: dict[int, int] = {}
        for row, found in zip(rows, pool.map(key_of, rows), strict=True):
            if isinstance(found, UnreadableImage):
                yield row, 0, found
            else:
                keys[row] = found
        listed = list(keys)
        absent = self._missing(list(keys.values()))
        stored = [row for row in listed if keys[row] in self.store.known]
        pixels: Tensor | list[Tensor] = []
        try:
            if stored:
                pixels = self.store.rows([keys[row] for row in stored])[torch.arange(len(stored))]
        except FileNotFoundError:  # another process has made room
            stored, absent = [], list(range(len(listed)))
        for row, image in zip(stored, pixels, strict=True):
            yield row, keys[row], image
        fresh: dict[int, Tensor] = {}
        new = [listed[place] for place in absent]
        for row, (key, image) in zip(new, pool.map(decode, new), strict=True):
            if isinstance(image, Tensor):
                fresh[key] = image
            yield row, key, image
        again = [row for row in listed if row not in {*stored, *new}]  # copies of those
        for row, (key, image) in zip(again, pool.map(decode, again), strict=True):
            yield row, key, image
        if fresh:
            self._keep(list(fresh), torch.stack(list(fresh.values())))

    def _missing(self, keys: Sequence[int]) -> list[int]:
        """Return the places of the keys whose pixels are not there, now that other processes may have kept some."""
        self.store.read()
        damaged = len(self.store.damaged)
        missing = self.store.missing(keys)
        for path in self.store.damaged[damaged:]:
            _say(f"{path} is damaged and was removed; its images are decoded again")
        return missing

    def _keep(self, keys: Sequence[int], pixels: Tensor) -> None:
        """Keep the pixels (n, 3, size, size) of files with this content, if there is room."""
        if self.full:
            return
        try:
            limit = min(self.limit, self.store.nbytes() + shutil.disk_usage(self.home).free // 2)
            if self.store.make_room(pixels.nbytes, limit):
                self.store.keep(keys, pixels)
            else:
                self.full = f"its limit of {limit / 1e9:.1f} GB is reached"
        except (OSError, SafetensorError) as error:
            self.full = str(error)

    def rows(self, keys: Sequence[int]) -> DecodedImages:
        """Return the pixels of these keys, as far as they are there, and say where they are not."""
        found = [key in self.store.known for key in keys]
        if self.full:
            _say(
                f"{sum(found):,} of {len(keys):,} decoded images are kept in {self.home}: {self.full}. The others are decoded "
                "at every use; hardware.image_cache is how many GB are allowed"
            )
        rows = self.store.rows([key for key, there in zip(keys, found, strict=True) if there])
        return DecodedImages(rows, torch.tensor(found, dtype=torch.bool))


class DecodedImages:
    """Pixels of some of N images.

    Args:
        rows: the pixels.
        there_N: of which images, bool (N,).
    """

    def __init__(self, rows: StoredRows, there_N: Tensor) -> None:
        self.rows = rows
        self.place_N = torch.where(there_N, there_N.cumsum(0) - 1, -1)

    def gather(self, rows: Sequence[int]) -> tuple[Tensor, list[int]]:
        """Return the pixels of those of the images that are there, (n, 3, H, W), and their places in the list.

        What another run has removed meanwhile to make room is not there.
        """
        places = self.place_N[torch.as_tensor(rows, dtype=torch.int64)]
        inside = (places >= 0).nonzero().squeeze(1)
        if not len(inside):
            return torch.empty(0), []
        try:
            return self.rows[places[inside]], inside.tolist()
        except FileNotFoundError:
            return torch.empty(0), []


def _say(line: str) -> None:
    if is_main_process():
        tqdm.write(line, file=sys.stderr)
