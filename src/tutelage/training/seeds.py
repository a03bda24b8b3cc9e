"""Random numbers as a function of where training stands, so that nothing needs to be remembered to resume."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(*parts: int | str) -> int:
    """Return a 63-bit seed that depends on every part: derive(seed, "epoch", 3)."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """Return a CPU generator seeded by `derive`."""
    return torch.Generator().manual_seed(derive(*parts))


def begin(device: torch.device, *parts: int | str) -> None:
    """Let torch's generators of the CPU, and of the accelerators where one is used, start from `derive`."""
    if device.type == "cpu":
        torch.default_generator.manual_seed(derive(*parts))
    else:
        torch.manual_seed(derive(*parts))  # asks after every kind of device, for a hundred times as long


@contextmanager
def fixed(*parts: int | str) -> Iterator[None]:
    """Inside, all global generators (torch on the CPU, numpy, random) start from `derive`; outside, they are as they were."""
    seed = derive(*parts)
    # Libraries draw from numpy's global state, so that it is what has to be kept and set, in spite of NPY002.
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)
