"""Rows on the disk: computed once whatever kills it, several at a time, and never damaged."""

import os
import pickle
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tutelage.data import stored_rows
from tutelage.data.stored_rows import RowStore

KEYS = [5, -7, 11, 5, 1 << 62, -(1 << 63), 3]


@pytest.fixture(autouse=True)
def _short_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_rows, "SEGMENT", 2)


class Computing:
    """Features that are a function of the key, and a note of which were computed; stops before the call ``stop``."""

    def __init__(self, stop: int | None = None) -> None:
        self.stop = stop
        self.calls: list[list[int]] = []

    def __call__(self, places: Sequence[int]) -> Tensor:
        if len(self.calls) == self.stop:
            raise KeyboardInterrupt
        self.calls.append([KEYS[place] for place in places])
        return torch.stack([expected(KEYS[place]) for place in places])


def expected(key: int) -> Tensor:
    """Two views of three numbers."""
    return torch.arange(6.0).reshape(2, 3) + key % 1000


def filled(folder: Path, computing: Computing) -> RowStore:
    store = RowStore(folder, "features")
    store.fill(KEYS, store.missing(KEYS), computing)
    return store


def test_what_is_stored_is_what_was_computed_and_equal_keys_are_computed_once(tmp_path):
    computing = Computing()
    store = filled(tmp_path / "new" / "store", computing)
    assert computing.calls == [[5, -7], [11, 1 << 62], [-(1 << 63), 3]]
    rows = torch.tensor([6, 0, 3, 5])
    wanted = torch.stack([expected(KEYS[row]) for row in rows])
    assert torch.equal(store.rows(KEYS)[rows], wanted)
    assert torch.equal(RowStore(tmp_path / "new" / "store", "features").rows(KEYS)[rows], wanted)


def test_a_second_run_computes_nothing_and_a_larger_one_what_is_new(tmp_path):
    filled(tmp_path, Computing())
    again = RowStore(tmp_path, "features")
    assert again.missing(KEYS) == []
    assert again.missing([*KEYS, 99, 3, 99]) == [len(KEYS)]


def test_a_killed_computation_goes_on_where_it_was(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        filled(tmp_path, Computing(stop=2))
    computing = Computing()
    store = filled(tmp_path, computing)
    assert computing.calls == [[-(1 << 63), 3]]
    everything = torch.arange(len(KEYS))
    assert torch.equal(store.rows(KEYS)[everything], torch.stack([expected(key) for key in KEYS]))


@pytest.mark.parametrize("damage", ["bit", "cut", "other"])
def test_a_damaged_file_is_removed_and_its_rows_alone_are_computed_again(tmp_path, damage):
    filled(tmp_path, Computing())
    broken = sorted(tmp_path.glob("*.safetensors"))[1]
    content = bytearray(broken.read_bytes())
    if damage == "bit":
        content[-5] ^= 4
    broken.write_bytes({"bit": content, "cut": content[:-8], "other": b"no safetensors"}[damage])
    store = RowStore(tmp_path, "features")
    missing = store.missing(KEYS)
    assert store.damaged == [broken]
    assert not broken.exists()
    computing = Computing()
    store.fill(KEYS, missing, computing)
    assert [len(call) for call in computing.calls] == [2]
    everything = torch.arange(len(KEYS))
    assert torch.equal(store.rows(KEYS)[everything], torch.stack([expected(key) for key in KEYS]))


def test_rows_that_another_process_has_computed_are_found(tmp_path):
    one, other = RowStore(tmp_path, "features"), RowStore(tmp_path, "features")
    one.fill(KEYS, [0, 1], Computing())
    assert other.missing(KEYS)[:2] == [0, 1]
    other.read()
    assert other.missing(KEYS) == [2, 4, 5, 6]
    assert torch.equal(other.rows(KEYS[:2])[torch.tensor([1])], expected(KEYS[1])[None])


def test_another_process_reads_the_same_files(tmp_path):
    rows = filled(tmp_path, Computing()).rows(KEYS)
    sent = pickle.dumps(rows)
    assert len(sent) < 4096
    assert torch.equal(pickle.loads(sent)[torch.tensor([2, 6])], rows[torch.tensor([2, 6])])


def test_what_was_used_least_lately_makes_room_and_what_is_in_use_does_not(tmp_path):
    for age, name in enumerate(("new", "old")):
        store = RowStore(tmp_path / name, "features")
        store.keep([1], expected(1)[None])
        os.utime(store.paths[0], (1e9 - age, 1e9 - age))
    size = store.nbytes() // 2
    mine = RowStore(tmp_path / "mine", "features")
    mine.keep([2], expected(2)[None])
    assert mine.nbytes() == 3 * size
    assert mine.make_room(size, 3 * size)
    assert [len(list((tmp_path / name).iterdir())) for name in ("new", "old", "mine")] == [1, 0, 1]
    assert not mine.make_room(3 * size, 3 * size)
    assert [len(list((tmp_path / name).iterdir())) for name in ("new", "old", "mine")] == [0, 0, 1]
