"""Files of a run that a disk has spoilt: is the run refused by their name, or does it end as it would have?"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.faults.kills import contents, in_a_process, small
from tutelage import recipes
from tutelage.training import checkpoint

RECIPE = "multilabel"
CUT = 9  # the checkpoint after which the process is gone


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "a bit flipped": _flipped,
    "cut in half": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
    "gone": lambda data: None,
}
BOTH = f"{checkpoint.CURRENT} and {checkpoint.PREVIOUS}"


def damaged(folder: Path) -> list[tuple[str, Counter[str]]]:
    """Damage each file of a run that was cut off and of one that had ended in every way, and run it again.

    Returns:
        For each file how often the run then ended ``as without``, was ``refused`` by the file's name, or did ``else``.
    """
    task, settings = small(RECIPE)

    def run(out: Path) -> None:
        recipes.run(RECIPE, task, settings, out, quiet=True)

    def cut(out: Path) -> None:
        count, save = 0, checkpoint.save

        def counting(*arguments: Any) -> None:
            nonlocal count
            save(*arguments)
            count += 1
            if count == CUT:
                os._exit(0)

        with mock.patch.object(checkpoint, "save", counting):
            run(out)

    for name, work in (("ended", run), ("cut", cut)):
        os.waitpid(in_a_process(partial(work, folder / name)), 0)
    wanted, found = contents(folder / "ended"), []
    for state in ("cut", "ended"):
        of_run = [path.relative_to(folder / state) for path in sorted((folder / state).rglob("*")) if path.is_file()]
        files = {str(path): [path] for path in of_run if path.name != "run.lock"}
        if both := [path for path in of_run if path.name in (checkpoint.CURRENT, checkpoint.PREVIOUS)]:
            files[f"{both[0].parent}/{BOTH}"] = both
        for name, paths in files.items():
            outcomes: Counter[str] = Counter()
            for damage in DAMAGES.values():
                shutil.copytree(folder / state, folder / "damaged")
                for path in paths:
                    data = damage((folder / "damaged" / path).read_bytes())
                    (folder / "damaged" / path).unlink() if data is None else (folder / "damaged" / path).write_bytes(
                        data
                    )
                outcomes[_outcome(lambda: run(folder / "damaged"), folder / "damaged", paths, wanted)] += 1
                shutil.rmtree(folder / "damaged")
            found.append((f"{name}, of a run that {'was cut off' if state == 'cut' else 'had ended'}", outcomes))
    return found


def _outcome(run: Callable[[], None], out: Path, paths: list[Path], wanted: dict[str, bytes]) -> str:
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            run()
    except (ValueError, OSError) as error:
        return "refused" if any(path.name in str(error) or str(path.parent) in str(error) for path in paths) else "else"
    except Exception:
        return "else"
    return "as without" if contents(out) == wanted else "else"
