"""Every image of a list decoded once: those that can be read are kept in memory or on the disk, the others listed."""

import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from tutelage.data.duplicates import Hashes, perceptual_hash
from tutelage.data.image_cache import ImageCache
from tutelage.data.problems import Problems
from tutelage.data.table import ImageArray, ImageFiles, Images
from tutelage.decoding import UnreadableImage
from tutelage.hardware import available_cpus

MEMORY = 2 << 30  # bytes of pixels that are kept in memory


def read_once(
    files: ImageFiles, ids: Iterable[str], memory_bytes: int, problems: Problems, cache_bytes: int = 0
) -> tuple[Images, NDArray[np.bool_], Hashes]:
    """Decode each image once; one that is refused is left out and listed.

    Args:
        files: N images.
        ids: their names in the list.
        memory_bytes: pixels are kept in memory up to this many bytes.
        problems: collects what is left out.
        cache_bytes: above, they are kept on the disk up to this many bytes, and beyond that decoded at every use.

    Returns:
        The n images that can be read, which these are, bool (N,), and their hashes (n, 4).
    """
    shape = (len(files), 3, files.size, files.size)
    pixels = torch.empty(shape, dtype=torch.uint8) if math.prod(shape) <= memory_bytes else None
    cache = ImageCache(files.size, files.limits, limit=cache_bytes) if pixels is None and cache_bytes else None
    hashes = np.zeros((len(files), 4), dtype=np.uint64)
    keys = np.zeros(len(files), dtype=np.int64)
    errors: list[UnreadableImage | None] = [None] * len(files)

    def look(row: int, image: Tensor | UnreadableImage) -> None:
        if isinstance(image, UnreadableImage):
            errors[row] = image
            return
        hashes[row] = perceptual_hash(image[None])[0]
        if pixels is not None:
            pixels[row] = image

    def decode(row: int) -> None:
        try:
            image: Tensor | UnreadableImage = files[row]
        except UnreadableImage as error:
            image = error
        look(row, image)

    with (
        ThreadPoolExecutor(min(available_cpus(), 16)) as pool,
        tqdm(desc="images", total=len(files), disable=None, leave=False) as bar,
    ):
        if cache is None:
            for _ in pool.map(decode, range(len(files))):
                bar.update()
        else:
            for row, key, image in cache.images(files, pool):
                keys[row] = key
                look(row, image)
                bar.update()
    for id, error in zip(ids, errors, strict=True):
        if error is not None:
            problems.add(id, error.reason, error.detail)
    readable = np.array([error is None for error in errors], dtype=bool)
    paths = [path for path, good in zip(files.paths, readable, strict=True) if good]
    known = None if cache is None else cache.rows(keys[readable].tolist())
    kept = ImageFiles(files.root, paths, files.size, files.limits, known)
    if pixels is None:
        return kept, readable, hashes[readable]
    whole = pixels if readable.all() else pixels[torch.from_numpy(readable)]
    return ImageArray(whole, kept), readable, hashes[readable]
