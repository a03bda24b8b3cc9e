"""Values that cannot be meant, given to settings, to losses and weightings, to fit, to a loop, and to the command line."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from tutelage.cli import main

TABLES = "tests.test_bad_values"
"""Their tables, which the tests go through, too."""
Try = tuple[str, Callable[[], Any]]


def refused() -> list[tuple[str, Counter[str]]]:
    """Give every value of the tests' tables, and count what comes of it.

    Returns:
        For each place how many values were ``refused`` by the field's name, ``accepted``, or answered by an error ``else``.
    """
    tests: Any = importlib.import_module(TABLES)
    places: dict[str, Iterator[Try]] = {
        "settings, a value of another kind": _given(tests.EVERY, tests.described()),
        "settings, a number out of range": _given(
            tests.EVERY,
            (
                (kind, name, value)
                for kind, names in tests.OUT_OF_RANGE.items()
                for name, values in names.items()
                for value in values
            ),
        ),
        "arguments of losses and weightings": ((name, make) for name, make in tests.MADE.items()),
        "data given to `fit` and to a loop of one's own": ((match, go) for go, match in tests.DATA.values()),
    }
    found = [(place, Counter(_outcome(named, go) for named, go in tries)) for place, tries in places.items()]
    flags = (
        (words, flag, value)
        for words, flags in tests.FLAGS.items()
        for flag, values in flags.items()
        for value in values
    )
    return [*found, ("flags of the command line", Counter(_answer(*each) for each in flags))]


def _given(every: dict[type, Any], values: Iterator[tuple[type, str, Any]]) -> Iterator[Try]:
    for kind, name, value in values:
        yield re.escape(f"{name}={value!r}"), partial(replace, every[kind], **{name: value})


def _outcome(named: str, go: Callable[[], Any]) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            go()
    except (ValueError, TypeError) as error:
        return "refused" if re.search(named, str(error)) else "else"
    except Exception:
        return "else"
    return "accepted"


def _answer(words: str, flag: str, value: str) -> str:
    told = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(told), contextlib.chdir(folder):
        try:
            main([*words.split(), "--scale", "pocket", f"--{flag}={value}"])
        except SystemExit as stop:
            named = (re.findall(r"(\w+):", value) or [flag.rpartition(".")[2]])[-1]
            clear = stop.code == 2 and "Traceback" not in told.getvalue() and named in told.getvalue().splitlines()[-1]
            return "refused" if clear and not os.listdir(folder) else "else"
        except Exception:
            return "else"
    return "accepted"
