"""Two service processes on one decision log, killed under load again and again: what was answered is logged, and once.

    python -m benchmarks.faults.service [--kills 20] [--postgresql URL]

Clients ask both processes without a pause, and ask again for an ad whose answer did not come. At random moments one of the two
is killed by SIGKILL and started again. Then the log is compared with what the clients were told. Writes
benchmarks/results/service-kills.md.
"""

from __future__ import annotations

import argparse
import http.client
import io
import itertools
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.results_table import commit, hardware, markdown_table

SIZE, CLIENTS, TOKEN = 24, 6, "a-token-for-the-benchmark"
APART = (0.3, 1.5)  # seconds between a process's first answer after a kill and the next kill
PATIENCE = 60.0


@dataclass
class Told:
    """What clients were told: (ad, score, decision) of each answer, and how many requests ended otherwise, by how."""

    answers: list[tuple[str, float, str]] = field(default_factory=list)
    otherwise: Counter[str] = field(default_factory=Counter)


class Worker:
    """One service process, which can be killed and started again at the same port."""

    def __init__(self, model: Path, log: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        told = {"MODEL": model, "PORT": self.port, "TOKEN": TOKEN, "DECISIONS": log, "THREADS": 1, "QUEUE": 64}
        self.environment = {**os.environ, **{f"TUTELAGE_{name}": str(value) for name, value in told.items()}}
        self.start()

    def start(self) -> None:
        """Start the process, and return when it answers."""
        command = [sys.executable, "-m", "tutelage.production.serving"]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, env=self.environment, stdout=quiet, stderr=quiet)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                if self.ask("GET", "/ping", b"", {})[0] == 200:
                    return
            except (OSError, http.client.HTTPException):
                time.sleep(0.1)
        raise RuntimeError("the service does not answer")

    def kill(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.wait()

    def ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        """Return an answer's status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {TOKEN}", **headers})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def write_model(folder: Path) -> None:
    """Write a small network with random weights as it is served."""
    import torch

    import tutelage
    from tutelage.models import ModelSpec, build
    from tutelage.production.card import digest, write_card
    from tutelage.production.graph import Served, write_graph

    torch.manual_seed(0)
    folder.mkdir()
    model = Served(build(ModelSpec("pocket_resnet", 2, SIZE, 0.0, {"widths": (8, 16)})).eval())
    write_graph(model, torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8), folder / "graph-0.onnx")
    answer = {"kind": "decision", "threshold": 0.5, "fpr": 0.01, "confidence": None, "subtasks": None}
    facts = {"recipe": "moderation", "title": "small", "tutelage": tutelage.__version__, "answer": answer}
    files = {"graph-0.onnx": digest(folder / "graph-0.onnx")}
    told = {"classes": ["defective", "acceptable"], "graph": "graph-0.onnx", "files": files}
    write_card(folder, {**facts, **told, "input": {"kind": "image", "size": SIZE}})


def photograph(seed: int) -> bytes:
    """Return a small PNG."""
    from PIL import Image

    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def asked(workers: list[Worker], numbers: itertools.count[int], over: threading.Event, told: Told) -> None:
    """Ask for one ad after another, and for each until it is answered; every fifth ad is asked for at both processes."""
    images = [photograph(seed) for seed in range(8)]
    while not over.is_set():
        number = next(numbers)
        for _ in range(2 if number % 5 == 0 else 1):
            answered = False
            while not (answered or over.is_set()):
                worker = random.choice(workers)
                headers = {"Content-Type": "image/png", "x-ad-id": f"ad-{number}"}
                try:
                    status, body = worker.ask("POST", "/invocations", images[number % 8], headers)
                except (OSError, http.client.HTTPException) as error:
                    told.otherwise[type(error).__name__] += 1
                    time.sleep(0.02)
                    continue
                if answered := status == 200:
                    found = json.loads(body)
                    told.answers.append((found["id"], found["score"], found["decision"]))
                else:
                    told.otherwise[str(status)] += 1


def killed(model: Path, log: str, kills: int) -> list[str]:
    """Kill one of two processes so many times, and return the row of the table."""
    from tutelage.production.decisions import DecisionLog

    workers = [Worker(model, log) for _ in range(2)]
    over, told, numbers = threading.Event(), Told(), itertools.count()
    threads = [threading.Thread(target=asked, args=(workers, numbers, over, told)) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    draw = random.Random(0)
    try:
        for _ in range(kills):
            time.sleep(draw.uniform(*APART))
            worker = draw.choice(workers)
            worker.kill()
            worker.start()
        time.sleep(APART[1])
    finally:
        over.set()
        for thread in threads:
            thread.join()
        for worker in workers:
            worker.kill()
    with DecisionLog(log) as opened:
        table = opened.table()
    logged = {row.ad_id: (row.score, row.decision) for row in table.itertuples()}
    missing = sum(ad not in logged for ad, _, _ in told.answers)
    other = sum(logged.get(ad) != (score, decision) for ad, score, decision in told.answers) - missing
    counts = [
        kills,
        len(told.answers),
        sum(told.otherwise.values()),
        len(table),
        missing,
        len(table) - len(logged),
        other,
    ]
    kind = "PostgreSQL" if log.startswith("postgresql") else "SQLite"
    return [kind, *(f"{count:,}" for count in counts)]


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults.service", description=main.__doc__)
    parser.add_argument("--kills", type=int, default=20, help="for each database")
    parser.add_argument("--postgresql", metavar="URL", help="an empty database, postgresql://user@host/name")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder / "model")
        places = [str(folder / "decisions.sqlite"), *([given.postgresql] if given.postgresql else [])]
        rows = [killed(folder / "model", place, given.kills) for place in places]
    head = [
        "log",
        "kills",
        "answers",
        "no answer",
        "logged",
        "answered and not logged",
        "logged twice",
        "logged otherwise",
    ]
    command = "python -m benchmarks.faults.service" + (" --postgresql URL" if given.postgresql else "")
    text = (
        "# The service, killed under load\n\n"
        f"{datetime.now(UTC).date().isoformat()}, code {commit()}, on {hardware()}. Made by `{command}`.\n\n"
        f"Two processes write to one decision log while {CLIENTS} clients ask them without a pause. At random moments one\n"
        "of the two is killed by SIGKILL and started again. A client asks again for an ad whose answer did not come\n"
        "(counted as no answer), and for every fifth ad twice. In the end the log is compared with what clients were told.\n\n"
        f"{markdown_table(head, rows)}\n"
    )
    path = Path(__file__).parents[1] / "results" / "service-kills.md"
    path.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
