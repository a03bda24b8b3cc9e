"""What every test stands on: one thread, and a task that takes no time."""

import os

import pytest
import torch
from hypothesis import settings
from torch import nn

from tutelage.data import TensorData

torch.set_num_threads(1)
# No test fetches anything, or finds what its user has fetched: an encoder would make other settings the default.
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": "/nowhere"}
for name in [name for name in os.environ if name.startswith("TUTELAGE_")]:
    del os.environ[name]  # where data lies and what a service is told is a test's own
# A busy machine is no failure, and the same commit gives the same verdict; `--hypothesis-seed N` explores other cases.
settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")


@pytest.fixture
def tiny_data() -> TensorData:
    """22 points in the plane and, by their sign, three classes: two batches of 8 and one of 6."""
    generator = torch.Generator().manual_seed(1)
    input = torch.randn(22, 2, generator=generator)
    return TensorData(input=input, label=(input > 0).long().sum(1))


@pytest.fixture
def tiny_model() -> nn.Module:
    """Batch normalisation and dropout, the two layers that remember and throw dice."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))
