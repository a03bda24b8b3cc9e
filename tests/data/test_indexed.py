import subprocess
import sys

import pandas as pd
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset, random_split

from tutelage.data import (
    Batched,
    FeatureRows,
    ImageArray,
    ImageTable,
    Indexed,
    Rows,
    TensorData,
    WithColumns,
)
from tutelage.generations.chain import Relabelled

X, Y = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 2


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class ByTheBatch(TensorDataset):
    """A data set that offers PyTorch's own optional protocol: a list of examples."""

    def __getitems__(self, rows):
        return [self[row] for row in rows]


class HuggingFace:
    """As `datasets.Dataset`: rows by name; ``batch`` is something else there."""

    def __len__(self):
        return 6

    def __getitem__(self, row):
        return {"input": {"ids": X[row], "mask": Y[row]}, "label": int(Y[row]), "text": f"text {row}"}

    def __getitems__(self, rows):
        return [self[row] for row in rows]

    def batch(self, batch_size):
        raise AssertionError


class Stream(IterableDataset):
    def __iter__(self):
        return iter(X)


DATA_SETS = [TensorDataset(X, Y), ByTheBatch(X, Y), [{"input": x, "label": y} for x, y in zip(X, Y, strict=True)]]


@pytest.mark.parametrize("dataset", DATA_SETS, ids=lambda d: type(d).__name__)
def test_any_map_style_data_set(dataset):
    indexed = Indexed(dataset)
    assert len(indexed) == 6
    assert same(indexed[4], {"index": torch.tensor(4), "input": X[4], "label": Y[4]})
    assert same(indexed[-1], {"index": torch.tensor(5), "input": X[5], "label": Y[5]})
    assert [int(example["index"]) for example in indexed] == list(range(6))
    assert same(indexed.batch([5, 0]), {"index": torch.tensor([5, 0]), "input": X[[5, 0]], "label": Y[[5, 0]]})
    assert same(indexed.batch([5, 0]), TensorData(input=X, label=Y).batch([5, 0]))


DOORS = {
    "whole": lambda data: data,
    "Subset": lambda data: Subset(data, [5, 0, 1, 2, 3, 4]),
    "ConcatDataset": lambda data: ConcatDataset([data, Subset(data, [2, 3])]),
    "random_split": lambda data: random_split(data, [4, 2], torch.Generator().manual_seed(0))[0],
}


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.filterwarnings("ignore:.*fork"))])
@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_pytorchs_own_loader_takes_them(door, workers):
    for data in (Indexed(TensorDataset(X, Y)), TensorData(input=X, label=Y)):
        batches = list(DataLoader(door(data), 4, num_workers=workers))
        rows = torch.cat([batch["index"] for batch in batches])
        assert len(rows) == len(door(data))
        assert torch.equal(torch.cat([batch["input"] for batch in batches]), X[rows])
        assert torch.equal(torch.cat([batch["label"] for batch in batches]), Y[rows])


def test_every_data_set_of_ours_is_one_of_pytorchs():
    images = torch.arange(6 * 3 * 4, dtype=torch.uint8).reshape(6, 3, 2, 2)
    table = pd.DataFrame({"id": list("abcdef"), "label": Y.numpy(), "split": "train"})
    whole = TensorData(input=images, label=Y)
    for data in (
        ImageTable(ImageArray(images), table).subset(torch.tensor([4, 2, 0])),
        Rows(whole, torch.tensor([3, 1])),
        WithColumns(whole, votes=Y * 2),
        WithColumns(Indexed([(image, label) for image, label in zip(images, Y, strict=True)]), votes=Y * 2),
        FeatureRows(X.numpy(), torch.tensor([1, 5]), label=Y),
        Relabelled(whole, label=1 - Y),
    ):
        assert isinstance(data, Batched)
        (batch,) = DataLoader(data, len(data))
        assert same(batch, data.batch(range(len(data))))
        assert same(data[1], {name: value[1] for name, value in batch.items()})
        with pytest.raises(IndexError):
            data[len(data)]


def test_rows_of_a_hugging_face_data_set_stay_nested():
    (batch,) = DataLoader(Indexed(HuggingFace()), 6)
    assert same(batch["input"], {"ids": X, "mask": Y})
    assert torch.equal(batch["index"], torch.arange(6))
    assert torch.equal(batch["label"], Y)
    assert batch["text"][3] == "text 3"


def test_what_can_only_be_iterated_over_is_refused():
    with pytest.raises(TypeError, match="Stream can only be iterated over"):
        Indexed(Stream())


def test_plain_numbers_become_tensors_in_a_batch():
    assert same(Indexed([(1.5, 0), (2.5, 1)]).batch([1]), {
        "index": torch.tensor([1]), "input": torch.tensor([2.5], dtype=torch.float64), "label": torch.tensor([1]),
    })  # fmt: skip


def test_a_lone_input_has_no_label():
    assert Indexed(X)[2].keys() == {"index", "input"}
    assert same(Indexed(X).batch([2, 3]), {"index": torch.tensor([2, 3]), "input": X[[2, 3]]})


def test_tensor_data_keeps_names():
    data = TensorData(input=X, label=Y, votes=Y * 2)
    assert len(data) == 6
    assert same(data[3], {"index": torch.tensor(3), "input": X[3], "label": Y[3], "votes": Y[3] * 2})


def test_senseless_data():
    with pytest.raises(ValueError, match="tuples of 3"):
        Indexed(TensorDataset(X, Y, Y))[0]
    with pytest.raises(ValueError, match="already hold an 'index'"):
        Indexed(Indexed(X))[0]
    with pytest.raises(ValueError, match="one common length"):
        TensorData(input=X, label=Y[:3])
    with pytest.raises(ValueError, match="one common length"):
        TensorData()
    with pytest.raises(ValueError, match="'index'"):
        TensorData(index=Y)


def test_the_room_opens_without_any_extra():
    code = (
        "import sys, tutelage.data as room\n"
        "heavy = {'pandas', 'PIL', 'timm', 'torchvision', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert all(hasattr(room, name) for name in dir(room))\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
