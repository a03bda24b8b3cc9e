"""Files of features that were computed elsewhere: read, matched with the data, and refused by name where they are wrong."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tutelage.data.encoded import EncodedTable
from tutelage.data.given_features import read_given_features
from tutelage.data.image_table import features_table
from tutelage.data.label_columns import read_label_columns
from tutelage.data.label_sets import read_label_sets
from tutelage.data.manifest import LABELS, read_image_folder, read_manifest

NUMBERS = np.arange(12, dtype=np.float32).reshape(4, 3)
IDS = list("abcd")


def write(folder: Path, form: str, numbers: np.ndarray = NUMBERS, ids: list[str] = IDS) -> Path:
    path = folder / f"features.{form.rpartition(' ')[2]}"
    if form == "npy":
        np.save(path, numbers)
        return path
    columns = pd.DataFrame({"id": ids, **{f"f{k}": numbers[:, k] for k in range(numbers.shape[1])}})
    if form == "lists parquet":
        pd.DataFrame({"id": ids, "text": "x", "embedding": list(numbers)}).to_parquet(path)
    elif form == "parquet":
        columns.to_parquet(path)
    else:
        columns.to_csv(path, index=False, sep="\t" if form == "tsv" else ";")
    return path


@pytest.mark.parametrize("form", ["npy", "parquet", "lists parquet", "csv", "tsv"])
def test_every_form_holds_the_same_numbers(form, tmp_path):
    found = read_given_features(write(tmp_path, form))
    assert np.array_equal(found.rows, NUMBERS[:, None])
    assert found.ids == (None if form == "npy" else IDS)
    table = features_table(found.path, 3)
    assert torch.equal(table.batch([2, 0])["input"][:, 0], torch.from_numpy(NUMBERS[[2, 0]]))
    assert table.table["id"].tolist() == (["0", "1", "2", "3"] if form == "npy" else IDS)
    assert len(table.images.pictures([0, 1])) == 0


def test_arrays_of_several_names(tmp_path):
    np.savez(tmp_path / "one.npz", NUMBERS)
    np.savez(tmp_path / "two.npz", features=NUMBERS, other=NUMBERS)
    for name in ("one", "two"):
        found = read_given_features(tmp_path / f"{name}.npz")
        assert np.array_equal(found.first(np.array([2, 0])), NUMBERS[[2, 0]])
    np.savez(tmp_path / "none.npz", a=NUMBERS, b=NUMBERS)
    with pytest.raises(ValueError, match="holds the arrays a, b; name one of them 'features'"):
        read_given_features(tmp_path / "none.npz")
    (tmp_path / "none.npz").write_bytes(b"PK\x03\x04nothing")
    with pytest.raises(ValueError, match=r"is no \.npz file of numbers"):
        read_given_features(tmp_path / "none.npz")


@pytest.mark.parametrize("reader", ["manifest", "label sets", "label columns"])
def test_rows_are_found_by_id_and_what_is_missing_is_listed(reader, tmp_path):
    features = read_given_features(write(tmp_path, "csv", NUMBERS[[3, 0, 1]], ["d", "a", "b"]))
    pd.DataFrame({"id": ["a", "c", "d", "a"], "label": ["acceptable", "defective"] * 2}).to_csv(
        tmp_path / "data.csv", index=False
    )
    if reader == "manifest":
        images, problems = read_manifest(tmp_path / "data.csv", features=features)
    elif reader == "label sets":
        found = read_label_sets(tmp_path / "data.csv", truth="label", features=features)
        images, problems = found.images, found.problems
        assert found.truth_NC is not None
        assert found.truth_NC.tolist() == [[True], [True]]  # nobody is left who is defective
    else:
        pd.read_csv(tmp_path / "data.csv").iloc[:3].to_csv(tmp_path / "data.csv", index=False)
        columns = read_label_columns(tmp_path / "data.csv", classes=["label"], features=features)
        assert columns.images is not None
        images, problems = columns.images, columns.problems
        assert columns.id == ["a", "d"]
        assert columns.labels["label"].tolist() == [0, 0]
    assert isinstance(images, EncodedTable)
    assert images.table["id"].tolist() == ["a", "d"]
    assert images.batch([0, 1])["input"][:, 0].tolist() == [[0, 1, 2], [9, 10, 11]]
    repeated = {} if reader == "label columns" else {"duplicate_id": 1}
    assert problems.counts() == {"no_features": 1, **repeated}
    contrary = [] if reader == "label columns" else ["warning: conflicting labels: 1 row kept, such as a: "]
    told = [*contrary, "warning: unused features: 1 rows of features.csv belong to no example that is used"]
    assert all(said.startswith(expected) for said, expected in zip(problems.warnings(), told, strict=True))


def test_without_ids_rows_belong_to_the_data_in_their_order_whatever_is_left_out(tmp_path):
    features = read_given_features(write(tmp_path, "npy"))
    labels = ["acceptable", "what", "defective", "defective"]
    pd.DataFrame({"label": labels}).to_csv(tmp_path / "data.csv", index=False)
    images, problems = read_manifest(tmp_path / "data.csv", features=features)
    assert problems.counts() == {"unknown_label": 1}
    assert images.batch([0, 1, 2])["input"][:, 0].tolist() == NUMBERS[[0, 2, 3]].tolist()
    pd.DataFrame({"label": labels[:3]}).to_csv(tmp_path / "data.csv", index=False)
    with pytest.raises(ValueError, match="holds 4 rows and the data 3; without ids they must be as many"):
        read_manifest(tmp_path / "data.csv", features=features)


def test_images_that_are_there_are_looked_at_and_copies_of_features_are_found_where_they_are_not(tmp_path):
    for name, kind in zip(IDS, ["acceptable", "defective"] * 2, strict=True):
        (tmp_path / "images" / kind).mkdir(parents=True, exist_ok=True)
        pixels = np.full((16, 16, 3), ord(name), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / kind / f"{name}.png")
    (tmp_path / "images" / "defective" / "d.png").write_bytes(b"no image")
    listed = [f"{kind}/{name}.png" for kind, names in (("acceptable", "ac"), ("defective", "bd")) for name in names]
    features = read_given_features(write(tmp_path, "csv", ids=listed))
    images, problems = read_image_folder(tmp_path / "images", LABELS, size=16, features=features)
    assert problems.counts() == {"format": 1}
    assert images.batch([0, 1, 2])["input"][:, 0].tolist() == NUMBERS[:3].tolist()
    assert images.images.gather([1]).unique().tolist() == [ord("c")]
    same = NUMBERS[[0, 1, 0, 2]]
    pd.DataFrame({"id": IDS, "label": "acceptable"}).to_csv(tmp_path / "data.csv", index=False)
    table = read_manifest(tmp_path / "data.csv", features=read_given_features(write(tmp_path, "csv", same)))[0].table
    assert table["phash"].duplicated().tolist() == [False, False, True, False]


@pytest.mark.parametrize(
    ("form", "numbers", "ids", "message"),
    [
        ("csv", NUMBERS, list("abca"), "id 'a' comes twice"),
        ("csv", np.where(NUMBERS == 4, np.nan, NUMBERS), IDS, "the row of id 'b' holds a number that is not finite"),
        ("npy", np.where(NUMBERS == 11, np.inf, NUMBERS), IDS, "row 3 holds a number that is not finite"),
        ("csv", NUMBERS.astype(object).astype(str) + "x", IDS, "Unable to parse string '0.0x'.* must hold one number"),
        ("parquet", NUMBERS.astype(str), IDS, "'f0', 'f1', 'f2' hold no numbers"),
        ("npy", NUMBERS[0], IDS, r"holds float32 \(3,\); features are numbers \(N, D\)"),
        ("npy", NUMBERS.astype(str), IDS, "features are numbers"),
        ("npy", NUMBERS.astype(object), IDS, r"is no \.npy file of numbers"),
    ],
)
def test_what_is_wrong_is_refused_by_name(form, numbers, ids, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read_given_features(write(tmp_path, form, numbers, ids))


def test_other_files_and_other_ids_are_refused_with_what_to_give(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file of features .*nowhere"):
        read_given_features(tmp_path / "nowhere.npy")
    (tmp_path / "weights.pt").touch()
    with pytest.raises(ValueError, match=r"which holds no features; give a \.npy file, or a \.parquet or \.csv table"):
        read_given_features(tmp_path / "weights.pt")
    pd.DataFrame({"x": [1.0]}).to_csv(tmp_path / "bare.csv", index=False)
    with pytest.raises(ValueError, match="has no column 'id', by which its rows are told; it has 'x'"):
        read_given_features(tmp_path / "bare.csv")
    pd.DataFrame({"id": ["x"], "label": ["acceptable"]}).to_csv(tmp_path / "data.csv", index=False)
    with pytest.raises(
        ValueError, match="no row of any of the 1 examples: its ids are such as 'a', theirs such as 'x'"
    ):
        read_manifest(tmp_path / "data.csv", features=read_given_features(write(tmp_path, "csv")))
    with pytest.raises(ValueError, match="holds features of 3 numbers, and this model reads features of 5 numbers"):
        features_table(tmp_path / "features.csv", 5)
    with pytest.raises(ValueError, match="is a folder, and this model reads features of 3 numbers and no images"):
        features_table(tmp_path, 3)
