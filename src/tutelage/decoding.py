"""Read an image that a stranger sent: caps before decoding, one stable reason for every refusal.

Training, prediction and the service all decode here; PyTorch is not needed.
"""

import io
import os
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from tutelage.checks import check

Reason = Literal[
    "outside_root", "missing", "not_a_file", "empty", "too_many_bytes", "format",
    "too_many_pixels", "too_small", "aspect", "animated", "truncated", "corrupt",
]  # fmt: skip

Result = TypeVar("Result")

_ORIENTATION = 0x0112  # the EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF",
    b"MM\0*": "TIFF", b"%PDF": "PDF", b"<svg": "SVG", b"<": "markup", b"PK\3\4": "ZIP", b"SIMPLE": "FITS",
}  # fmt: skip


class UnreadableImage(ValueError):
    """An image that was refused; `reason` is a stable code to count by, `detail` a sentence for people."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True)
class Limits:
    """What an image file may be. Everything but `formats` of pixels is judged from the header, before decoding.

    Args:
        max_bytes: largest file read.
        max_pixels: largest width x height; Pillow's own cap (about 179 million) stays in force above it.
        min_side: shortest side, in pixels.
        max_aspect: longest side over shortest side.
        formats: Pillow names of the formats allowed, told by content; a file's extension is ignored.
        animated: a label speaks of the whole animation and a model sees one frame, so that a benign first
            frame could hide the rest: `refuse` (default) lists the image, `first_frame` takes the risk.
    """

    max_bytes: int = 32 * 2**20
    max_pixels: int = 50_000_000
    min_side: int = 8
    max_aspect: float = 20.0
    formats: tuple[str, ...] = ("JPEG", "PNG", "WEBP")
    animated: Literal["refuse", "first_frame"] = "refuse"

    def __post_init__(self) -> None:
        """Check the values."""
        check(self, "limits", **dict.fromkeys(("max_bytes", "max_pixels", "min_side", "max_aspect"), "[1, inf)"))
        if not self.formats:
            raise ValueError("limits.formats is empty: no image could be read. Name one, such as 'JPEG'.")


def locate(root: str | os.PathLike[str], path: str) -> Path:
    """Return the file `path` under the folder `root`, links followed.

    Raises:
        UnreadableImage: the path leads out of the folder (`..`, absolute, by a link) or cannot be a path.
    """
    try:
        inside = Path(root).resolve()
        found = (inside / path).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a name too long, a NUL in it, a loop of links
        raise UnreadableImage("not_a_file", f"{path!s:.200} cannot be a path: {error}") from error
    if not found.is_relative_to(inside):
        raise UnreadableImage("outside_root", f"{path} leads out of {root}")
    return found


def decode(data: bytes, size: int, limits: Limits | None = None) -> NDArray[np.uint8]:
    """Return an image file's bytes as an upright RGB image, squeezed to a square: uint8 (3, size, size).

    Transparency is laid on white, 16 bits are scaled to 8, CMYK becomes RGB, the EXIF orientation is applied.
    The sides are scaled separately and nothing is cropped: what a policy forbids may stand at an edge. Bytes
    after the image's end (a polyglot's second half) are never looked at. A truncated file is refused.

    Args:
        data: the file's content.
        size: side of the result, in pixels.
        limits: what is allowed; the default `Limits()` when None.

    Raises:
        UnreadableImage: whatever is wrong with the file, and nothing else.
    """

    def squeezed(image: Image.Image) -> NDArray[np.uint8]:
        image.draft("RGB", (2 * size, 2 * size))  # JPEG only: decode at a fraction of the resolution
        pixels = np.array(_upright_rgb(image).resize((size, size), Image.Resampling.BICUBIC))
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    return _opened(data, limits or Limits(), squeezed)


def preview(data: bytes, longest: int, limits: Limits | None = None) -> bytes:
    """Return an image file's bytes as a JPEG file for people: upright, no side longer than ``longest``, no metadata.

    Arguments and errors are those of `decode`.
    """

    def shrunk(image: Image.Image) -> bytes:
        upright = _upright_rgb(image)
        upright.thumbnail((longest, longest), Image.Resampling.BICUBIC)
        file = io.BytesIO()
        Image.fromarray(np.asarray(upright)).save(
            file, "JPEG", quality=92
        )  # which leaves behind what else the file said
        return file.getvalue()

    return _opened(data, limits or Limits(), shrunk)


def _opened(data: bytes, limits: Limits, use: Callable[[Image.Image], Result]) -> Result:
    """Return what ``use`` makes of an image that may be decoded."""
    if not data:
        raise UnreadableImage("empty", "0 bytes")
    if len(data) > limits.max_bytes:
        raise UnreadableImage("too_many_bytes", f"{len(data)} bytes or more; allowed: {limits.max_bytes}")
    with _quiet_decoder():
        try:
            with Image.open(io.BytesIO(data), formats=limits.formats) as image:
                _check_header(image, limits)
                return use(image)
        except UnreadableImage:
            raise
        except UnidentifiedImageError as error:
            found = _signature(data)
            if found in limits.formats:
                raise UnreadableImage("corrupt", f"starts as {found}, but its header cannot be read") from error
            allowed = ", ".join(limits.formats)
            raise UnreadableImage("format", f"content is {found}; allowed: {allowed}") from error
        except Image.DecompressionBombError as error:
            raise UnreadableImage("too_many_pixels", str(error)) from error
        except Exception as error:  # a decoder fed by a stranger may raise anything; no file ends a run
            reason: Reason = "truncated" if "truncated" in str(error).lower() or _cut_webp(data) else "corrupt"
            raise UnreadableImage(reason, f"{type(error).__name__}: {error}") from error


def read_bytes(path: Path, limits: Limits) -> bytes:
    """Return the content of a regular file, and of one that is too large no more than a byte too many.

    Raises:
        UnreadableImage: there is no such file, or it cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would block for ever
            raise UnreadableImage("not_a_file", f"{path} is not a regular file")
        with path.open("rb") as file:
            return file.read(limits.max_bytes + 1)
    except UnreadableImage:
        raise
    except FileNotFoundError as error:
        raise UnreadableImage("missing", f"{path} does not exist") from error
    except (OSError, ValueError) as error:  # no permission, a name too long, a NUL in the name
        raise UnreadableImage("not_a_file", f"{path!s:.200} cannot be opened: {error}") from error


def _check_header(image: Image.Image, limits: Limits) -> None:
    """Refuse by what the header claims: no pixel has been decoded yet."""
    width, height = image.size
    short, long = min(width, height), max(width, height)
    if width * height > limits.max_pixels:
        raise UnreadableImage("too_many_pixels", f"{width}x{height} pixels; allowed: {limits.max_pixels}")
    if short < limits.min_side:
        raise UnreadableImage("too_small", f"{width}x{height} pixels; shortest side allowed: {limits.min_side}")
    if long > limits.max_aspect * short:
        raise UnreadableImage("aspect", f"{width}x{height} pixels; aspect ratio allowed: {limits.max_aspect:g}")
    several = getattr(image, "is_animated", False) and image.format != "MPO"  # MPO: a JPEG with a depth map
    if several and limits.animated == "refuse":
        raise UnreadableImage("animated", "several frames, of which a model would see only the first")


def _upright_rgb(image: Image.Image) -> Image.Image:
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken EXIF beside sound pixels is common: the pixels decide
        turn = None
    if image.mode.startswith("I"):  # 16 bits a pixel; Pillow's own conversion clips at 255
        values = np.asarray(image)
        white = values == image.info.get("transparency", -1)
        image = Image.fromarray(np.where(white, 255, values >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    return image if turn is None else image.transpose(turn)


def _signature(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        return "AVIF, HEIC or video"
    return next((name for start, name in _SIGNATURES.items() if data.startswith(start)), "no known image")


def _cut_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and len(data) < 8 + int.from_bytes(data[4:8], "little")


_quiet_lock = threading.Lock()
_quiet_depth = 0
_quiet_filters = warnings.catch_warnings()


@contextmanager
def _quiet_decoder() -> Iterator[None]:
    """Silence Pillow's warnings (bombs, bad EXIF) while any thread decodes: we refuse by our own caps.

    `catch_warnings` alone is not safe among threads, which would restore each other's filters.
    """
    global _quiet_depth, _quiet_filters
    with _quiet_lock:
        if _quiet_depth == 0:
            if ImageFile.LOAD_TRUNCATED_IMAGES:
                raise RuntimeError(
                    "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on: a cut file would be read as a whole one. Leave it off."
                )
            _quiet_filters = warnings.catch_warnings()
            _quiet_filters.__enter__()
            warnings.simplefilter("ignore")
        _quiet_depth += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0:
                _quiet_filters.__exit__(None, None, None)
