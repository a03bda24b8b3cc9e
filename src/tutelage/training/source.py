"""Which code computes: results of one code are not taken for those of another."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tutelage

ROOT = Path(tutelage.__file__).parent
SHOWN = ("cli", "reports")  # the rooms that compute nothing


@functools.cache
def version() -> str:
    """Return the package's version and a hash of its sources, all but those of the command line and the reports.

    A stage or a checkpoint that was made by other sources is not continued, so that an upgrade mixes nothing.
    """
    files = (path for path in ROOT.rglob("*.py") if path.relative_to(ROOT).parts[0] not in SHOWN)
    return f"{tutelage.__version__}+{_hash_of(sorted(files))}"


def version_of(work: Callable[..., Any]) -> str:
    """Return the version of what a function computes with: the package, and the files outside it that define the function
    and the functions that it encloses.
    """
    files: set[Path] = set()
    waiting: list[Any] = [work]
    seen: set[int] = set()
    while waiting:
        found = waiting.pop()
        while isinstance(found, functools.partial | types.MethodType):
            found = found.func if isinstance(found, functools.partial) else found.__func__
        if not isinstance(found, types.FunctionType) or id(found) in seen:
            continue
        seen.add(id(found))
        files.add(Path(found.__code__.co_filename))
        for cell in found.__closure__ or ():
            with contextlib.suppress(ValueError):  # not given a value yet
                waiting.append(cell.cell_contents)
    outside = sorted(path for path in files if path.is_file() and not path.is_relative_to(ROOT))
    return f"{version()}+{_hash_of(outside)}" if outside else version()


def _hash_of(files: list[Path]) -> str:
    digest = hashlib.blake2b(digest_size=6)
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
