"""Features on the disk: computed once, found again, made anew where a file is damaged; and the table that yields them."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from tutelage.data import encoded, fingerprint
from tutelage.data.encoded import EncodedTable, FeatureStore, ImageFeatures, RandomView
from tutelage.data.table import ImageArray

KEYS = [5, -7, 11, 5, 1 << 62, -(1 << 63), 3]


@pytest.fixture(autouse=True)
def _short_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded, "SEGMENT", 2)


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


def filled(folder: Path, computing: Computing) -> FeatureStore:
    store = FeatureStore(folder)
    store.fill(KEYS, store.missing(KEYS), computing)
    return store


def test_what_is_stored_is_what_was_computed_and_equal_keys_are_computed_once(tmp_path):
    computing = Computing()
    store = filled(tmp_path / "new" / "store", computing)
    assert computing.calls == [[5, -7], [11, 1 << 62], [-(1 << 63), 3]]
    rows = torch.tensor([6, 0, 3, 5])
    wanted = torch.stack([expected(KEYS[row]) for row in rows])
    assert torch.equal(store.rows(KEYS)[rows], wanted)
    assert torch.equal(FeatureStore(tmp_path / "new" / "store").rows(KEYS)[rows], wanted)


def test_a_second_run_computes_nothing_and_a_larger_one_what_is_new(tmp_path):
    filled(tmp_path, Computing())
    again = FeatureStore(tmp_path)
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
    store = FeatureStore(tmp_path)
    assert store.damaged == [broken]
    assert not broken.exists()
    computing = Computing()
    store.fill(KEYS, store.missing(KEYS), computing)
    assert [len(call) for call in computing.calls] == [2]
    everything = torch.arange(len(KEYS))
    assert torch.equal(store.rows(KEYS)[everything], torch.stack([expected(key) for key in KEYS]))


def features(rows: Tensor, key: str = "a") -> ImageFeatures:
    return ImageFeatures(rows, key, torch.arange(6))


def test_features_are_standardised_over_the_views_of_the_training_rows():
    rows = torch.randn(9, 4, 3, generator=torch.Generator().manual_seed(0)) * 5 + 2
    rows[:, :, 2] = 7.0  # says nothing, and divides nothing by zero
    found = features(rows)
    assert (found.views, found.num_features) == (4, 3)
    flat = rows[:6].flatten(0, 1)
    assert torch.allclose(found.mean, flat.mean(0), atol=1e-6)
    assert torch.allclose(found.std[:2], flat.std(0, correction=0)[:2], atol=1e-5)
    scaled = found.gather(torch.arange(6)).flatten(0, 1)
    assert torch.allclose(scaled.mean(0), torch.zeros(3), atol=1e-5)
    assert torch.allclose(scaled.square().mean(0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-5)


def test_a_random_view_is_one_of_the_example_s_own():
    views = torch.arange(4 * 3, dtype=torch.float32).reshape(4, 3, 1).expand(4, 3, 2)
    torch.manual_seed(0)
    drawn = torch.stack([RandomView()(views) for _ in range(60)])
    assert drawn.shape == (60, 4, 2)
    for row in range(4):
        assert set(drawn[:, row, 0].tolist()) == {3.0 * row, 3.0 * row + 1, 3.0 * row + 2}
    assert len(set(map(str, drawn[:, :, 0].fmod(3).tolist()))) > 10  # not one draw for the whole batch


def test_the_table_yields_features_and_keeps_its_images():
    rows = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(1))
    images = ImageArray(torch.zeros(6, 3, 4, 4, dtype=torch.uint8))
    facts = pd.DataFrame({"id": list("abcdef"), "label": [0, 1] * 3, "split": "train"})
    table = EncodedTable(images, facts, features(rows))
    batch = table.subset([4, 1]).batch([1, 0])
    assert batch["index"].tolist() == [1, 4]
    assert torch.equal(batch["input"], table.features.gather(torch.tensor([1, 4])))
    assert table.num_features == 3
    moved = table.with_split(["test"] * 6)
    assert moved.rows("test").tolist() == list(range(6))
    assert moved.features is table.features
    assert fingerprint(table) == fingerprint(EncodedTable(images, facts, features(rows)))
    assert fingerprint(table) != fingerprint(EncodedTable(images, facts, features(rows, "b")))
