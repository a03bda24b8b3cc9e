"""Grids, raters, fractions, balanced orders, domains and ReaL: what is drawn has the stated rates, and nothing leaks."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from benchmarks.mile.cifar_raters import cifar10_raters
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tutelage.data import digit_grids
from tutelage.data.domains import leave_one_domain_out
from tutelage.data.grids import BLOCKS
from tutelage.data.real_labels import read_real_labels, real_truth
from tutelage.data.sampling import Rebalanced, fraction
from tutelage.metrics import real_f1


@pytest.fixture(scope="module")
def grids():
    return digit_grids(0, train=6000, val=500, test=3000)


# --- grids


def test_the_given_label_is_the_centre_six_times_in_ten(grids):
    images, truth = grids
    labels = images.labels
    assert truth[torch.arange(len(labels)), labels].all()  # always one of the grid's
    # The centre's digit is the label with 0.6 + 0.4 * 0.1 by chance; its cell can be read back from the pixels.
    rows = images.rows("train")[:1500]
    centre = images.images.gather(rows.tolist())[:, 0, 8:16, 8:16].flatten(1)
    from sklearn.datasets import load_digits

    source = load_digits()
    end = round(BLOCKS["train"][1] * len(source.target))
    known = torch.from_numpy((source.images[:end] * (255 / 16)).astype(np.uint8)).flatten(1)
    match = torch.cdist(centre.float(), known.float()).argmin(1)
    assert ((torch.from_numpy(source.target[:end])[match] == labels[rows]).float().mean() - 0.64).abs() < 0.04


def test_the_anchors_of_the_grid_task(grids):
    _, truth = grids
    one = torch.nn.functional.one_hot(truth.long().argmax(1), 10).bool()
    assert truth.sum(1).float().mean() == pytest.approx(10 * (1 - 0.9**9), abs=0.05)
    assert real_f1(one, truth) == pytest.approx(0.28624, abs=0.004)
    assert real_f1(torch.ones_like(truth), truth) == pytest.approx(0.7552, abs=0.004)


def test_the_parts_share_no_digit():
    sets = []
    for split in ("train", "val", "test"):
        images, _ = digit_grids(1, **dict.fromkeys(("train", "val", "test"), 40))
        rows = images.rows(split)
        cells = images.images.gather(rows.tolist())[:, 0].reshape(-1, 3, 8, 3, 8).swapaxes(2, 3).reshape(-1, 64)
        sets.append({tuple(cell) for cell in cells.tolist()})
    assert not sets[0] & sets[1]
    assert not sets[0] & sets[2]
    assert not sets[1] & sets[2]


def test_grids_of_mnist_from_a_generated_file(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("tutelage.data.grids.MNIST_VAL", 10)
    digits = np.arange(10).repeat(4).astype(np.uint8)
    pictures = (digits[:, None, None] * 20 + np.zeros((28, 28))).astype(np.uint8)
    np.savez(tmp_path / "mnist.npz", x_train=pictures, y_train=digits, x_test=pictures[::4], y_test=digits[::4])
    images, truth = digit_grids(0, mnist=tmp_path / "mnist.npz", cell=28, train=20, val=5, test=5)
    assert images.images[0].shape == (3, 84, 84)
    shown = images.images.gather(range(30))[:, 0].reshape(-1, 3, 28, 3, 28)[:, :, 0, :, 0].reshape(-1, 9) // 20
    assert all(torch.equal(row.unique(), members.nonzero()[:, 0]) for row, members in zip(shown, truth, strict=True))
    validation = truth[images.rows("val")]
    assert not validation[:, :7].any()  # the last ten digits of the training file: 7, 8 and 9
    small, _ = digit_grids(0, mnist=tmp_path / "mnist.npz", cell=8, train=20, val=5, test=5)
    assert small.images[0].shape == (3, 24, 24)
    with pytest.raises(FileNotFoundError, match="no such file"):
        digit_grids(0, mnist=tmp_path / "none.npz")
    with pytest.raises(ValueError, match="cell=3"):
        digit_grids(0, cell=3)


# --- fractions and balance


@given(arrays(np.int64, st.integers(1, 60), elements=st.integers(-1, 4)), st.integers(0, 5))
def test_a_fraction_has_its_share_of_every_class_and_is_nested(labels, seed):
    labels = torch.from_numpy(labels)
    parts = [fraction(labels, share, seed) for share in (0.01, 0.1, 0.5, 1.0)]
    for share, part in zip((0.01, 0.1, 0.5, 1.0), parts, strict=True):
        for label in labels.unique():
            assert (labels[part] == label).sum() == np.ceil(share * int((labels == label).sum()))
    for small, large in pairwise(parts):
        assert set(small.tolist()) <= set(large.tolist())
    assert torch.equal(parts[-1], torch.arange(len(labels)))


@given(
    arrays(np.int64, st.integers(1, 80), elements=st.integers(0, 4)),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.integers(0, 3),
)
def test_a_rebalanced_epoch_visits_each_example_as_often_as_expected(labels, power, epoch):
    labels = torch.from_numpy(labels)
    order = Rebalanced(labels, seed=1, power=power)
    visits = torch.bincount(order(epoch), minlength=len(labels)).numpy()
    assert visits.sum() == len(labels)
    assert (np.abs(visits - order.expected) < 1 + 1e-9).all()
    per_class = [order.expected[(labels == c).numpy()].sum() for c in labels.unique()]
    if power == 1:
        np.testing.assert_allclose(per_class, len(labels) / len(per_class))
    if power == 0:
        assert (visits == 1).all()


def test_square_roots_by_hand():
    """16 of one class and 4 of another: 4 : 2 in the place of 16 : 4."""
    order = Rebalanced(torch.tensor([0] * 16 + [1] * 4), 0, power=0.5)
    assert order.expected[:16].sum() == pytest.approx(20 * 4 / 6)
    assert order.expected[16:].sum() == pytest.approx(20 * 2 / 6)
    assert not torch.equal(order(0), order(1))
    with pytest.raises(ValueError, match="power=2"):
        Rebalanced(torch.zeros(2), 0, power=2)
    with pytest.raises(ValueError, match="share=0"):
        fraction(torch.zeros(2), 0, 0)


# --- domains


def test_each_domain_is_the_test_once_and_selects_nothing():
    domains = np.repeat(["art", "photo", "sketch"], 40)
    labels = np.tile([0, 1], 60)
    seen = []
    for name, split in leave_one_domain_out(domains, labels, val=0.25):
        seen.append(name)
        assert ((split == "test") == (domains == name)).all()
        for domain in {"art", "photo", "sketch"} - {name}:
            for label in (0, 1):
                members = split[(domains == domain) & (labels == label)]
                assert (members == "val").sum() == 5
    assert seen == ["art", "photo", "sketch"]
    with pytest.raises(ValueError, match="at least two"):
        list(leave_one_domain_out(["one"] * 4, labels[:4]))
    with pytest.raises(ValueError, match="val=1"):
        list(leave_one_domain_out(domains, labels, val=1))


# --- people's labels


def test_real_labels(tmp_path: Path):
    path = tmp_path / "real.json"
    path.write_text(json.dumps([[3, 1], [], [0]]))
    assert read_real_labels(path, 4).tolist() == [[False, True, False, True], [False] * 4, [True, False, False, False]]
    path.write_text(json.dumps([[4]]))
    with pytest.raises(ValueError, match=r"image 0 has labels \[4\]"):
        read_real_labels(path, 4)
    path.write_text("{}")
    with pytest.raises(ValueError, match="list of lists"):
        read_real_labels(path)
    with pytest.raises(FileNotFoundError):
        read_real_labels(tmp_path / "none.json")


def test_real_labels_find_their_images_by_name_and_their_classes_by_number(tmp_path):
    path = tmp_path / "real.json"
    path.write_text(json.dumps([[3], [], [999, 0], [7]]))
    images = ["a/ILSVRC2012_val_00000003.JPEG", "train/n01440764_7.JPEG", "ILSVRC2012_val_00000001.JPEG"]
    table = pd.DataFrame({"image": images})
    assert real_truth(path, table, ["0", "3", "999"]).tolist() == [
        [True, False, True],
        [False] * 3,
        [False, True, False],
    ]
    synsets = [f"n{number:08}" for number in range(1000)]
    truth_NC = real_truth(path, table, synsets[::-1])  # whatever their order
    assert truth_NC.nonzero().tolist() == [[0, 0], [0, 999], [2, 996]]
    with pytest.raises(ValueError, match="label by all 1,000 synsets"):
        real_truth(path, table, ["cat", "dog"])
    with pytest.raises(ValueError, match="and the data have none"):
        real_truth(path, table.assign(image="x.png"), ["0", "1"])
    with pytest.raises(ValueError, match="has 4 images, and one is called number 9"):
        real_truth(path, pd.DataFrame({"image": ["ILSVRC2012_val_00000009.JPEG"]}), ["0", "1"])


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    import io

    from PIL import Image

    def picture(value: int) -> bytes:
        file = io.BytesIO()
        Image.new("RGB", (32, 32), (value, value, value)).save(file, "PNG")
        return file.getvalue()

    rng = np.random.default_rng(0)
    label = rng.integers(10, size=120)
    train = pd.DataFrame({"index": range(120), "image": [picture(i) for i in range(120)], "label": label})
    train["random_label1"] = np.where(rng.random(120) < 0.2, (label + 1) % 10, label)
    counts = np.zeros((30, 10), dtype=np.int64)
    counts[:, 0], counts[::3, 1], counts[::2, 2] = 40, 2, 1
    test = pd.DataFrame({"index": range(30), "image": [picture(200)] * 30, "label": 0, "rater_counts": list(counts)})
    train.to_parquet(tmp_path / "train.parquet")
    test.to_parquet(tmp_path / "test.parquet")
    return tmp_path


def test_one_raters_label_and_all_raters_labels(cifar: Path):
    images, truth = cifar10_raters(cifar, val=20, size=24)
    assert images.images[0].shape == (3, 24, 24)
    assert [len(images.rows(split)) for split in ("train", "val", "test")] == [100, 20, 30]
    by_id = pd.read_parquet(cifar / "train.parquet").set_index(pd.Index([f"cifar10-train-{i:05d}" for i in range(120)]))
    rows = images.table[images.table["split"] != "test"]
    assert (by_id.loc[rows["id"], "random_label1"].to_numpy() == rows["label"].to_numpy()).all()
    test = images.rows("test")
    assert truth[test].sum(0).tolist() == [30, 10, 0, 0, 0, 0, 0, 0, 0, 0]  # two votes count, one does not
    assert cifar10_raters(cifar, val=20, votes=1)[1][test].sum(0).tolist()[:3] == [30, 10, 15]
    few, _ = cifar10_raters(cifar, val=20, share=0.1)
    assert set(few.table["id"]) <= set(images.table["id"])
    assert len(few.rows("val")) == 20
    with pytest.raises(ValueError, match="no column 'worse_label'"):
        cifar10_raters(cifar, rater="worse_label")
    with pytest.raises(ValueError, match="votes=0"):
        cifar10_raters(cifar, votes=0)
    with pytest.raises(FileNotFoundError, match=r"train\.parquet"):
        cifar10_raters(cifar / "nowhere")
