"""The service beside bare ONNX Runtime: throughput, and latency at fixed arrival rates up to twice saturation, in one run.

    python -m benchmarks.speed.serving

A DeiT-Tiny with random weights on JPEGs of 500 x 375 pixels. Bare ONNX Runtime has its batches decoded and at hand; the
service reads HTTP, decodes and batches, in a process of its own with as many threads for the model, and the clients are a third
process. Arrivals are a Poisson process that does not wait for answers. Writes benchmarks/results/serving.md.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil

from benchmarks.results_table import hardware, markdown_table

MODEL, SIZE, BATCH, QUEUE = "deit_tiny_distilled_patch16_224", 224, 16, 48
SECONDS, TURNS = 8.0, 3
RATES = (0.5, 0.8, 1.0, 2.0)  # of the service's own saturation
PORT, TOKEN = 18_080, "a-token-for-the-benchmark"


@dataclass
class Seen:
    """What the clients saw: seconds to each answer by its status, requests without one, and how long all took."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    lost: int = 0
    took: float = 0.0

    def count(self, status: str) -> int:
        return len(self.seconds.get(status, []))


def write_model(folder: Path) -> None:
    import torch

    import tutelage
    from tutelage.models import ModelSpec, build
    from tutelage.production.card import digest, write_card
    from tutelage.production.graph import Served, write_graph

    torch.manual_seed(0)
    model = Served(build(ModelSpec(MODEL, 2, SIZE)).eval())
    write_graph(model, torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8), folder / "graph-0.onnx")
    write_card(
        folder,
        {
            "recipe": "moderation",
            "title": MODEL,
            "tutelage": tutelage.__version__,
            "input": {"kind": "image", "size": SIZE},
            "answer": {"kind": "decision", "threshold": 0.5, "fpr": 0.01, "confidence": None, "subtasks": None},
            "classes": ["defective", "acceptable"],
            "graph": "graph-0.onnx",
            "files": {"graph-0.onnx": digest(folder / "graph-0.onnx")},
        },
    )


def photograph(seed: int) -> bytes:
    """A JPEG of 500 x 375 pixels, with detail at every scale."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize(
        (500, 375), Image.Resampling.BICUBIC
    )
    noisy = np.asarray(coarse, dtype=np.int16) + rng.integers(-12, 13, (375, 500, 3), dtype=np.int16)
    buffer = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def bare(folder: Path) -> tuple[float, float]:
    """Examples a second of ONNX Runtime alone, on batches that are there already, and the processor's seconds for each."""
    from tutelage.production.exported import ExportedModel

    model = ExportedModel(folder, threads=1)
    batch = np.stack([model.prepare(photograph(seed)) for seed in range(BATCH)])
    model.run(batch)
    done, started, used = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - started < SECONDS / 2:
        model.run(batch)
        done += BATCH
    return done / (time.perf_counter() - started), (time.process_time() - used) / done


class Clients:
    """Connections that are kept and taken in turn."""

    def __init__(self) -> None:
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.requests = [request(photograph(seed)) for seed in range(8)]
        self.seen = Seen()

    async def ask(self) -> None:
        started = time.perf_counter()
        try:
            reader, writer = self.idle.pop() if self.idle else await asyncio.open_connection("127.0.0.1", PORT)
            writer.write(random.choice(self.requests))
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError):
            self.seen.lost += 1
            return
        self.seen.seconds.setdefault(head[9:12].decode(), []).append(time.perf_counter() - started)
        self.idle.append((reader, writer))


def request(image: bytes) -> bytes:
    head = f"POST /invocations HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: image/jpeg\r\n"
    return f"{head}Content-Length: {len(image)}\r\n\r\n".encode() + image


async def load(rate: float | None, seconds: float) -> Seen:
    """Ask at a rate that does not wait for answers, or as fast as two batches' worth of clients are answered."""
    clients, started = Clients(), time.perf_counter()
    if rate is None:

        async def busy() -> None:
            while time.perf_counter() - started < seconds:
                await clients.ask()

        await asyncio.gather(*(busy() for _ in range(2 * BATCH)))
    else:
        dice, due, tasks = random.Random(0), 0.0, []
        while (due := due + dice.expovariate(rate)) < seconds:
            await asyncio.sleep(max(0.0, started + due - time.perf_counter()))
            tasks.append(asyncio.create_task(clients.ask()))
        await asyncio.gather(*tasks)
    clients.seen.took = time.perf_counter() - started
    return clients.seen


def clients(rate: float | None) -> Seen:
    """Return what a process of clients has seen."""
    command = [sys.executable, "-m", "benchmarks.speed.serving", "--load", str(rate or 0), str(SECONDS)]
    return Seen(**json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def service(folder: Path) -> subprocess.Popen[bytes]:
    told = {
        "MODEL": folder,
        "PORT": PORT,
        "TOKEN": TOKEN,
        "DECISIONS": "none",
        "THREADS": 1,
        "BATCH": BATCH,
        "QUEUE": QUEUE,
    }
    environment = {**os.environ, **{f"TUTELAGE_{name}": str(value) for name, value in told.items()}}
    process = subprocess.Popen(
        [sys.executable, "-m", "tutelage.production.serving"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            asyncio.run(load(1000.0, 0.01))
            return process
        except OSError:
            time.sleep(0.2)
    process.kill()
    raise RuntimeError("the service does not answer")


def milliseconds(seen: Seen, share: float) -> str:
    found = seen.seconds.get("200")
    return f"{1000 * float(np.quantile(found, share)):.0f}" if found else "-"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder)
        alone, saturated, costs = [], [], []
        process = service(folder)
        watched = psutil.Process(process.pid)
        try:
            clients(None)  # a warm-up
            for _ in range(TURNS):
                alone.append(bare(folder))
                before = sum(watched.cpu_times()[:2])
                saturated.append(clients(None))
                costs.append((sum(watched.cpu_times()[:2]) - before) / saturated[-1].count("200"))
            served = [seen.count("200") / seen.took for seen in saturated]
            most, bare_most = max(served), max(rate for rate, _ in alone)
            seen = {rate: clients(rate * most) for rate in RATES}
        finally:
            process.terminate()
            process.wait(60)
    rows = [
        ["bare ONNX Runtime", "", f"{bare_most:.1f}", "", "", "", "", ""],
        [f"{2 * BATCH} clients without a pause", "", *columns(saturated[served.index(most)])],
        *([f"{rate:g} of saturation", f"{rate * most:.1f}", *columns(found)] for rate, found in seen.items()),
    ]
    cost_alone, cost = 1000 * min(used for _, used in alone), 1000 * min(costs)
    head = ["load", "asked a second", "answered 200 a second", "200", "429", "others, lost", "p50 ms", "p99 ms"]
    heading = (
        "# The service beside bare ONNX Runtime\n\n"
        f"- Date: {datetime.now(UTC).date().isoformat()}\n- Hardware: {hardware()}, one thread for the model\n"
        f"- {MODEL} with random weights, JPEGs of 500 x 375 pixels, batches of at most {BATCH}, a queue of {QUEUE}, "
        f"{SECONDS:g} s a row; the service, the clients and bare ONNX Runtime on the same processors, in turn, while other "
        f"programs shared them; bare ONNX Runtime and saturation are the best of {TURNS}\n"
        f"- Of the processor, an image takes bare ONNX Runtime {cost_alone:.1f} ms and the service, which also reads HTTP, "
        f"decodes and resizes, {cost:.1f} ms: for each second of it the service answers {cost_alone / cost:.0%} of what bare "
        f"ONNX Runtime does. By the clock, which the other programs and the clients share, it reaches {most / bare_most:.0%}\n"
        "- Latency is that of the requests that were answered 200, as the clients see it\n\n"
    )
    table = markdown_table(head, rows)
    path = Path(__file__).parents[1] / "results" / "serving.md"
    path.write_text(f"{heading}{table}\n", encoding="utf-8")
    print(heading + table)


def columns(seen: Seen) -> list[str]:
    good, late = seen.count("200"), seen.count("429")
    others = sum(map(len, seen.seconds.values())) - good - late + seen.lost
    rate = f"{good / seen.took:.1f}"
    return [rate, str(good), str(late), str(others), milliseconds(seen, 0.5), milliseconds(seen, 0.99)]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--load"]:
        print(json.dumps(asdict(asyncio.run(load(float(sys.argv[2]) or None, float(sys.argv[3]))))))
    else:
        main()
