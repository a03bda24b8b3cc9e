"""Batches are a function of the order and the seed, whoever loads them."""

from collections import UserDict
from typing import Any

import numpy as np
import pytest
import runs
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import Subset, TensorDataset

from tutelage.data import Indexed, TensorData
from tutelage.training import Mixed, Repeated, Shuffled, predict, seeds
from tutelage.training.batches import Batches, Loader, fetch, indices_of, own_places


def all_batches(workers: int = 0, start: int = 0, seed: int = 0) -> list[dict[str, Tensor]]:
    places = Shuffled(runs.N, 1)(0)
    return list(Batches(runs.points(), places, 8, runs.Jitter(), (seed, "batch")).iterate(start, workers))


def test_every_example_is_in_one_batch() -> None:
    batches = all_batches()
    assert [len(batch["index"]) for batch in batches] == [8, 8, 6]
    assert torch.cat([batch["index"] for batch in batches]).tolist() == Shuffled(runs.N, 1)(0).tolist()


def test_workers_change_nothing() -> None:
    runs.same(all_batches(workers=2), all_batches())


def test_workers_stay_from_pass_to_pass_and_make_the_same_batches() -> None:
    examples, passes = (
        runs.points(),
        [Batches(runs.points(), torch.randperm(runs.N), 8, None, (0, turn)) for turn in (0, 1)],
    )
    loader = Loader(examples, None, 1)
    found, workers = [], []
    for each in passes:
        found += list(loader.load(each, 1))
        workers.append([worker.pid for worker in loader.loader._iterator._workers])
    runs.same(found, [batch for each in passes for batch in each.iterate(1)])
    assert workers[0] == workers[1]
    next(loader.load(passes[0]))  # a pass that is left
    runs.same(list(loader.load(passes[1])), list(passes[1].iterate()))


@pytest.mark.parametrize("there", [True, False])
def test_batches_are_pinned_where_there_is_an_accelerator(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: there)
    assert Loader(runs.points(), None, 0).loader.pin_memory is there


@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_a_later_start_changes_nothing(start: int) -> None:
    runs.same(all_batches(start=start), all_batches()[start:])


def test_the_augmentation_follows_the_seed_and_the_batch() -> None:
    one, other = all_batches(seed=0), all_batches(seed=1)
    for mine, yours in zip(one, other, strict=True):
        assert torch.equal(mine["index"], yours["index"])
        assert not torch.equal(mine["input"], yours["input"])
    clean = runs.points().tensors["input"]
    noise = [batch["input"] - clean[batch["index"]] for batch in one]
    assert not torch.allclose(noise[0], noise[1])  # no two batches draw the same numbers


class Dicey:
    """A data set that throws dice of its own, of every kind that there is."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, place: int) -> dict[str, Any]:
        import random

        dice = [random.random(), float(np.random.rand()), float(torch.rand(()))]  # noqa: NPY002
        return {"index": torch.tensor(place), "input": torch.tensor(dice)}


def test_dice_of_the_data_set_are_seeded_too_and_ours_go_on_undisturbed() -> None:
    def batches(workers: int) -> list[dict[str, Tensor]]:
        return list(Batches(Dicey(), torch.arange(10), 4, None, (3,)).iterate(0, workers))

    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    expected = torch.rand(2), np.random.rand(2)  # noqa: NPY002
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    first = batches(0)
    assert torch.equal(torch.rand(2), expected[0])
    assert (np.random.rand(2) == expected[1]).all()  # noqa: NPY002
    runs.same(first, batches(1))


@given(length=st.integers(0, 200), seed=st.integers(0, 2**63), epoch=st.integers(0, 1000))
def test_a_shuffle_is_a_permutation_that_seed_and_epoch_give(length: int, seed: int, epoch: int) -> None:
    order = Shuffled(length, seed)(epoch)
    assert order.dtype == torch.int64
    assert sorted(order.tolist()) == list(range(length))
    assert torch.equal(order, Shuffled(length, seed)(epoch))
    if length >= 50:  # two equal permutations of 50 have probability 1 in 10^64
        assert not torch.equal(order, Shuffled(length, seed)(epoch + 1))
        assert not torch.equal(order, Shuffled(length, seed + 1)(epoch))


class Rows:
    """A subset: its places are not its examples' ``index``."""

    def __init__(self, index: Tensor) -> None:
        self.index = index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, place: int) -> dict[str, Any]:
        return {"index": self.index[place], "input": self.index[place].float()}


@given(
    index=st.lists(st.integers(0, 10_000), max_size=60, unique=True),
    data=st.data(),
    world=st.integers(1, 5),
)
def test_an_example_is_drawn_by_one_process_always_the_same(index: list[int], data: st.DataObject, world: int) -> None:
    examples = Rows(torch.tensor(index, dtype=torch.int64))
    drawn = data.draw(st.lists(st.integers(0, len(index) - 1), max_size=80) if index else st.just([]))
    places = torch.tensor(drawn, dtype=torch.int64)
    shares = [own_places(places, examples, rank, world) for rank in range(world)]
    if world == 1:
        assert torch.equal(shares[0], places)
        return
    assert len({len(share) for share in shares}) == 1  # the same number of batches for all
    for rank, share in enumerate(shares):
        owned = [place for place in drawn if index[place] % world == rank]
        assert share.tolist() == owned[: len(share)]  # its own, in the order's order, and none is skipped over
    counts = [sum(index[place] % world == rank for place in drawn) for rank in range(world)]
    assert len(shares[0]) == min(counts)


def test_the_index_of_a_place() -> None:
    assert indices_of(runs.points(3)).tolist() == [0, 1, 2]
    assert indices_of(Rows(torch.tensor([7, 3]))).tolist() == [7, 3]


def test_any_map_style_data_set_will_do() -> None:
    pairs = TensorDataset(torch.arange(6.0)[:, None], torch.arange(6))
    for examples in (Indexed(pairs), Subset(Indexed(pairs), range(6)), [Indexed(pairs)[i] for i in range(6)]):
        batch = fetch(examples, [4, 1])  # type: ignore[arg-type]
        assert batch["index"].tolist() == [4, 1]
        assert batch["label"].tolist() == [4, 1]
        assert batch["input"].tolist() == [[4.0], [1.0]]


def test_examples_may_be_any_mappings() -> None:
    examples = [UserDict(index=i, input=UserDict(ids=torch.full((2,), i)), label=i) for i in range(4)]
    batch = fetch(examples, [3, 1])  # type: ignore[arg-type]
    assert type(batch) is dict
    assert batch["index"].tolist() == batch["label"].tolist() == [3, 1]
    assert batch["input"]["ids"].tolist() == [[3, 3], [1, 1]]


def test_tuples_are_answered_with_what_makes_dicts_of_them() -> None:
    pairs = TensorDataset(torch.zeros(3, 1), torch.zeros(3))
    with pytest.raises(ValueError, match=r"yields list; .*tutelage.data.Indexed\(dataset\)"):
        fetch(pairs, [0, 1])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"yields \['input', 'label'\]; expected dicts with 'index' and 'input'"):
        fetch([{"input": torch.zeros(1), "label": 0}], [0])  # type: ignore[arg-type]


@given(st.lists(st.integers() | st.text(max_size=5), max_size=4))
def test_a_seed_is_a_non_negative_number_of_63_bits_that_torch_takes(parts: list[int | str]) -> None:
    seed = seeds.derive(*parts)
    assert 0 <= seed < 2**63
    assert seed == seeds.derive(*parts)
    assert torch.equal(
        torch.rand(1, generator=seeds.generator(*parts)), torch.rand(1, generator=seeds.generator(*parts))
    )


def test_seeds_differ_by_every_part() -> None:
    parts = [(s, name, e, r) for s in range(4) for name in ("batch", "order") for e in range(6) for r in range(4)]
    assert len({seeds.derive(*part) for part in parts}) == len(parts)


def test_predictions_are_those_of_eval_mode_in_the_order_of_the_data() -> None:
    model, data = runs.network().train(), runs.points()
    model[1].eval()  # a frozen normalisation stays frozen
    outputs, batch = predict(model, data, batch_size=5)
    assert model.training
    assert not model[1].training
    expected = model.eval()(data.tensors["input"])
    assert isinstance(outputs, Tensor)
    torch.testing.assert_close(outputs, expected.detach(), rtol=1e-6, atol=1e-6)
    assert batch.keys() == {"index", "label"}
    assert torch.equal(batch["index"], torch.arange(runs.N))
    some, rest = predict(model, data, places=torch.tensor([3, 1]))
    assert rest["index"].tolist() == [3, 1]
    torch.testing.assert_close(some, expected[[3, 1]].detach())


def test_predictions_by_head_and_none() -> None:
    class Two(torch.nn.Linear):
        def forward(self, input: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
            return {"cls": super().forward(input), "dist": -super().forward(input)}

    outputs, _ = predict(Two(2, 3), runs.points(), batch_size=7)
    assert isinstance(outputs, dict)
    assert torch.equal(outputs["cls"], -outputs["dist"])
    assert len(outputs["cls"]) == runs.N
    with pytest.raises(ValueError, match="empty"):
        predict(Two(2, 3), TensorData(input=torch.zeros(0, 2)))


def test_a_lone_last_example_joins_the_batch_before_it():
    examples = TensorData(input=torch.arange(9.0)[:, None])
    sizes = [len(batch["input"]) for batch in Batches(examples, torch.arange(9), 4, None, (0,)).iterate()]
    assert sizes == [4, 5]
    assert [len(b["input"]) for b in Batches(examples, torch.arange(1), 4, None, (0,)).iterate()] == [1]
    assert [len(b["input"]) for b in Batches(examples, torch.arange(3), 1, None, (0,)).iterate()] == [1, 1, 1]


def test_two_groups_are_mixed_in_every_batch():
    few, many = torch.arange(3), torch.arange(3, 30)
    order = Mixed(few, many, share=0.5, batch_size=8, seed=0)
    epoch = order(2)
    assert torch.equal(epoch, order(2))
    assert not torch.equal(epoch, order(3))
    batches = epoch.split(8)
    assert [int((batch < 3).sum()) for batch in batches] == [4] * 7
    assert sorted(epoch[epoch >= 3].tolist()) == many.tolist()
    counts = torch.bincount(epoch[epoch < 3])
    assert int(counts.max() - counts.min()) <= 1
    with pytest.raises(ValueError, match="must leave both groups a place"):
        Mixed(few, many, share=0.01, batch_size=8, seed=0)
    with pytest.raises(ValueError, match="they are of 0 and 27"):
        Mixed(few[:0], many, share=0.5, batch_size=8, seed=0)


def test_an_order_repeated_is_its_epochs_one_after_another():
    order = Shuffled(5, 3)
    assert torch.equal(Repeated(order, 2)(1), torch.cat([order(2), order(3)]))
