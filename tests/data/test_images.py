"""Hostile images: each is either read rightly or refused with a stable reason, cheaply and without a warning."""

import io
import os
import pickle
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hostile
import numpy as np
import pytest
import torch
from PIL import Image, ImageFile, ImageOps

from tutelage.data.images import read_image
from tutelage.decoding import Limits, UnreadableImage, locate


def read(folder: Path, data: bytes, size: int = 32, name: str = "image.jpg", **limits) -> torch.Tensor:
    (folder / name).write_bytes(data)
    return read_image(folder / name, size, Limits(**limits))


def reason(folder: Path, data: bytes, **limits) -> str:
    with pytest.raises(UnreadableImage) as caught:
        read(folder, data, **limits)
    assert str(caught.value).startswith(caught.value.reason)
    return caught.value.reason


def flat(image: torch.Tensor) -> list[int]:
    """The one colour of an image."""
    colours = image.flatten(1).unique(dim=1)
    assert colours.shape == (3, 1)
    return colours[:, 0].tolist()


JPEG = hostile.encoded(hostile.photograph(), "JPEG")
PNG = hostile.encoded(hostile.photograph(), "PNG")
WEBP = hostile.encoded(hostile.photograph(), "WEBP")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "empty"),
        (b"this is no image" * 4, "format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "format"),
        (hostile.encoded(hostile.photograph(), "BMP"), "format"),
        (JPEG[: len(JPEG) // 2], "truncated"),
        (PNG[: len(PNG) // 2], "truncated"),
        (WEBP[: len(WEBP) // 2], "truncated"),
        (JPEG[:3] + bytes(99), "corrupt"),
        (PNG[:12] + bytes(99), "corrupt"),
        (b"RIFF\x40\0\0\0WEBP" + bytes(60), "corrupt"),
        (hostile.encoded(Image.new("RGB", (1, 1)), "PNG"), "too_small"),
        (hostile.encoded(Image.new("RGB", (1, 60_000)), "PNG"), "too_small"),
        (hostile.encoded(Image.new("RGB", (9, 60_000)), "PNG"), "aspect"),
        (hostile.animated("PNG"), "animated"),
        (hostile.animated("WEBP"), "animated"),
        (hostile.animated("GIF"), "format"),
        (hostile.long_gif(), "format"),
        (hostile.png(32, 32, b"", hostile.chunk(b"zTXt", b"a\0\0" + hostile.zeros(10**9))), "corrupt"),
    ],
)
def test_refused(tmp_path, data, expected):
    assert reason(tmp_path, data) == expected


def test_header_decides_before_a_pixel_is_decoded(tmp_path, monkeypatch):
    def load(self):
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    assert reason(tmp_path, hostile.bomb()) == "too_many_pixels"
    assert reason(tmp_path, hostile.bomb(12_000)) == "too_many_pixels"  # where Pillow would only warn
    assert reason(tmp_path, PNG, max_pixels=64 * 48 - 1) == "too_many_pixels"
    assert reason(tmp_path, PNG, max_bytes=len(PNG) - 1) == "too_many_bytes"
    assert reason(tmp_path, hostile.encoded(Image.new("1", (8, 161)), "PNG")) == "aspect"
    assert reason(tmp_path, hostile.long_gif(), formats=("GIF",)) == "animated"


def test_the_bomb_is_a_valid_image():
    inflate = zlib.decompressobj()
    data = hostile.zeros(3 * 2**20 + 5)
    assert inflate.decompress(data) == bytes(3 * 2**20 + 5)
    assert inflate.eof


def test_limits_are_inclusive(tmp_path):
    assert read(tmp_path, PNG, max_pixels=64 * 48, max_bytes=len(PNG), min_side=48, max_aspect=64 / 48).shape == (
        3,
        32,
        32,
    )


def test_first_frame_where_asked(tmp_path):
    for format in ("PNG", "WEBP", "GIF"):
        image = read(tmp_path, hostile.animated(format), animated="first_frame", formats=(format,))
        assert flat(image) == [0, 0, 0]


def test_content_and_not_the_name_decides(tmp_path):
    by_name = [read(tmp_path, PNG, name=name) for name in ("a.png", "a.jpg", "a.exe", "a")]
    assert all(image.equal(by_name[0]) for image in by_name)


def test_polyglot_is_read_as_the_image_that_it_starts_as(tmp_path):
    assert read(tmp_path, hostile.polyglot()).equal(read(tmp_path, JPEG))
    assert reason(tmp_path, b"%PDF-1.7\n" + PNG) == "format"


def test_multi_picture_jpeg_is_no_animation(tmp_path):
    data = hostile.encoded(hostile.photograph(), "MPO", save_all=True, append_images=[hostile.photograph(1)])
    assert read(tmp_path, data).shape == (3, 32, 32)


def test_cmyk(tmp_path):
    red, green, blue = flat(read(tmp_path, hostile.encoded(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "JPEG")))
    assert red > 250
    assert max(green, blue) < 5


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (255, 0), (256, 1), (40_000, 156), (65_535, 255)])
def test_16_bits_are_scaled_and_not_clipped(tmp_path, value, expected):
    data = hostile.encoded(Image.fromarray(np.full((32, 32), value, dtype=np.uint16)), "PNG")
    assert flat(read(tmp_path, data)) == [expected] * 3


def test_transparency_lies_on_white(tmp_path):
    image = read(tmp_path, hostile.palette_with_transparency())
    assert image[:, :, :14].eq(255).all()
    assert flat(image[:, :, 18:]) == [0, 255, 0]
    nothing = [
        hostile.encoded(Image.new("LA", (32, 32), (7, 0)), "PNG"),
        hostile.encoded(Image.new("RGBA", (32, 32), (7, 8, 9, 0)), "PNG"),
        hostile.encoded(Image.new("RGBA", (32, 32), (7, 8, 9, 0)), "WEBP", lossless=True),
        hostile.encoded(Image.new("RGB", (32, 32), (1, 2, 3)), "PNG", transparency=(1, 2, 3)),
        hostile.encoded(Image.new("L", (32, 32), 5), "PNG", transparency=5),
        hostile.encoded(Image.fromarray(np.full((32, 32), 40_000, dtype=np.uint16)), "PNG", transparency=40_000),
    ]
    assert [flat(read(tmp_path, data)) for data in nothing] == [[255] * 3] * len(nothing)
    half = hostile.encoded(Image.new("RGBA", (32, 32), (0, 0, 0, 51)), "PNG")
    assert flat(read(tmp_path, half)) == [204] * 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = hostile.encoded(hostile.photograph(), "PNG", exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).resize((32, 32), Image.Resampling.BICUBIC)
    assert np.array_equal(read(tmp_path, data).permute(1, 2, 0), np.asarray(upright))


def test_broken_exif_leaves_the_pixels(tmp_path):
    broken = hostile.encoded(hostile.photograph(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 40)
    assert read(tmp_path, broken).equal(read(tmp_path, JPEG))


def test_large_jpeg_decoded_at_a_fraction_is_the_same_picture(tmp_path):
    large = hostile.photograph(width=1200, height=900)
    jpeg = read(tmp_path, hostile.encoded(large, "JPEG", quality=95), size=64).float()
    png = read(tmp_path, hostile.encoded(large, "PNG"), size=64).float()
    assert (jpeg - png).abs().mean() < 2


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")  # opening it would wait for a writer for ever
    (tmp_path / "locked.jpg").symlink_to("locked.jpg")
    for path, expected in {
        "pipe.jpg": "not_a_file",
        ".": "not_a_file",
        "none.jpg": "missing",
        "x" * 999: "not_a_file",
    }.items():
        with pytest.raises(UnreadableImage) as caught:
            read_image(tmp_path / path, 32)
        assert caught.value.reason == expected


def test_paths_stay_under_their_root(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.png").write_bytes(PNG)
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    assert locate(root, "sub/../a.png") == root.resolve() / "a.png"
    assert locate(root, str(root / "a.png")) == root.resolve() / "a.png"
    for path in ("../secret.png", "link.png", str(tmp_path / "secret.png"), "sub/../../secret.png", "../root2/a.png"):
        with pytest.raises(UnreadableImage, match="outside_root"):
            locate(root, path)
    for path in ("loop.png", "a\0b.png"):
        with pytest.raises(UnreadableImage, match="not_a_file"):
            locate(root, path)


def test_threads_leave_the_warning_filters_alone(tmp_path):
    files = []
    for i, data in enumerate(
        [PNG, hostile.bomb(12_000), hostile.encoded(hostile.photograph(), "JPEG", exif=b"Exif\0\0MM\0*")]
    ):
        files.append(tmp_path / str(i))
        files[-1].write_bytes(data)

    def attempt(path: Path) -> bool:
        try:
            return read_image(path, 16).shape == (3, 16, 16)
        except UnreadableImage:
            return False

    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(attempt, files * 60))
    assert done == [True, False, True] * 60
    assert warnings.filters == before


def test_reading_cut_files_as_whole_ones_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(RuntimeError, match="LOAD_TRUNCATED_IMAGES"):
        read(tmp_path, PNG)


def test_error_and_limits_travel_between_processes():
    error = pickle.loads(pickle.dumps(UnreadableImage("empty", "0 bytes")))
    assert (error.reason, str(error)) == ("empty", "empty: 0 bytes")
    assert pickle.loads(pickle.dumps(Limits(min_side=3))) == Limits(min_side=3)


@pytest.mark.parametrize("limits", [{"max_bytes": 0}, {"max_aspect": 0.5}, {"formats": ()}, {"animated": "maybe"}])
def test_senseless_limits(limits):
    with pytest.raises(ValueError, match=rf"limits\.{next(iter(limits))}"):
        Limits(**limits)


def test_the_long_gif_has_that_many_frames():
    with Image.open(io.BytesIO(hostile.long_gif(50))) as image:
        assert image.n_frames == 50
