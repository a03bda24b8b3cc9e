"""Two processes with unequal shares of a batch train as one process with all of it, whatever the weighting."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from weighting_zoo import METHODS, Loop, N, assert_close, build, examples, network, rows

import processes
from tutelage.hypergradient import NeumannWarning

SHARES = [(slice(0, 5), slice(0, 2)), (slice(5, 8), slice(2, 6))]  # of the batch, of the held-out examples
STEPS = 3


def trained(
    name: str, share: tuple[slice, slice], folder: Path, wrap: Callable[[nn.Module], nn.Module] | None = None
) -> dict[str, Tensor]:
    """Return the model after some steps of a process's share, a third of it with an example that is not finite."""
    loop = Loop(name, wrap=wrap)
    for step in range(STEPS):
        order = torch.randperm(N, generator=torch.Generator().manual_seed(step))[:8]
        batch = rows(examples(), order)
        if step == 1:
            batch["input"][6] = torch.nan
        held_out = rows(examples(6, seed=50 + step), torch.arange(6)[share[1]])
        torch.manual_seed(step)
        loop.step(rows(batch, torch.arange(8)[share[0]]), held_out)
    loop.weighting.save(folder / f"{name}.safetensors")
    return {key.removeprefix("module."): value for key, value in loop.model.state_dict().items()}


def in_one_process(rank: int, folder: str) -> None:
    warnings.simplefilter("ignore", NeumannWarning)
    tables = {name: build(name, network()) for name in ("AMAL", "Joint")}  # older than the group, as in `fit`
    with processes.group():
        found = {name: trained(name, SHARES[rank], Path(folder), DistributedDataParallel) for name in METHODS}
        torch.save(found, Path(folder) / f"{rank}.pt")
        for name, weighting in tables.items():
            weighting.load(Path(folder) / f"{name}.safetensors")
            held = (weighting if name == "AMAL" else weighting.by_example).table.rows  # type: ignore[union-attr]
            assert len(held) == N // 2
            weighting.save(Path(folder) / f"{name}, again.safetensors")
        starved(rank)


def starved(rank: int) -> None:
    """One process has nothing to train on: both leave the step out, and neither waits for the other."""
    for name in ("Equal", "AMAL", "MAOAL"):
        loop, batch = Loop(name), rows(examples(), range(4))
        if rank == 1:
            batch["input"].fill_(torch.nan)
        loop.weighting.backward(loop.objective(batch), batch, loop.model)
        assert all(p.grad is None for p in loop.model.parameters())
        assert int(loop.weighting.skipped) == 4


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, dict[str, Tensor]]]]:
    folder = tmp_path_factory.mktemp("processes")
    processes.together(2, in_one_process, str(folder))
    return folder, [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.filterwarnings("ignore::tutelage.hypergradient.NeumannWarning")
@pytest.mark.parametrize("name", METHODS)
def test_two_processes_equal_one_big_batch(name, both, tmp_path):
    folder, models = both
    expected = trained(name, (slice(None), slice(None)), tmp_path)
    for found in models:
        assert_close(found[name], expected, rtol=1e-6)
    kept, one = (load_file(place / f"{name}.safetensors") for place in (folder, tmp_path))
    del kept["skipped"], one["skipped"]  # each process counts its own
    assert_close(kept, one, rtol=1e-5)


@pytest.mark.parametrize("name", ["AMAL", "Joint"])
def test_a_table_is_whole_on_the_disk_and_in_parts_in_the_processes(name, both):
    folder, _ = both
    first, second = (load_file(folder / f"{name}{end}.safetensors") for end in ("", ", again"))
    rows_of = "table.rows" if name == "AMAL" else "by_example.table.rows"
    assert first[rows_of].shape == (N, 2)
    assert torch.equal(second[rows_of], first[rows_of])
