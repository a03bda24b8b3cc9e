"""Image files that a stranger might send, made in memory."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def photograph(seed: int = 0, width: int = 64, height: int = 48) -> Image.Image:
    """Noise of every scale, the coarse the strongest, as photographs have it."""
    rng = np.random.default_rng(seed)
    layers = []
    for octave in range(5):
        cells = rng.normal(128, 64, (3 * 2**octave, 4 * 2**octave, 3)).clip(0, 255).astype(np.uint8)
        layer = Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)
        layers.append(np.asarray(layer, dtype=np.float64) / 2**octave)
    return Image.fromarray((sum(layers) / (2 - 2**-4)).astype(np.uint8))


def png(width: int, height: int, compressed: bytes, extra: bytes = b"") -> bytes:
    """A grey 8-bit PNG with the given compressed rows, and other chunks before them."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", compressed) + chunk(b"IEND", b"")


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def zeros(count: int, block: int = 2**20) -> bytes:
    """`count` zero bytes as one valid zlib stream, without ever writing them down: a flushed block is repeated."""
    squeeze = zlib.compressobj(9, wbits=-15)
    one = squeeze.compress(bytes(block)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    tail = zlib.compressobj(9, wbits=-15)
    rest = tail.compress(bytes(count % block)) + tail.flush()
    return b"\x78\xda" + one * (count // block) + rest + struct.pack(">I", (count % 65521) << 16 | 1)


def bomb(side: int = 50_000) -> bytes:
    return png(side, side, zeros(side * (side + 1)))


def frames(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (32, 32), (80 * i, 0, 0)) for i in range(count)]


def animated(format: str, count: int = 3) -> bytes:
    first, *others = frames(count)
    return encoded(first, format, save_all=True, append_images=others)


def long_gif(count: int = 10_000) -> bytes:
    """A GIF of many frames, each the same block of bytes."""
    data = encoded(photograph(width=16, height=16).convert("P"), "GIF")
    start = 13 + 3 * 2 ** (data[10] % 8 + 1)  # behind the header and the colours
    assert data[start : start + 1] == b","
    return data[:start] + data[start:-1] * count + data[-1:]


def palette_with_transparency() -> bytes:
    """Left half transparent, right half green."""
    image = Image.new("P", (32, 32), 0)
    image.putpalette([10, 20, 30, 0, 255, 0])
    image.paste(1, (16, 0, 32, 32))
    return encoded(image, "PNG", transparency=0)


def polyglot() -> bytes:
    """A JPEG that is a ZIP archive and a web page as well."""
    return encoded(photograph(), "JPEG") + b"<script>alert(1)</script>PK\x05\x06" + bytes(18)
