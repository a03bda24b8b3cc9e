import subprocess
import sys

import pytest
import torch
from torch.utils.data import TensorDataset

from tutelage.data import Indexed, TensorData

X, Y = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 2


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class ByTheBatch(TensorDataset):
    """A data set that offers PyTorch's own optional protocol: a list of examples."""

    def __getitems__(self, rows):
        return [self[row] for row in rows]


class Dicts:
    def __len__(self):
        return 6

    def __getitem__(self, row):
        return {"input": X[row], "label": Y[row]}


class DictBatches(Dicts):
    def __getitems__(self, rows):
        return {"input": X[rows], "label": Y[rows]}


@pytest.mark.parametrize(
    "dataset", [TensorDataset(X, Y), ByTheBatch(X, Y), Dicts(), DictBatches()], ids=lambda d: type(d).__name__
)
def test_any_map_style_data_set(dataset):
    indexed = Indexed(dataset)
    assert len(indexed) == 6
    assert same(indexed[4], {"index": torch.tensor(4), "input": X[4], "label": Y[4]})
    assert same(indexed.__getitems__([5, 0]), {"index": torch.tensor([5, 0]), "input": X[[5, 0]], "label": Y[[5, 0]]})
    assert same(indexed.__getitems__([5, 0]), TensorData(input=X, label=Y).__getitems__([5, 0]))


def test_plain_numbers_become_tensors_in_a_batch():
    assert same(Indexed([(1.5, 0), (2.5, 1)]).__getitems__([1]), {
        "index": torch.tensor([1]), "input": torch.tensor([2.5], dtype=torch.float64), "label": torch.tensor([1]),
    })  # fmt: skip


def test_a_lone_input_has_no_label():
    assert Indexed(X)[2].keys() == {"index", "input"}
    assert same(Indexed(X).__getitems__([2, 3]), {"index": torch.tensor([2, 3]), "input": X[[2, 3]]})


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
