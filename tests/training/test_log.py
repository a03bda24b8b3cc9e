"""What a person sees of a training: a bar on a terminal, and elsewhere a line now and then."""

import pytest
from torch import nn
from tqdm.std import tqdm

from tutelage import Fitted
from tutelage.training import Log, log


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(log.time, "monotonic", lambda: now[0])
    return now


def test_off_a_terminal_a_line_says_how_long_it_will_take(clock, capsys):
    with Log(None).progress(1_000, 200, "student") as bar:  # 200 steps were taken by the run that was interrupted
        for step in range(200, 1_000):
            clock[0] += 0.5
            if step == 500:
                bar.set_postfix({"val": "0.912"})
            bar.update()
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "student: step 260 of 1,000, about 6 min left"  # 740 steps of half a second
    assert said[-1] == "student: step 980 of 1,000, val 0.912, about 10 s left"
    assert len(said) == 13  # 400 seconds


def test_a_quiet_log_and_a_short_training_say_nothing(clock, capsys):
    for quiet, seconds in ((True, 60.0), (False, 0.1)):
        with Log(None, quiet=quiet).progress(100, 0, "student") as bar:
            for _ in range(100):
                clock[0] += seconds
                bar.update()
    assert capsys.readouterr().err == ""


def test_a_finished_training_prints_as_a_table():
    history = [
        {"step": step, "epoch": 0, "label": 1 / step, "val": val} for step, val in enumerate([0.5, 0.9, *[0.7] * 8], 1)
    ]
    assert repr(Fitted(nn.Linear(1, 1), 10, history, history[1], skipped=1_200)).splitlines() == [
        "Linear: 10 steps, 10 evaluations, 1,200 examples skipped",
        "step  epoch   label  val",
        "   2      0     0.5  0.9 *",
        *(f"{step:4}      0  {f'{1 / step:.4g}':>6}  0.7" for step in range(6, 11)),
    ]
    assert repr(Fitted(nn.Linear(1, 1), 3)) == "Linear: 3 steps, 0 evaluations"


def test_a_terminal_and_a_notebook_have_a_bar(monkeypatch):
    monkeypatch.setattr(log.sys.stderr, "isatty", lambda: True, raising=False)
    with Log(None).progress(10, 0, "student") as bar:
        assert isinstance(bar, tqdm)
        assert not bar.disable
    monkeypatch.setattr(log.sys.stderr, "isatty", lambda: False, raising=False)
    monkeypatch.setattr(log, "_in_notebook", lambda: True)
    with Log(None).progress(10, 0, "student") as bar:
        assert isinstance(bar, tqdm)
