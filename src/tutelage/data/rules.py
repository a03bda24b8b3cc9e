"""Labelling rules: plain Python functions that vote for a class, or abstain, and what is made of them in parallel."""

from __future__ import annotations

import importlib.util
import math
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.abc import SourceLoader
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, overload

import numpy as np
import pandas as pd
from tqdm import tqdm

from tutelage.data.problems import Problems
from tutelage.data.vote_classes import ABSTAIN, AmbiguousVote, VoteClasses
from tutelage.data.votes import Votes
from tutelage.hardware import available_cpus

Vote = Callable[..., "int | str | None"]
CHUNK = 5_000
SERIAL = 50_000  # fewer examples are done before other processes have started
FAILURE = (Exception, SystemExit)  # of anybody's code, which may call sys.exit
LISTED = 20  # failures of one rule; the others are counted


class Rule:
    """A function of one example that returns a class (its name or number), or `ABSTAIN` (or None); see `rule`."""

    def __init__(
        self,
        function: Vote,
        *,
        name: str | None = None,
        pre: Sequence[Callable[[Any], Any]] = (),
        score: Callable[[Any], float] | None = None,
        resources: Mapping[str, Any] | None = None,
    ) -> None:
        self.function = function
        self.name = name or function.__name__
        self.pre = tuple(pre)
        self.score = score
        self.resources = dict(resources or {})
        self.file: tuple[str, bytes] | None = None  # the path and the content that it was read from
        self.__doc__ = function.__doc__

    def __call__(self, x: Any) -> Any:
        """Return the rule's answer for one example."""
        return self.function(_through(self.pre, x), **self.resources)

    def __reduce__(self) -> Any:
        """Travel to another process: by file and name, by the place where a decorator has put it, or in its parts."""
        if self.file is not None:
            return _of_file, (*self.file, self.name)
        place = (self.function.__module__, self.function.__qualname__)
        if _at(*place) is self:
            return _at, place
        parts: dict[str, Any] = {"name": self.name, "pre": self.pre, "score": self.score, "resources": self.resources}
        return partial(Rule, **parts), (self.function,)

    def __repr__(self) -> str:
        return f"Rule({self.name!r})"


@overload
def rule(function: Vote, /) -> Rule: ...
@overload
def rule(
    *,
    name: str | None = ...,
    pre: Sequence[Callable[[Any], Any]] = ...,
    score: Callable[[Any], float] | None = ...,
    resources: Mapping[str, Any] | None = ...,
) -> Callable[[Vote], Rule]: ...
def rule(function: Vote | None = None, /, **options: Any) -> Rule | Callable[[Vote], Rule]:
    """Make a labelling rule of a function; a decorator, with or without arguments.

    ::

        @rule
        def asks_to_subscribe(x):
            return SPAM if "subscribe" in x.text.lower() else ABSTAIN

    The function is given one example, whose columns are attributes (``x.text``), and must not change it.

    Args:
        function: the function.
        name: the rule's name; the function's by default.
        pre: preprocessors, called one after another on a copy of the example; each returns the example for the next. Rules
            with the same preprocessors share their work.
        score: how strongly the rule's condition holds for an example that it votes on, in [0, 1]: a continuous rule. The
            generative model takes 1 for certainty, 0.5 for nothing, and less for evidence against the rule's class.
        resources: keyword arguments that the function is always given.
    """
    return partial(Rule, **options) if function is None else Rule(function)


def load_rules(path: str | os.PathLike[str]) -> list[Rule]:
    """Import a Python file, which runs it, and return its rules in the order in which they stand there.

    A file that was edited is run again; one that was not returns the same rules. Other processes are given what it held.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be imported, holds no rule, or two of one name.
    """
    file = Path(path).resolve()
    if not file.is_file():
        raise FileNotFoundError(f"there is no file of rules {file}")
    return list(_rules_of(str(file), file.read_bytes()))


@cache
def _rules_of(path: str, content: bytes) -> tuple[Rule, ...]:
    spec = importlib.util.spec_from_file_location(f"rules_of_{Path(path).stem}", path)
    if spec is None or not isinstance(spec.loader, SourceLoader):
        raise ValueError(f"rules={path!r} is no Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        exec(spec.loader.source_to_code(content, path), vars(module))
    except FAILURE as error:
        raise ValueError(f"rules={path!r} cannot be imported: {type(error).__name__}: {error}") from error
    rules = tuple(dict.fromkeys(value for value in vars(module).values() if isinstance(value, Rule)))
    if not rules:
        raise ValueError(f"{path} holds no rule: decorate functions with @rule, from tutelage.data import rule")
    _check_names(rules)
    for found in rules:
        found.file = path, content
    return rules


def _of_file(path: str, content: bytes, name: str) -> Rule:
    return next(rule for rule in _rules_of(path, content) if rule.name == name)


def _at(module: str, place: str) -> Any:
    value: Any = importlib.import_module(module)
    for part in place.split("."):
        value = getattr(value, part, None)
    return value


def _check_travel(rules: Sequence[Rule]) -> None:
    for rule in rules:
        try:
            ForkingPickler.dumps(rule)
        except Exception as error:
            raise ValueError(
                f"rule {rule.name} cannot be given to other processes ({error}); define it and what it uses at the top of a "
                "module, or set processes=1"
            ) from error


def _check_names(rules: Iterable[Rule]) -> None:
    twice = [name for name, count in Counter(rule.name for rule in rules).items() if count > 1]
    if twice:
        raise ValueError(f"rules: the name {twice[0]!r} occurs twice; rename one, or give it a name=")


@dataclass(frozen=True)
class Applied:
    """What rules said of a table.

    Attributes:
        votes: the votes; a rule that failed on an example abstains there.
        failures: how often each rule failed, by its name; rules that never did are not named.
        problems: the first failures of each rule, with the example's id and the error.
    """

    votes: Votes
    failures: dict[str, int] = field(default_factory=dict)
    problems: Problems = field(default_factory=Problems)


def apply_rules(
    rules: Sequence[Rule],
    table: pd.DataFrame,
    *,
    classes: Sequence[str] = (),
    processes: int | None = None,
    chunk: int = CHUNK,
    quiet: bool = False,
) -> Applied:
    """Ask every rule about every row. An exception in a rule is noted with rule and row, and nothing else stops.

    Other processes are started afresh, so a script that calls this with several needs its ``if __name__ == "__main__":``.

    Args:
        rules: the rules, at least one.
        table: one row an example; a column ``id`` names rows in the list of failures.
        classes: the names of the classes, which rules may return in the place of numbers; with them numbers are checked. Where
            a name looks like a number, a number that a rule returns is a name, and never the place of a class.
        processes: how many work; all cores by default, one where there is little to do.
        chunk: rows that a process is given at a time.
        quiet: show no progress bar.

    Raises:
        ValueError: no rule, two of one name, one that cannot be given to other processes, or -1 was returned where a class
            is called that.
    """
    if not rules:
        raise ValueError("rules is empty; give at least one")
    _check_names(rules)
    if processes is None:
        processes = 1 if len(table) < SERIAL else available_cpus()
    columns = {str(name): table[name].tolist() for name in table}
    chunks = [range(start, min(start + chunk, len(table))) for start in range(0, len(table), chunk)]
    parts = ({name: values[rows.start : rows.stop] for name, values in columns.items()} for rows in chunks)
    values_NR = np.full((len(table), len(rules)), ABSTAIN, dtype=np.int16)
    scores_NR = np.full((len(table), len(rules)), np.nan, np.float32) if any(rule.score for rule in rules) else None
    failures: Counter[str] = Counter()
    problems = Problems()
    ids = columns.get("id", range(len(table)))
    with tqdm(total=len(table), desc="rules", unit="row", leave=False, disable=True if quiet else None) as bar:
        for rows, found in zip(chunks, _answers(rules, tuple(classes), parts, processes), strict=True):
            values_NR[rows.start : rows.stop] = found.values
            if scores_NR is not None and found.scores is not None:
                scores_NR[rows.start : rows.stop] = found.scores
            for row, name, why in found.failures:
                failures[name] += 1
                if failures[name] <= LISTED:
                    problems.add(ids[rows.start + row], "rule_failed", f"rule {name}: {why}")
            bar.update(len(rows))
    for name, count in failures.items():
        if count > LISTED:
            problems.add("", "rule_failed", f"rule {name}: {count - LISTED} further failures")
    return Applied(Votes(values_NR, tuple(rule.name for rule in rules), scores_NR), dict(failures), problems)


class _Answers(NamedTuple):
    values: np.ndarray
    scores: np.ndarray | None
    failures: list[tuple[int, str, str]]


def _answers(
    rules: Sequence[Rule], classes: tuple[str, ...], parts: Iterable[dict[str, list[Any]]], processes: int
) -> Iterator[_Answers]:
    if processes <= 1:
        yield from (_ask(rules, classes, part) for part in parts)
        return
    _check_travel(rules)
    context = multiprocessing.get_context("spawn")  # a fork would share this process's threads' locks
    with ProcessPoolExecutor(processes, context, initializer=_start, initargs=(list(rules), classes)) as pool:
        yield from pool.map(_ask_ours, parts)


_OURS: tuple[list[Rule], tuple[str, ...]] = ([], ())


def _start(rules: list[Rule], classes: tuple[str, ...]) -> None:
    global _OURS
    _OURS = rules, classes


def _ask_ours(part: dict[str, list[Any]]) -> _Answers:
    return _ask(*_OURS, part)


def _ask(rules: Sequence[Rule], classes: Sequence[str], part: dict[str, list[Any]]) -> _Answers:
    """Ask all rules about the examples of one chunk."""
    rows = zip(*part.values(), strict=True) if part else iter(())
    plain = [SimpleNamespace(**dict(zip(part, row, strict=True))) for row in rows]
    prepared: dict[tuple[Any, ...], list[Any]] = {(): plain}
    values = np.full((len(plain), len(rules)), ABSTAIN, dtype=np.int16)
    scored = any(rule.score for rule in rules)
    scores = np.full((len(plain), len(rules)), np.nan, dtype=np.float32) if scored else None
    failures: list[tuple[int, str, str]] = []
    of_answer = _remembered(VoteClasses(classes).of_answer)
    for column, rule in enumerate(rules):
        if rule.pre not in prepared:
            prepared[rule.pre] = [_tried(_through, rule.pre, SimpleNamespace(**vars(x))) for x in plain]
        examples = prepared[rule.pre]
        for row, answer in enumerate(_all(rule, examples)):
            try:
                if isinstance(answer, FAILURE):
                    raise answer
                label = of_answer(answer)
                if label == ABSTAIN:
                    continue
                if rule.score is not None and scores is not None:
                    scores[row, column] = _strength(rule.score(examples[row]))
                values[row, column] = label
            except AmbiguousVote as error:
                raise AmbiguousVote(f"rule {rule.name} {error}") from None
            except FAILURE as error:
                failures.append((row, rule.name, f"{type(error).__name__}: {error}"))
    return _Answers(values, scores, failures)


def _through(steps: Sequence[Callable[[Any], Any]], x: Any) -> Any:
    for step in steps:
        x = step(x)
        if x is None:
            raise ValueError(
                f"its preprocessor {getattr(step, '__name__', step)} returned nothing; it must return the example"
            )
    return x


def _all(rule: Rule, examples: list[Any]) -> list[Any]:
    """Return a rule's answers, an exception in the place of each that there is none."""
    function, resources = rule.function, rule.resources
    if not rule.pre:
        try:
            return [function(x, **resources) for x in examples] if resources else [function(x) for x in examples]
        except FAILURE:  # rare; then one by one
            pass
    return [x if isinstance(x, FAILURE) else _tried(function, x, **resources) for x in examples]


def _tried(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    try:
        return function(*arguments, **named)
    except FAILURE as error:
        return error


def _remembered(of_answer: Callable[[Any], int]) -> Callable[[Any], int]:
    """Return the same function, which is asked once for each plain answer."""
    known: dict[Any, int] = {}

    def remembered(answer: Any) -> int:
        if type(answer) is not int and type(answer) is not str:  # True is 1 to a dict
            return of_answer(answer)
        if (label := known.get(answer)) is None:
            label = known[answer] = of_answer(answer)
        return label

    return remembered


def _strength(score: Any) -> float:
    value = float(score)
    if not (math.isfinite(value) and 0 <= value <= 1):
        raise ValueError(f"its score is {score!r}; expected a number in [0, 1]")
    return value
