"""CIFAR from both layouts, and the pickles that are not opened."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
from PIL import Image

from tutelage.data.cifar import read_cifar

FINE = ["apple", "bear", "crab"]
COARSE = ["fruit", "beast"]


def pictures(count: int, seed: int) -> np.ndarray:
    """(count, 3, 32, 32)."""
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)


def labels(count: int) -> tuple[np.ndarray, np.ndarray]:
    fine = np.arange(count) % 3
    return fine.astype(np.uint8), (fine > 0).astype(np.uint8)


@pytest.fixture(scope="module")
def binary(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cifar-100-binary")
    for part, count in (("train", 12), ("test", 6)):
        fine, coarse = labels(count)
        rows = np.concatenate([coarse[:, None], fine[:, None], pictures(count, count).reshape(count, -1)], axis=1)
        rows.tofile(folder / f"{part}.bin")
    (folder / "fine_label_names.txt").write_text("\n".join(FINE) + "\n")
    (folder / "coarse_label_names.txt").write_text("\n".join(COARSE) + "\n")
    return folder


def webp(picture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture.transpose(1, 2, 0)).save(stream, "WEBP", lossless=True)
    return stream.getvalue()


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> Path:
    """The same images as Parquet, the training part in two files whose rows are out of order."""
    folder = tmp_path_factory.mktemp("parquet")
    metadata = {"fine_names": ",".join(FINE), "coarse_names": ",".join(COARSE)}
    for part, count in (("train", 12), ("test", 6)):
        fine, coarse = labels(count)
        table = pd.DataFrame({"index": np.arange(count, dtype=np.int32), "fine": fine, "coarse": coarse})
        table["image"] = [webp(picture) for picture in pictures(count, count)]
        if part == "train":
            table["noisy_fine"] = (fine + 1) % 3
        files = {f"{part}-0": table.iloc[count // 2 :], f"{part}-1": table.iloc[: count // 2]} if part == "train" else {
            part: table}  # fmt: skip
        for name, rows in files.items():
            arrow = pa.Table.from_pandas(rows, preserve_index=False)
            parquet.write_table(arrow.replace_schema_metadata(metadata), folder / f"{name}.parquet")
    return folder


def test_both_layouts_hold_the_same(binary, tables):
    (ours, names), (theirs, same) = read_cifar("cifar100", binary), read_cifar("cifar100", tables)
    assert names == same == {"label": FINE, "coarse": COARSE}
    assert torch.equal(ours.images.gather(range(18)), theirs.images.gather(range(18)))
    assert torch.equal(ours.images.gather(range(12)), torch.from_numpy(pictures(12, 12)))
    assert theirs.table["noisy_label"].tolist() == [(k + 1) % 3 for k in range(12)] + [-1] * 6
    assert theirs.table.drop(columns="noisy_label")[ours.table.columns].equals(ours.table)
    assert ours.table["id"].iloc[[0, 11, 12]].tolist() == [
        "cifar100-train-00000", "cifar100-train-00011", "cifar100-test-00000"]  # fmt: skip
    assert ours.table["label"].tolist() == [k % 3 for k in range(12)] + [k % 3 for k in range(6)]
    assert ours.table["coarse"].tolist() == [int(k % 3 > 0) for k in [*range(12), *range(6)]]
    assert ours.table["split"].tolist() == ["unassigned"] * 12 + ["test"] * 6


@pytest.mark.parametrize("layout", ["binary", "tables"])
def test_a_sample_of_some_classes_in_their_order(layout, request):
    folder = request.getfixturevalue(layout)
    whole, _ = read_cifar("cifar100", folder)
    some, names = read_cifar("cifar100", folder, classes=["crab", "apple"], train=5, test=3, size=16)
    assert names["label"] == ["crab", "apple"]
    assert len(some) == 8
    assert some.images[0].shape == (3, 16, 16)
    rows = [whole.table["id"].tolist().index(id) for id in some.table["id"]]
    assert [{2: 0, 0: 1}[label] for label in whole.table["label"].iloc[rows]] == some.table["label"].tolist()
    assert some.table["coarse"].tolist() == whole.table["coarse"].iloc[rows].tolist()
    if (
        layout == "tables"
    ):  # people said crab where it was a bear, and bear, which is no class here, where it was an apple
        assert some.table["noisy_label"].iloc[:5].tolist() == [
            {0: 1, 1: -1}[label] for label in some.table["label"].iloc[:5]]  # fmt: skip
    torch.testing.assert_close(some.images[0].float().mean(), whole.images[rows[0]].float().mean(), rtol=0, atol=2.0)
    again, _ = read_cifar("cifar100", folder, classes=["crab", "apple"], train=5, test=3, size=16)
    assert again.table.equals(some.table)
    other, _ = read_cifar("cifar100", folder, classes=["crab", "apple"], train=5, test=3, size=16, seed=3)
    assert other.table["id"].tolist() != some.table["id"].tolist()


def test_cifar_10(tmp_path):
    for number, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        rows = np.concatenate([np.full((2, 1), number, np.uint8), pictures(2, number).reshape(2, -1)], axis=1)
        rows.tofile(tmp_path / f"{name}.bin")
    table, names = read_cifar("cifar10", tmp_path)
    assert names == {}
    assert table.table["label"].tolist() == [k // 2 for k in range(12)]
    assert (table.table["split"] == "test").sum() == 2


def test_mistakes_are_named(binary, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds neither train.bin .* nor train\*.parquet"):
        read_cifar("cifar100", tmp_path)
    with pytest.raises(ValueError, match="train=13: there are 12 such images"):
        read_cifar("cifar100", binary, train=13)
    with pytest.raises(ValueError, match=r"classes names 'dog'; the classes of .* are apple, bear, crab"):
        read_cifar("cifar100", binary, classes=["dog"])
    with pytest.raises(ValueError, match="name='cifar1' is neither"):
        read_cifar("cifar1", binary)  # type: ignore[arg-type]
    (tmp_path / "train").write_bytes(b"\x80\x04")
    with pytest.raises(ValueError, match="holds train, a pickle, which is never opened"):
        read_cifar("cifar100", tmp_path)
    (tmp_path / "train.bin").write_bytes(b"\x00" * 3000)
    with pytest.raises(ValueError, match="3000 bytes, which is no multiple of 3074: it is cut short"):
        read_cifar("cifar100", tmp_path)
