"""Killing a run at any moment and running it again ends in the same figures."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from tutelage import recipes
from tutelage.training import Interrupted


def test_killed_at_random_moments_and_run_again(moderated: recipes.Run, tmp_path: Path) -> None:
    draw = random.Random(0)
    moments = [f"{draw.uniform(0, 0.8):.2f}" for _ in range(3)]
    out = tmp_path / "run"
    command = [sys.executable, tiny.__file__, str(out), *moments]
    kills = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert kills.returncode == 0, kills.stderr
    assert int(kills.stdout) > 0, "no run lived long enough to be killed"
    for name in ("metrics.json", "examples.parquet", "subtasks.parquet", "config.yaml"):
        assert (out / name).read_bytes() == (moderated.folder / name).read_bytes(), name
    assert not list(out.rglob(".*")), "a temporary file was left behind"


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_stops_and_goes_on(stop, moderated: recipes.Run, tmp_path: Path) -> None:
    """The signal comes while the student learns; nothing is lost."""
    fit = sys.modules["tutelage.training.loop"].Loop
    step = fit.train_step

    def interrupted(self, batch, steps):
        if self.plan.name == "student" and self.step == 2:
            os.kill(os.getpid(), stop)
        step(self, batch, steps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "train_step", interrupted)
        with pytest.raises(Interrupted, match="student stopped at step 3 of 4; run it again to go on"):
            recipes.run("moderation", tiny.task(), tiny.settings(), tmp_path, quiet=True)
    assert not (tmp_path / "metrics.json").exists()
    recipes.run("moderation", tiny.task(), tiny.settings(), tmp_path, quiet=True)
    assert (tmp_path / "metrics.json").read_bytes() == (moderated.folder / "metrics.json").read_bytes()
