"""Without an accelerator its tests run on a device that is none, in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
LONG = "test_the_smallest_run_of_each_recipe"  # of which one is enough here


@pytest.mark.skipif(torch.accelerator.is_available(), reason="the tests run on the accelerator itself")
@pytest.mark.parametrize("narrow", [False, True], ids=["as CUDA", "without float64, as MPS"])
def test_what_is_marked_gpu_passes_on_a_device_that_is_none(narrow: bool) -> None:
    chosen = "interrupted or clusters" if narrow else f"not {LONG} or moderation"
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-m",
            "gpu",
            "-p",
            "stand_in",
            "-p",
            "no:cacheprovider",
            "-k",
            chosen,
            str(HERE),
        ],
        cwd=HERE.parents[1],
        env={**os.environ, "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{HERE}", "STAND_IN_NARROW": "1" * narrow},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stdout[-8000:]
    assert " passed" in ended.stdout
