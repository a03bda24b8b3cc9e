"""The accelerator that the tests here run on."""

import pytest
import torch


@pytest.fixture
def device() -> torch.device:
    found = torch.accelerator.current_accelerator(check_available=True)
    if found is None:
        pytest.skip("there is no accelerator")
    return torch.device(found.type, 0)
