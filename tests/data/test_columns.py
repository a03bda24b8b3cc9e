import torch

from tutelage.data import ImageArray, ImageTable, TensorData, WithColumns
from tutelage.training.batches import fetch, indices_of


def test_columns_are_looked_up_by_index():
    data = TensorData(input=torch.arange(5) * 10, label=torch.tensor([0, 1, 0, 1, 1]))
    both = WithColumns(data, label=torch.tensor([-1, 1, 0, 1, -1]), teacher=torch.arange(15.0).reshape(5, 3))
    assert len(both) == 5
    batch = fetch(both, [4, 1])
    assert sorted(batch) == ["index", "input", "label", "teacher"]
    assert batch["index"].tolist() == [4, 1]
    assert batch["label"].tolist() == [-1, 1]  # the new one in the place of the old
    assert batch["teacher"].tolist() == [[12, 13, 14], [3, 4, 5]]
    one = both[4]
    assert {name: value.tolist() for name, value in one.items()} == {
        "index": 4,
        "input": 40,
        "label": -1,
        "teacher": [12, 13, 14],
    }
    assert data[4]["label"] == 1


def test_columns_of_a_subset_have_the_rows_of_the_table():
    import pandas as pd

    table = pd.DataFrame({"id": list("abcd"), "label": [0, 1, 0, 1], "split": "train"})
    images = ImageTable(ImageArray(torch.zeros(4, 3, 2, 2, dtype=torch.uint8)), table)
    some = WithColumns(images.subset(torch.tensor([3, 1])), weight=torch.tensor([0.1, 0.2, 0.3, 0.4]))
    assert indices_of(some).tolist() == [3, 1]
    assert torch.equal(fetch(some, [0, 1])["weight"], torch.tensor([0.4, 0.2]))
    again = WithColumns(some, rank=torch.arange(4))
    assert fetch(again, [1])["rank"].tolist() == [1]
    assert indices_of(again).tolist() == [3, 1]
