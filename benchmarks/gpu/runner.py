"""Pieces of work one after another, each in a process of its own, within a time; what is done is remembered."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from benchmarks.gpu.pieces import PIECES, Place
from tutelage.files import write_atomically

GRACE = 45.0  # seconds in which a training that is asked to stop saves itself
SHORTEST = 20.0  # seconds of work, for less of which no piece is begun


def run(place: Place, *, minutes: float) -> int:
    """Run the pieces that are not done yet until the time is over.

    A piece that is asked to stop saves its checkpoint, and the next call goes on there. One that fails is told, is tried again
    by the next call, and does not keep the others from running.

    Returns:
        0 when all pieces are done, 1 when one failed, 3 when the time was over first.
    """
    place.runs.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + 60 * minutes
    done = finished(place.runs)
    failed = False
    for name, piece in PIECES.items():
        if name in done:
            continue
        if missing := piece.missing(place):
            print(f"{name}: left out, since there is no {missing}", flush=True)
            continue
        left = until - time.monotonic()
        if left < SHORTEST:
            print(f"the time is over before {name}; the same command goes on there", flush=True)
            return 3
        print(f"{name}: {piece.tells}", flush=True)
        code, late = _call(name, place, left)
        if code == 0:
            done.append(name)
            text = json.dumps(done, indent=1)
            write_atomically(place.runs / DONE, partial(Path.write_text, data=text, encoding="utf-8"))
        elif late:
            print(f"{name}: stopped, since the time is over; the same command goes on there", flush=True)
            return 3
        else:
            print(f"{name}: failed with {code}", flush=True)
            failed = True
    print("nothing is left to do" if not failed else "what failed is tried again by the same command", flush=True)
    return int(failed)


DONE = "done.json"


def finished(runs: Path) -> list[str]:
    """Return the names of the pieces that are done."""
    path = runs / DONE
    return list(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else []


def _call(name: str, place: Place, seconds: float) -> tuple[int, bool]:
    """Run a piece for so long; return its exit code, and whether it was stopped."""
    words = ["piece", name, "--runs", str(place.runs), "--out", str(place.out)]
    words += ["--data", str(place.data)] if place.data is not None else []
    words += ["--tiny"] if place.tiny else []
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.gpu", *words])
    try:
        return process.wait(seconds), False
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
        return process.wait(), True
    except BaseException:
        process.kill()
        raise
