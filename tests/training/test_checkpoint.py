"""A checkpoint survives a death at any moment, a full disk and a damaged file."""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from safetensors import SafetensorError

import processes
from tutelage.files import save_tensors
from tutelage.training import DamagedCheckpoint, Log, checkpoint

OLD, NEW = {"step": 1, "weights": torch.arange(5.0)}, {"step": 2, "weights": torch.arange(5.0) + 1}


def at_call(number: int, real: Callable[..., Any], happens: Callable[[], None]) -> Callable[..., Any]:
    """Return ``real``, to which something happens at its n-th call (from 0), before it does its work."""
    calls = iter(range(1_000_000))

    def replaced(*arguments: Any, **named: Any) -> Any:
        if next(calls) == number:
            happens()
        return real(*arguments, **named)

    return replaced


def half_written(state: Any, file: Any) -> None:
    file.write(b"PK\x03\x04 the beginning of an archive")


STAGES: dict[str, Callable[[Callable[[], None]], tuple[Any, str, Callable[..., Any]]]] = {
    "before writing": lambda happens: (torch, "save", at_call(0, torch.save, happens)),
    "while writing": lambda happens: (torch, "save", lambda *a: (half_written(*a), happens())),
    "before the old one is kept": lambda happens: (os, "replace", at_call(0, os.replace, happens)),
    "before the flush": lambda happens: (os, "fsync", at_call(0, os.fsync, happens)),
    "before the new one is put in place": lambda happens: (os, "replace", at_call(1, os.replace, happens)),
}


def dies(folder: Path, stage: str) -> None:
    setattr(*STAGES[stage](lambda: os._exit(9)))
    checkpoint.save(folder, NEW)


@pytest.mark.parametrize("stage", STAGES)
def test_a_death_at_any_stage_leaves_the_old_one(stage: str, tmp_path: Path) -> None:
    checkpoint.save(tmp_path, OLD)
    process = processes.started(dies, tmp_path, stage)
    process.join()
    assert process.exitcode == 9
    runs.same(checkpoint.load(tmp_path), OLD)

    checkpoint.save(tmp_path, NEW)  # and the next one is as if nothing had been
    runs.same(checkpoint.load(tmp_path), NEW)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {checkpoint.CURRENT, checkpoint.PREVIOUS}
    (tmp_path / checkpoint.CURRENT).unlink()
    runs.same(checkpoint.load(tmp_path), OLD)


@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_leaves_the_old_one(stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    checkpoint.save(tmp_path, OLD)
    with monkeypatch.context() as patch:
        patch.setattr(*STAGES[stage](full))
        with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path / checkpoint.CURRENT}'"):
            checkpoint.save(tmp_path, NEW)
    runs.same(checkpoint.load(tmp_path), OLD)
    assert list(tmp_path.glob(".*")) == []  # what could not be finished takes no room
    checkpoint.save(tmp_path, NEW)
    runs.same(checkpoint.load(tmp_path), NEW)


def truncate(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_the_one_before_is_used_where_the_newest_is_truncated(share: float, tmp_path: Path) -> None:
    checkpoint.save(tmp_path, OLD)
    checkpoint.save(tmp_path, NEW)
    truncate(tmp_path / checkpoint.CURRENT, share)
    with pytest.warns(DamagedCheckpoint, match=rf"going on from .*{checkpoint.PREVIOUS}, since .*{checkpoint.CURRENT}"):
        runs.same(checkpoint.load(tmp_path), OLD)


def test_a_flipped_byte_is_seen_wherever_it_lies_in_the_content(tmp_path: Path) -> None:
    """PyTorch's own reader takes it."""
    checkpoint.save(tmp_path, OLD)
    checkpoint.save(tmp_path, NEW)
    path = tmp_path / checkpoint.CURRENT
    content = bytearray(path.read_bytes())
    place = content.find(NEW["weights"].numpy().tobytes())
    content[place + 7] ^= 1
    path.write_bytes(content)
    assert not torch.equal(torch.load(path)["weights"], NEW["weights"])
    with pytest.warns(DamagedCheckpoint, match=r"the checksum of .*data/0 is wrong"):
        runs.same(checkpoint.load(tmp_path), OLD)


class Disk:
    """A file on a disk with little room."""

    def __init__(self, path: Any, mode: str, room: int) -> None:
        self.file = open(path, mode)  # noqa: SIM115
        self.room = room

    def __enter__(self) -> "Disk":
        return self

    def __exit__(self, *_: Any) -> None:
        self.file.close()

    def flush(self) -> None:
        self.file.flush()

    def write(self, data: Any) -> int:
        self.room -= memoryview(data).nbytes
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(data)


def test_a_disk_that_fills_while_tensors_are_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch's archive answers "[enforce fail at inline_container.cc] unexpected pos"."""
    checkpoint.save(tmp_path, OLD)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "open", lambda path, mode: Disk(path, mode, 10_000), raising=False)
        with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path / checkpoint.CURRENT}'"):
            checkpoint.save(tmp_path, {"weights": torch.zeros(100_000)})
    runs.same(checkpoint.load(tmp_path), OLD)


def test_a_log_on_a_full_disk_names_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = sys.modules["tutelage.training.log"]

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(log, "open", full, raising=False)
    with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path}/log.jsonl'"):
        Log(tmp_path / "log.jsonl").event("evaluation")


def test_two_damaged_ones_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, OLD)
    checkpoint.save(tmp_path, NEW)
    for name in (checkpoint.CURRENT, checkpoint.PREVIOUS):
        truncate(tmp_path / name, 0.5)
    with pytest.raises(ValueError, match=rf"{checkpoint.CURRENT}.*{checkpoint.PREVIOUS}.*delete {tmp_path}"):
        checkpoint.load(tmp_path)


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path / "nowhere") is None
    assert checkpoint.load(tmp_path) is None


class Payload:
    """What unpickling would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("unpickled",)


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"step": Payload()}, tmp_path / checkpoint.CURRENT)
    with pytest.raises(ValueError, match="no checkpoint can be read"):
        checkpoint.load(tmp_path)
    assert not (tmp_path / "unpickled").exists()


def test_training_goes_on_from_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tutelage.training.checkpoint.due", lambda *_: True)
    whole = runs.whole_training(tmp_path / "straight")
    with pytest.raises(runs.PowerCut):
        runs.whole_training(tmp_path / "damaged", jitter=runs.Jitter(at=5))
    truncate(tmp_path / "damaged" / checkpoint.CURRENT, 0.5)
    with pytest.warns(DamagedCheckpoint):
        found = runs.whole_training(tmp_path / "damaged")
    runs.same(dict(found.model.state_dict()), dict(whole.model.state_dict()))


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library raises one of its own, which no caller would take for a full disk."""
    with pytest.raises(FileNotFoundError):
        save_tensors({"a": torch.zeros(9)}, tmp_path / "nowhere" / "a")

    def full(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path / 'a'}'") as caught:
        save_tensors({"a": torch.zeros(9)}, tmp_path / "a")
    assert caught.value.errno == errno.ENOSPC
