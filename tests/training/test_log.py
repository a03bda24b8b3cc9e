"""What a person sees of a training: a bar on a terminal, and elsewhere a line now and then."""

import pytest
from tqdm.std import tqdm

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


def test_a_terminal_and_a_notebook_have_a_bar(monkeypatch):
    monkeypatch.setattr(log.sys.stderr, "isatty", lambda: True, raising=False)
    with Log(None).progress(10, 0, "student") as bar:
        assert isinstance(bar, tqdm)
        assert not bar.disable
    monkeypatch.setattr(log.sys.stderr, "isatty", lambda: False, raising=False)
    monkeypatch.setattr(log, "_in_notebook", lambda: True)
    with Log(None).progress(10, 0, "student") as bar:
        assert isinstance(bar, tqdm)
