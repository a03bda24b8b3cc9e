import hostile
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

from tutelage.data import ImageArray, ImageFiles, ImageTable, Limits, UnreadableImage

FACTS = pd.DataFrame(
    {
        "id": list("abcde"),
        "label": [0, 1, -1, 1, 0],
        "split": ["train", "test", "unlabelled", "train", "student_val"],
    },
    index=[9, 7, 5, 3, 1],
)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (5, 3, 4, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def test_rows_are_places_whatever_the_index_was(images):
    table = ImageTable(ImageArray(images), FACTS)
    assert table.rows("train").tolist() == [0, 3]
    assert table.rows("student_val", "train").tolist() == [0, 3, 4]
    assert table.rows("teacher_val").tolist() == []
    assert table.rows("train").dtype == torch.int64
    assert len(table) == 5


def test_subset_gives_examples_and_batches(images):
    subset = ImageTable(ImageArray(images), FACTS).subset([3, 0, 4])
    first = {"index": torch.tensor(3), "input": images[3], "label": torch.tensor(1)}
    batch = {"index": torch.tensor([4, 3]), "input": images[[4, 3]], "label": torch.tensor([0, 1])}
    assert len(subset) == 3
    assert same(subset[0], first)
    assert same(subset.batch([2, 0]), batch)
    loaded = list(DataLoader(subset, batch_size=2))
    assert [batch["index"].tolist() for batch in loaded] == [[3, 0], [4]]


def test_with_split_shares_the_images_and_copies_the_facts(images):
    table = ImageTable(ImageArray(images), FACTS)
    other = table.with_split(["test"] * 5)
    assert other.images is table.images
    assert other.rows("test").tolist() == [0, 1, 2, 3, 4]
    assert table.rows("test").tolist() == [1]


def test_files_are_decoded_when_asked_for(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(hostile.encoded(hostile.photograph(i), "PNG"))
    files = ImageFiles(tmp_path, ["2.png", "0.png", "none.png", "../x.png"], size=16)
    assert len(files) == 4
    assert files.gather([0, 1]).shape == (2, 3, 16, 16)
    assert files.gather([1])[0].equal(files[1])
    assert not files[0].equal(files[1])
    assert files.gather([]).shape == (0, 3, 16, 16)
    assert len(files.pictures([])) == 0
    for row, reason in ((2, "missing"), (3, "outside_root")):
        with pytest.raises(UnreadableImage, match=reason):
            files[row]
    with pytest.raises(UnreadableImage, match="too_small"):
        ImageFiles(tmp_path, ["0.png"], limits=Limits(min_side=49))[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="label"), "no column 'label'"),
        (lambda t: t.head(4), "5 images, but 4 rows"),
        (lambda t: t.assign(id=list("abcdb")), "'b' comes twice"),
        (lambda t: t.assign(label=[0, 1, -2, 1, 0]), "'label' must hold"),
        (lambda t: t.assign(label=[0.5, 1, 1, 1, 0]), "'label' must hold"),
        (lambda t: t.assign(split="trian"), "'trian'; known: train"),
    ],
)
def test_senseless_tables(images, change, message):
    with pytest.raises(ValueError, match=message):
        ImageTable(ImageArray(images), change(FACTS))


def test_senseless_calls(images):
    with pytest.raises(ValueError, match="uint8"):
        ImageArray(images.float())
    with pytest.raises(ValueError, match="'validation'; known: train"):
        ImageTable(ImageArray(images), FACTS).rows("validation")
