"""A fingerprint is of the whole content: one changed number, word, file or line of code is seen, and nothing else is."""

import copy
import functools
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import sparse
from torch import nn

from tutelage.data import ImageArray, ImageFiles, ImageTable, Rows, TensorData, WithColumns, fingerprint


@dataclass
class Settings:
    depth: int = 3


def moved(step: int) -> Any:
    return lambda x: x + step


def changed(value: Any) -> Any:
    found = copy.deepcopy(value)
    found[-1] = found[-1] + 1
    return found


TABLE = pd.DataFrame({"id": ["a", "b"], "when": pd.to_datetime(["2020-01-01", None]), "label": [0, 1]})
PICTURES = torch.zeros(5000, 3, 4, 4, dtype=torch.uint8)
PAIRS: dict[str, tuple[Any, Any]] = {
    "type": (1, 1.0),
    "truth": (1, True),
    "text and number": ("1", 1),
    "nesting": ([1, [2, 3]], [1, 2, 3]),
    "boundaries": (["ab", "c"], ["a", "bc"]),
    "key": ({"a": 1}, {"b": 1}),
    "field": (Settings(), Settings(4)),
    "last number of many": (PICTURES, changed(PICTURES)),
    "shape": (torch.zeros(2, 3), torch.zeros(3, 2)),
    "dtype": (torch.zeros(2), torch.zeros(2).double()),
    "half": (torch.zeros(2).bfloat16(), torch.ones(2).bfloat16()),
    "scalar": (torch.tensor(1), torch.tensor(2)),
    "array": (np.arange(4), changed(np.arange(4))),
    "objects": (np.array(["a", None], dtype=object), np.array(["a", "b"], dtype=object)),
    "cell": (TABLE, TABLE.assign(label=[0, 2])),
    "time": (TABLE, TABLE.assign(when=pd.to_datetime(["2020-01-02", None]))),
    "column": (TABLE, TABLE.rename(columns={"label": "class"})),
    "sparse": (sparse.eye(3).tocsr(), 2 * sparse.eye(3).tocsr()),
    "layer": (nn.Linear(2, 2), nn.Linear(2, 2)),
    "attribute of a layer": (nn.Dropout(0.1), nn.Dropout(0.2)),
    "enclosed": (moved(1), moved(2)),
    "code": (lambda x: x + 1, lambda x: x + 2),
    "argument": (functools.partial(moved, 1), functools.partial(moved, 2)),
    "label": (TensorData(label=torch.tensor([0, 1])), TensorData(label=torch.tensor([0, 2]))),
    "rows": (Rows(TABLE, torch.tensor([0])), Rows(TABLE, torch.tensor([1]))),
    "added": (
        WithColumns(TensorData(x=torch.ones(2)), y=torch.ones(2)),
        WithColumns(TensorData(x=torch.ones(2)), y=torch.zeros(2)),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_it_sees_a_change_and_nothing_else(name):
    one, other = PAIRS[name]
    assert fingerprint(one) == fingerprint(one)
    assert fingerprint(one) != fingerprint(other)
    if not callable(one):
        assert fingerprint(copy.deepcopy(one)) == fingerprint(one)


def test_how_a_value_is_written_does_not_matter():
    assert fingerprint({"a": 1, "b": (1, 2)}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({3, 1, 2}) == fingerprint({1, 2, 3})
    assert fingerprint(np.float64(0.5), np.int64(2)) == fingerprint(0.5, 2)
    images = PICTURES[:8].permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)  # other strides
    assert fingerprint(images) == fingerprint(PICTURES[:8])


def test_what_holds_itself_has_an_end():
    knot: list[Any] = []
    knot.append(knot)
    assert fingerprint(knot) == fingerprint(knot)


def test_a_file_that_was_edited_in_place(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (16, 16)).save(tmp_path / name)
    table = pd.DataFrame({"id": ["a", "b"], "label": [0, 1], "split": ["train", "test"]})

    def found() -> str:
        return fingerprint(ImageTable(ImageFiles(tmp_path, ["a.png", "b.png"], 16), table).subset([0]))

    before = found()
    assert found() == before
    status = (tmp_path / "b.png").stat()
    os.utime(tmp_path / "b.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    touched = found()
    assert touched != before
    (tmp_path / "b.png").unlink()
    assert found() not in (before, touched)
    assert fingerprint(tmp_path / "a.png") != fingerprint(str(tmp_path / "a.png"))


def test_of_an_image_table_images_ids_labels_and_splits_count() -> None:
    table = pd.DataFrame({"id": ["a", "b"], "label": [0, 1], "split": ["train", "test"], "headline": ["x", "y"]})
    images = ImageArray(PICTURES[:2])
    before = fingerprint(ImageTable(images, table))
    assert fingerprint(ImageTable(images, table.assign(headline=["z", "y"]))) == before
    others = [table.assign(id=["a", "c"]), table.assign(label=[0, 0]), table.assign(split=["train", "val"])]
    found = {fingerprint(ImageTable(images, other)) for other in others}
    found.add(fingerprint(ImageTable(ImageArray(PICTURES[:2] + 1), table)))
    assert len(found | {before}) == 5


def test_a_large_tensor_is_hashed_once_in_a_stage_and_again_when_it_has_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = sys.modules["tutelage.data.fingerprint"]
    hashed: list[int] = []
    original = module._hash_of
    monkeypatch.setattr(module, "_hash_of", lambda value: hashed.append(value.nbytes) or original(value))
    images = torch.zeros(2 * module.LARGE, dtype=torch.uint8)
    first = fingerprint(images)
    with module.hashing_once():
        assert [fingerprint(TensorData(input=images)) for _ in range(3)] == [fingerprint(TensorData(input=images))] * 3
        assert fingerprint(images) == first
        assert len(hashed) == 2
        images[7] = 1
        second = fingerprint(images)
        assert second != first
        assert fingerprint(torch.zeros_like(images)) == first  # another tensor, perhaps where one was before
        assert len(hashed) == 4
        assert fingerprint(images) == second
        assert len(hashed) == 4
    assert fingerprint(images) == second
    assert len(hashed) == 5
