"""Decoded images on the disk: the same bits as decoding, found by content, within a limit, and never damaged."""

import pickle
import shutil
from pathlib import Path

import hostile
import pytest
import torch

import processes
from tutelage.data import Problems, image_cache, stored_rows, table
from tutelage.data.image_cache import content_key
from tutelage.data.read_once import read_once
from tutelage.data.table import ImageFiles

SIZE, COUNT = 16, 10
BYTES = 3 * SIZE * SIZE  # of an image
ROOM = 1 << 20


@pytest.fixture(autouse=True)
def _short_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in (stored_rows, image_cache):
        monkeypatch.setattr(module, "SEGMENT", 4)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def photographs(tmp_path: Path) -> ImageFiles:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for row in range(COUNT - 1):
        (folder / f"{row}.jpg").write_bytes(hostile.encoded(hostile.photograph(row), "JPEG"))
    (folder / "2.jpg").write_bytes(b"no image")
    shutil.copy(folder / "0.jpg", folder / f"{COUNT - 1}.jpg")
    return ImageFiles(folder, [f"{row}.jpg" for row in range(COUNT)], SIZE)


def read(files: ImageFiles, cache_bytes: int = ROOM) -> tuple[ImageFiles, Problems]:
    """Read images that do not fit in memory, and compare all that is found with what plain decoding finds."""
    problems, plain = Problems(), Problems()
    found, *facts = read_once(files, map(str, range(len(files))), 0, problems, cache_bytes)
    wanted, *others = read_once(files, map(str, range(len(files))), 0, plain)
    assert isinstance(found, ImageFiles)
    assert list(problems) == list(plain)
    assert all((one == other).all() for one, other in zip(facts, others, strict=True))
    everything = list(range(len(found)))
    assert torch.equal(found.gather(everything), wanted.gather(everything))
    assert torch.equal(found.gather([5, 1, 5]), wanted.gather([5, 1, 5]))
    assert torch.equal(found[8], wanted[8])
    return found, problems


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "tutelage" / "images").rglob("*.safetensors"))


def refuse(*_: object) -> None:
    raise AssertionError("decoded again")


def test_images_are_decoded_once_whatever_their_files_are_called(photographs, tmp_path, monkeypatch):
    found, problems = read(photographs)
    assert problems.counts() == {"format": 1}
    moved = tmp_path / "moved"
    shutil.copytree(photographs.root, moved)
    (moved / "2.jpg").unlink()
    paths = [path for path in reversed(photographs.paths) if path != "2.jpg"]
    files = kept(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(table, "decode", refuse)
        again = read_once(ImageFiles(moved, paths, SIZE), paths, 0, Problems(), ROOM)[0]
        assert torch.equal(again.gather(range(9)), found.gather(range(9)).flip(0))
    assert kept(tmp_path) == files


def test_a_loader_of_another_process_reads_them_too(photographs):
    found, _ = read(photographs)
    assert torch.equal(pickle.loads(pickle.dumps(found)).gather([3, 0]), found.gather([3, 0]))


def test_another_size_is_another_image_and_so_is_another_content(photographs, tmp_path):
    first, _ = read(photographs)
    read(ImageFiles(photographs.root, photographs.paths, SIZE + 1))
    (photographs.root / "1.jpg").write_bytes(hostile.encoded(hostile.photograph(77), "JPEG"))
    second, _ = read(photographs)
    assert not torch.equal(first[1], second[1])


def test_a_damaged_file_is_told_and_decoded_again(photographs, tmp_path, capfd):
    read(photographs)
    capfd.readouterr()
    broken = kept(tmp_path)[0]
    content = bytearray(broken.read_bytes())
    content[-5] ^= 4
    broken.write_bytes(content)
    read(photographs)
    assert f"{broken} is damaged and was removed; its images are decoded again" in capfd.readouterr().err
    read(photographs)
    assert capfd.readouterr().err == ""


def test_what_finds_no_room_is_decoded_at_every_use_and_that_is_said(photographs, tmp_path, capfd, monkeypatch):
    read(photographs, cache_bytes=5 * BYTES)
    said = capfd.readouterr().err
    assert "3 of 9 decoded images are kept in" in said or "4 of 9 decoded images are kept in" in said, said
    assert "its limit of 0.0 GB is reached" in said
    shutil.rmtree(tmp_path / "cache")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stored_rows, "write_atomically", full)
    read(photographs)
    assert "0 of 9 decoded images are kept" in (said := capfd.readouterr().err)
    assert "No space left on device" in said


def test_images_of_other_runs_make_room(photographs, tmp_path, capfd):
    read(photographs)
    others = kept(tmp_path)
    size = sum(path.stat().st_size for path in others)
    read(ImageFiles(photographs.root, photographs.paths, SIZE + 1), cache_bytes=int(1.5 * size))
    assert capfd.readouterr().err == ""
    assert len(set(others) & set(kept(tmp_path))) < len(others)
    read(photographs)


def test_what_another_run_has_removed_is_decoded(photographs, tmp_path):
    found, _ = read(photographs)
    sent = pickle.dumps(found)
    wanted = found.gather(range(9))
    shutil.rmtree(tmp_path / "cache")
    assert torch.equal(found.gather(range(9)), wanted)  # mapped before
    assert torch.equal(pickle.loads(sent).gather(range(9)), wanted)


def read_in_a_process(folder: Path, paths: list[str], out: Path) -> None:
    found = read_once(ImageFiles(folder, paths, SIZE), paths, 0, Problems(), ROOM)[0]
    torch.save(found.gather(range(len(found))), out)


def test_several_processes_fill_it_at_once(photographs, tmp_path):
    outs = [tmp_path / f"{number}.pt" for number in range(2)]
    readers = [processes.started(read_in_a_process, photographs.root, photographs.paths, out) for out in outs]
    for reader in readers:
        reader.join(processes.PATIENCE)
    found, _ = read(photographs)
    for out in outs:
        assert torch.equal(torch.load(out), found.gather(range(9)))


def test_a_key_is_a_hash_of_the_content():
    assert content_key(b"a") == content_key(b"a") != content_key(b"b")
    assert -(1 << 63) <= content_key(b"a") < 1 << 63
