"""Settings that cannot hold nonsense: each value is of the kind that its field declares, and lies where it may."""

from __future__ import annotations

import math
import types
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TOO_LARGE = "its square is beyond single precision, in which models compute; give it in another unit"

_NUMBERS = {int: "an integer", float: "a number"}


def check(settings: Any, section: str = "", /, **allowed: str) -> None:
    """Refuse a value that its field's annotation does not allow, or that lies outside its interval.

    NaN is refused everywhere, an infinite number wherever its interval does not end in ``inf]``. Where a field holds several
    numbers, each is checked; where it may be None, None is right.

    Args:
        settings: a dataclass.
        section: what stands before a field's name in the message.
        allowed: for fields with numbers, the interval that they lie in, as it is written: ``(0, 1]``.

    Raises:
        ValueError: a value that is not allowed, with its field and what is.
    """
    kind: Any = type(settings)
    kinds = _annotations(kind)
    assert allowed.keys() <= kinds.keys(), f"{kind.__name__} has no {allowed.keys() - kinds.keys()}"
    for each in fields(settings):
        value, interval = getattr(settings, each.name), allowed.get(each.name, "(-inf, inf)")
        wanted = _mistake(value, kinds[each.name], interval)
        if wanted:
            raise ValueError(f"{section}{section and '.'}{each.name}={value!r} must be {wanted}")


def check_number(name: str, value: Any, interval: str, kind: type = float) -> None:
    """Refuse an argument that is no number of the interval; the rules are those of `check`.

    Raises:
        ValueError: another value, with the argument's name and what is allowed.
    """
    wanted = _mistake(value, kind, interval)
    if wanted:
        raise ValueError(f"{name}={value!r} must be {wanted}")


def check_arguments(function: Any, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that a function's annotations do not allow, and NaN; the rules are those of `check`.

    Raises:
        ValueError: another value, with the argument's name and what is allowed.
    """
    kinds = _annotations(function)
    for name, value in arguments.items():
        wanted = _mistake(value, kinds.get(name), "[-inf, inf]")
        if wanted:
            raise ValueError(f"{name}={value!r} must be {wanted}")


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is written most alike, or None where none is near."""
    return next(iter(get_close_matches(name, list(known), n=1)), None)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a 'did you mean …?' suffix for a message, or an empty string if no known name is near."""
    near = closest(name, known)
    return "" if near is None else f"; did you mean {near!r}?"


def nearest_or_all(name: str, known: Iterable[str]) -> str:
    """Return 'did you mean …?' with the nearest known name, or a list of all names if none is near."""
    known = list(known)
    near = closest(name, known)
    return f"known: {', '.join(known) or 'none'}" if near is None else f"did you mean {near!r}?"


@cache
def _annotations(kind: Any) -> dict[str, Any]:
    try:
        return get_type_hints(kind)
    except NameError:  # of what only a type checker imports, or of a function's own class
        return {}


def _mistake(value: Any, kind: Any, interval: str) -> str:
    """Return what the value should have been, or nothing where it is right."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        found = [_mistake(value, each, interval) for each in inside]
        return "" if "" in found else " or ".join(found)
    if origin is Literal:
        hint = nearest(str(value).lower(), map(str, inside))
        right = any(value == each and type(value) is type(each) for each in inside)
        return "" if right else f"one of {', '.join(map(repr, inside))}{hint}"
    if origin in (tuple, list):
        return _mistake_in_sequence(value, inside, interval)
    if origin is dict:
        if not isinstance(value, Mapping):
            return "values by name"
        return next(filter(None, (_mistake(each, inside[1], interval) for each in value.values())), "")
    if kind in _NUMBERS:
        real = Integral if kind is int else Real
        right = isinstance(value, real) and not isinstance(value, bool) and _lies(float(value), interval)
        return "" if right else _NUMBERS[kind] + _within(interval)
    if kind is type(None):
        return "" if value is None else "None"
    if isinstance(kind, type) and (kind in (bool, str) or is_dataclass(kind)):
        return "" if isinstance(value, kind) else {bool: "true or false", str: "a text"}.get(kind, f"a {kind.__name__}")
    return ""


def _mistake_in_sequence(value: Any, kinds: tuple[Any, ...], interval: str) -> str:
    if not isinstance(value, (tuple, list)):
        return "a list"
    one = len(kinds) == 1 or kinds[1] is Ellipsis
    if not one and len(value) != len(kinds):
        return f"a list of {len(kinds)}"
    each = [kinds[0]] * len(value) if one else kinds
    wanted = next(filter(None, (_mistake(v, k, interval) for v, k in zip(value, each, strict=True))), "")
    return f"a list, each {wanted}" if wanted else ""


def _within(interval: str) -> str:
    low, high = interval[1:-1].split(", ")
    if high != "inf":
        return f" in {interval}"
    return "" if low == "-inf" else f" {'of at least' if interval[0] == '[' else 'above'} {low}"


def _lies(value: float, interval: str) -> bool:
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    below = value <= high if interval[-1] == "]" else value < high
    return above and below and not math.isnan(value)


def too_large(rows_ND: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which rows of features, (N,), have a sum of squares that single precision does not hold (`TOO_LARGE`)."""
    import numpy as np  # which the list of commands does without

    with np.errstate(over="ignore"):
        return ~np.isfinite(np.square(rows_ND, dtype=np.float32).sum(1))
