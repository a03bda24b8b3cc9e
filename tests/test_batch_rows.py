"""What the rows of anybody's batch are."""

from collections import UserDict, namedtuple

import pytest
import torch
from torch import Tensor

from tutelage.batches import call, examples_of, finite_rows, map_tensors, rows_of, size_of, to_device

B = 3
Pair = namedtuple("Pair", ["first", "second"])


def batch() -> dict:
    return {
        "index": torch.tensor([7, 1, 4]),
        "input": UserDict(ids=torch.arange(6).reshape(B, 2), mask=torch.ones(B, 2, dtype=torch.bool)),
        "label": torch.tensor([0, 1, 2]),
        "names": ["a", "b", "c"],
        "scale": torch.tensor(0.5),
        "epoch": 2,
        "note": "of all",
        "teacher": None,
        "classes": torch.arange(5),
        "views": (torch.zeros(B, 2), torch.ones(B)),
        "crops": [torch.zeros(B, 2), torch.ones(B)],
        "boxes": [torch.zeros(1, 4), torch.zeros(3, 4), torch.zeros(0, 4)],
        "pair": Pair(torch.arange(B), "text"),
        "meta": {"size": [1, 2, 3], "deep": {"mark": torch.arange(B)}},
    }


def test_rows_are_taken_from_what_has_them() -> None:
    some = rows_of(batch(), torch.tensor([2, 0]), B)
    assert some["index"].tolist() == [4, 7]
    assert some["input"]["ids"].tolist() == [[4, 5], [0, 1]]
    assert some["names"] == ["c", "a"]
    assert (some["scale"], some["epoch"], some["note"], some["teacher"]) == (torch.tensor(0.5), 2, "of all", None)
    assert len(some["classes"]) == 5
    assert [len(view) for view in some["views"]] == [len(crop) for crop in some["crops"]] == [2, 2]
    assert [len(boxes) for boxes in some["boxes"]] == [0, 1]
    assert isinstance(some["pair"], Pair)
    assert some["pair"].first.tolist() == [2, 0]
    assert some["meta"]["size"] == [3, 1]
    assert some["meta"]["deep"]["mark"].tolist() == [2, 0]


def test_two_tensors_of_two_examples_are_parts_and_not_examples() -> None:
    two = {"index": torch.arange(2), "input": (torch.arange(2), torch.tensor([5, 6])), "mask": (torch.arange(2), None)}
    assert [part.tolist() for part in rows_of(two, torch.tensor([1]), 2)["input"]] == [[1], [6]]
    assert rows_of(two, torch.tensor([1]), 2)["mask"][1] is None


def test_a_batch_is_its_examples() -> None:
    whole = batch()
    for row, example in enumerate(examples_of(whole)):
        assert example["index"] == whole["index"][row]
        assert torch.equal(example["input"]["ids"], whole["input"]["ids"][row])
        assert example["names"] == "abc"[row]
        assert example["teacher"] is None
        assert example["views"][1] == 1
        assert example["meta"]["deep"]["mark"] == row


def test_the_size_is_that_of_the_input_and_the_index() -> None:
    assert (
        size_of(batch())
        == size_of({"input": (torch.tensor(1.0), torch.zeros(B))})
        == size_of({"index": torch.zeros(B)})
        == B
    )
    with pytest.raises(ValueError, match=r"batch\['input'\] has 3 rows and batch\['index'\] 2"):
        size_of(batch() | {"index": torch.arange(2)})
    with pytest.raises(ValueError, match=r"batch\['input'\] has None rows and batch\['index'\] None"):
        size_of({"input": "text"})


def test_every_tensor_moves_and_nothing_else() -> None:
    moved = to_device(batch(), torch.device("meta"))
    found: list[Tensor] = []
    map_tensors(moved, lambda tensor: (found.append(tensor), tensor)[1])
    assert len(found) == 15
    assert all(tensor.is_meta for tensor in found)
    assert (moved["names"], moved["note"], moved["teacher"]) == (["a", "b", "c"], "of all", None)


def test_integers_are_never_checked_and_floats_by_their_rows() -> None:
    assert finite_rows({"ids": torch.arange(B), "scale": torch.tensor(torch.nan)}, B) is None
    values = (torch.tensor([1.0, torch.nan, 1.0]), torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, torch.inf]]))
    finite_B = finite_rows(values, B)
    assert finite_B is not None
    assert finite_B.tolist() == [True, False, False]


def test_a_model_takes_named_arguments_several_or_one() -> None:
    def model(first: int, second: int = 0) -> tuple[int, int]:
        return first, second

    assert call(model, {"first": 1, "second": 2}) == call(model, (1, 2)) == call(model, [1, 2]) == (1, 2)
    assert call(model, 1) == (1, 0)
