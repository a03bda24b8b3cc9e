import io

import numpy as np
import pandas as pd
import pytest
import torch
from benchmarks.moderation.products import PRETRAINING, article_types, product_photographs
from PIL import Image

NUMBERS = {"train": (6, 20), "validation": (5, 20), "test": (4, 10), "unlabelled": 8}
KINDS = {
    "Belts": ("Accessories", 10),
    "Ties": ("Accessories", 10),
    "Tshirts": ("Apparel", 40),
    "Tops": ("Apparel", 40),
    "Watches": ("Accessories", 9),
    "Heels": ("Footwear", 12),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A shop whose photographs are flat: an article type is a shade of grey."""
    rows = []
    for shade, (kind, (category, count)) in enumerate(KINDS.items()):
        stream = io.BytesIO()
        Image.new("RGB", (48, 64), (40 * shade,) * 3).save(stream, "JPEG", quality=100)
        rows += [(kind, category, stream.getvalue())] * count
    shop = pd.DataFrame(rows, columns=["articleType", "masterCategory", "image"])
    shop.insert(0, "id", np.arange(len(shop)))
    path = tmp_path_factory.mktemp("shop")
    shop.to_parquet(path / "products.parquet")
    return path


def shades(table, rows):
    return table.images.gather(rows.tolist()).float().mean(dim=(1, 2, 3)) / 40


def test_photographs_are_where_their_labels_say(folder):
    table = product_photographs(folder, noise="none", restricted=("Belts", "Ties"), **NUMBERS)
    assert table.images[0].shape == (3, 24, 24)
    facts = table.table
    for subtask in (0, 1):
        rows = torch.from_numpy(np.flatnonzero(facts["true_subtask"] == subtask))
        assert len(rows)
        torch.testing.assert_close(shades(table, rows), torch.full((len(rows),), float(subtask)), atol=0.1, rtol=0)
    acceptable = shades(table, torch.from_numpy(np.flatnonzero((facts["label"] == 1) & (facts["split"] == "train"))))
    assert (acceptable.round() == 2).sum() == 10
    assert (acceptable.round() == 3).sum() == 10
    assert (shades(table, table.rows("unlabelled")).round() == 5).all()
    assert facts["id"].is_unique
    assert facts["split"].value_counts().to_dict() == {
        "train": 26, "student_val": 15, "test": 14, "unlabelled": 8, "teacher_val": 5, "teacher_test": 5,
    }  # fmt: skip


def test_structured_noise_is_on_the_look_alike(folder):
    numbers = {"folder": folder, "restricted": ("Belts", "Ties"), **NUMBERS}
    noisy, clean = product_photographs(noise="structured", **numbers), product_photographs(noise="none", **numbers)
    wrong = noisy.table["label"] != noisy.table["true_label"]
    wrong &= noisy.table["split"] != "unlabelled"
    assert wrong.sum() == 5 + 5
    rows = torch.from_numpy(np.flatnonzero(wrong))
    assert (shades(noisy, rows).round() == 2).all()
    assert not wrong[noisy.table["split"] == "test"].any()
    assert torch.equal(noisy.images.gather(range(63)), clean.images.gather(range(63)))


def test_scaling_takes_all_that_there_is_or_less(folder):
    rest = {"folder": folder, "restricted": ("Belts", "Ties"), **NUMBERS}
    less = product_photographs(max_rows=40, **rest).table
    assert len(less) <= 40
    everything = product_photographs(max_rows=10**9, **rest).table
    assert 0.8 * 20 <= (everything["true_label"] == 0).sum() <= 20


def test_pretraining_uses_types_of_no_split(folder):
    images, labels = article_types(folder, size=(8, 6))
    assert images.shape == (9, 3, 8, 6)
    assert (labels == PRETRAINING.index("Watches")).all()
    torch.testing.assert_close(images.float().mean(), torch.tensor(160.0), atol=2, rtol=0)


def test_refusals(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"products\.parquet"):
        product_photographs(tmp_path)
    with pytest.raises(ValueError, match="Swords"):
        product_photographs(folder, restricted=("Belts", "Swords"), **NUMBERS)
    with pytest.raises(ValueError, match="name a type once"):
        product_photographs(folder, restricted=("Belts", "Tshirts"), **NUMBERS)
    with pytest.raises(ValueError, match="too few"):
        product_photographs(folder, restricted=("Belts", "Ties"), **{**NUMBERS, "train": (30, 20)})
    with pytest.raises(ValueError, match="unlabelled"):
        product_photographs(folder, restricted=("Belts", "Ties"), **{**NUMBERS, "unlabelled": 13})
