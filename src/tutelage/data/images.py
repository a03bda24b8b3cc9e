"""Images as tensors: one file that a stranger sent, or the files of a published data set."""

import io
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tutelage.decoding import Limits, decode, read_bytes


def read_image(path: str | os.PathLike[str], size: int, limits: Limits | None = None) -> Tensor:
    """Return a file as an upright RGB image, squeezed to a square, uint8 (3, size, size); see `tutelage.decoding.decode`.

    Args:
        path: the file. Links are followed; only a regular file is opened.
        size: side of the result, in pixels.
        limits: what is allowed; the default `Limits()` when None.

    Raises:
        UnreadableImage: whatever is wrong with the file, and nothing else.
    """
    limits = limits or Limits()
    return torch.from_numpy(decode(read_bytes(Path(path), limits), size, limits))


def decoded(
    files: Iterable[bytes], size: tuple[int, int], resampling: Image.Resampling = Image.Resampling.BOX
) -> Tensor:
    """Return images of a published data set, JPEG, PNG or WEBP, resized to (height, width): uint8 (N, 3, height, width)."""
    encoded = list(files)
    out = np.empty((len(encoded), *size, 3), dtype=np.uint8)
    for row, data in enumerate(encoded):
        with Image.open(io.BytesIO(data), formats=["JPEG", "PNG", "WEBP"]) as image:
            out[row] = np.asarray(image.convert("RGB").resize(size[::-1], resampling))
    return torch.from_numpy(out).permute(0, 3, 1, 2).contiguous()


def resized(images: Tensor, size: int) -> Tensor:
    """Return squares of another size, uint8 (N, C, size, size): bilinear with antialiasing."""
    if images.shape[-2:] == (size, size) or not len(images):
        return images
    scaled = torch.nn.functional.interpolate(images.float(), (size, size), mode="bilinear", antialias=True)
    return scaled.round().clamp(0, 255).byte()
