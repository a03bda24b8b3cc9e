"""Features of images, and the table that yields them."""

import pandas as pd
import torch
from torch import Tensor

from tutelage.data import fingerprint
from tutelage.data.encoded import EncodedTable, ImageFeatures, RandomView
from tutelage.data.table import ImageArray


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
