"""NYUv2 at 96 x 72 pixels: an indoor photograph, the class of each pixel, its depth, and the normals that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from tutelage.data.images import decoded

FILE = "nyuv2.parquet"
HEIGHT, WIDTH = 72, 96
CLASSES = 13
METRES = 10 / 255  # of one unit of the stored depth
FOCAL, CENTRE = (518.86, 519.47), (325.58, 253.74)  # pixels, of the camera's 640 x 480


@dataclass(frozen=True)
class Rooms:
    """Photographs and maps.

    Attributes:
        images: (N, 3, 72, 96) uint8.
        segmentation: (N, 72, 96) int8, a class from 0 to 12; -1 where it is unlabelled or another.
        depth: (N, 72, 96) float32 metres; NaN where it is unknown.
        normals: (N, 3, 72, 96) float32 of length 1, towards the camera; zero where the depth around is unknown.
        split: (N,) of "train" and "test": the official one.
    """

    images: Tensor
    segmentation: Tensor
    depth: Tensor
    normals: Tensor
    split: np.ndarray


def nyuv2_rooms(folder: str | Path) -> Rooms:
    """Read ``nyuv2.parquet``: image (encoded bytes), depth and segmentation13 (row-major bytes), split.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a map of another size.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        raise FileNotFoundError(f"folder={str(folder)!r} holds no {FILE}")
    table = pd.read_parquet(path)
    depth = torch.from_numpy(_maps(table["depth"], "depth").astype(np.float32)) * METRES
    depth[depth == 0] = torch.nan
    classes = _maps(table["segmentation13"], "segmentation13").astype(np.int8) - np.int8(1)
    return Rooms(
        decoded(table["image"], (HEIGHT, WIDTH), Image.Resampling.BICUBIC),
        torch.from_numpy(classes),
        depth,
        normals_of(depth),
        table["split"].to_numpy(),
    )


def normals_of(depth: Tensor, smoothing: int = 5) -> Tensor:
    """Return the surface normals of depth maps, (N, 3, H, W): the cross product of how the seen point moves along both axes.

    Pixels are put back into space by the camera's focal lengths and centre, for an image that is its 640 x 480 made smaller.
    Depth of 8 bits has steps of 4 cm, so it is averaged over a square window first.

    Args:
        depth: (N, H, W) metres, NaN where unknown.
        smoothing: side of the window in pixels, odd.
    """
    _, height, width = depth.shape
    known = (~torch.isnan(depth)).to(depth)[:, None]
    padding = smoothing // 2
    total = F.avg_pool2d(torch.nan_to_num(depth)[:, None], smoothing, 1, padding)
    share = F.avg_pool2d(known, smoothing, 1, padding)
    z = (total / share.clamp_min(1e-6))[:, 0]
    scale = (width / 640, height / 480)
    u = (torch.arange(width).to(depth) + 0.5 - scale[0] * CENTRE[0]) / (scale[0] * FOCAL[0])
    v = (torch.arange(height).to(depth) + 0.5 - scale[1] * CENTRE[1]) / (scale[1] * FOCAL[1])
    points = torch.stack([u * z, v[:, None] * z, z], dim=1)
    along_x, along_y = torch.zeros_like(points), torch.zeros_like(points)
    along_x[..., 1:-1] = points[..., 2:] - points[..., :-2]
    along_y[..., 1:-1, :] = points[..., 2:, :] - points[..., :-2, :]
    normals = torch.linalg.cross(along_y, along_x, dim=1)  # x to the right, y down, z away: towards the camera
    whole = -F.max_pool2d(-known, 3, 1, 1)[:, 0] > 0  # the pixel and all around it
    whole[:, :, [0, -1]] = False
    whole[:, [0, -1]] = False
    return F.normalize(normals, dim=1) * whole[:, None]


def _maps(cells: pd.Series, name: str) -> np.ndarray:
    for row, data in enumerate(cells):
        if len(data) != HEIGHT * WIDTH:
            raise ValueError(f"{FILE}: {name} of row {row} has {len(data)} bytes; {HEIGHT} x {WIDTH} are needed")
    return np.frombuffer(b"".join(cells), dtype=np.uint8).reshape(-1, HEIGHT, WIDTH)
