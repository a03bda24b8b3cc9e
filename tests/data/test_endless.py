from itertools import islice

import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler

from tutelage.data import Indexed, endless

X = torch.arange(7.0)


def test_pass_after_pass_each_in_a_new_order():
    loader = DataLoader(Indexed(X), 3, shuffle=True, generator=torch.Generator().manual_seed(0))
    batches = list(islice(endless(loader), 9))
    passes = [torch.cat([batch["index"] for batch in batches[3 * i : 3 * i + 3]]).tolist() for i in range(3)]
    assert all(sorted(each) == list(range(7)) for each in passes)
    assert len({tuple(each) for each in passes}) == 3


def test_a_distributed_sampler_is_told_the_pass():
    sampler = DistributedSampler(Indexed(X), num_replicas=2, rank=0, seed=0)
    batches = list(islice(endless(DataLoader(Indexed(X), 4, sampler=sampler)), 3))
    orders = [batch["index"].tolist() for batch in batches]
    assert orders[0] != orders[1] != orders[2]


def test_what_has_one_pass_or_none_is_refused():
    with pytest.raises(TypeError, match="list_iterator, which ends after one pass: give the DataLoader"):
        endless(iter([1]))
    for batch in ({"input": X, "label": X}, X):
        with pytest.raises(TypeError, match=r"loader is a (dict|Tensor), one batch and no loader: give the DataLoader"):
            endless(batch)
    assert next(endless([{"input": X}]))["input"] is X
    with pytest.raises(ValueError, match="yields no batch"):
        next(endless(DataLoader(Indexed(X), 8, drop_last=True)))


def test_nothing_is_drawn_and_no_worker_started_before_the_first_batch():
    class Watched(DataLoader):
        begun = 0

        def __iter__(self):
            self.begun += 1
            return super().__iter__()

    loader = Watched(torch.arange(4), batch_size=2, shuffle=True)
    state = torch.get_rng_state()
    batches = endless(loader)
    assert loader.begun == 0
    assert torch.equal(torch.get_rng_state(), state)
    next(batches)
    assert loader.begun == 1
