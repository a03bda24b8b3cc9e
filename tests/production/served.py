"""A service in a process of its own, and an exported model that is made in a moment."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import onnx
from onnx import TensorProto, helper

import tutelage
from processes import free_port
from tutelage.production.card import digest, write_card

TOKEN = "a-token-of-the-tests"
PATIENCE = 60.0
WITHOUT_TORCH = (
    "import runpy, sys; sys.modules.update(torch=None, pandas=None); "
    "runpy.run_module('tutelage.production.serving', run_name='__main__')"
)


def write_model(folder: Path, bias: float = 0.0, size: int = 8, rounds: int = 0) -> dict[str, Any]:
    """Write an exported model whose log-odds of acceptable are the mean pixel in [-2, 2], and `bias`.

    Args:
        rounds: products of large matrices, to be slow by.
    """
    folder.mkdir(parents=True, exist_ok=True)
    nodes = [
        helper.make_node("Cast", ["input"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["odds0"]),
    ]
    constants = [
        helper.make_tensor("axes", TensorProto.INT64, [3], [1, 2, 3]),
        helper.make_tensor("scale", TensorProto.FLOAT, [], [4 / 255]),
        helper.make_tensor("bias", TensorProto.FLOAT, [], [bias - 2]),
        helper.make_tensor("last", TensorProto.INT64, [1], [1]),
    ]
    if rounds:
        width = 512
        constants.append(helper.make_tensor("wide", TensorProto.INT64, [2], [1, width]))
        constants.append(helper.make_tensor("square", TensorProto.FLOAT, [width, width], [1 / width] * width**2))
        constants.append(helper.make_tensor("rows", TensorProto.FLOAT, [256, 1], [1.0] * 256))
        nodes.append(helper.make_node("Unsqueeze", ["odds0", "both"], ["odds1"]))
        constants.append(helper.make_tensor("both", TensorProto.INT64, [2], [1, 2]))
        nodes.append(helper.make_node("MatMul", ["rows", "odds1"], ["tall"]))
        nodes.append(helper.make_node("Expand", ["tall", "wide"], ["m0"]))
        nodes += [helper.make_node("MatMul", [f"m{i}", "square"], [f"m{i + 1}"]) for i in range(rounds)]
        nodes.append(helper.make_node("ReduceMean", [f"m{rounds}", "inner"], ["odds"], keepdims=0))
        constants.append(helper.make_tensor("inner", TensorProto.INT64, [2], [1, 2]))
    else:
        nodes.append(helper.make_node("Identity", ["odds0"], ["odds"]))
    nodes += [
        helper.make_node("Unsqueeze", ["odds", "last"], ["column"]),
        helper.make_node("Sub", ["column", "column"], ["zero"]),
        helper.make_node("Concat", ["zero", "column"], ["logits"], axis=1),
    ]
    given = helper.make_tensor_value_info("input", TensorProto.UINT8, ["batch", 3, size, size])
    found = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])
    graph = helper.make_graph(nodes, "small", [given], [found], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    name = f"graph-{bias}-{rounds}.onnx"
    onnx.save(made, str(folder / name))
    return write_card(
        folder,
        {
            "recipe": "moderation",
            "title": "brightness",
            "tutelage": tutelage.__version__,
            "input": {"kind": "image", "size": size},
            "answer": {"kind": "decision", "threshold": 0.5, "fpr": 0.01, "confidence": None, "subtasks": None},
            "classes": ["defective", "acceptable"],
            "graph": name,
            "files": {name: digest(folder / name)},
        },
    )


class Served:
    """A service in a process that ends with the `with`.

    Args:
        folder: the model's.
        environment: further variables.
    """

    def __init__(self, folder: Path, decisions: str | Path = "none", **environment: object) -> None:
        self.port = free_port()
        told = {
            "MODEL": folder,
            "PORT": self.port,
            "TOKEN": TOKEN,
            "DECISIONS": decisions,
            "THREADS": 1,
            **{name.upper(): value for name, value in environment.items()},
        }
        self.environment = {**os.environ, **{f"TUTELAGE_{name}": str(value) for name, value in told.items()}}
        self.log = folder.parent / f"service-{self.port}.log"

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", WITHOUT_TORCH], env=self.environment, stdout=log, stderr=log
            )
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                if self.ask("GET", "/ping")[0] == 200:
                    return self
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError(self.log.read_text())
            time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def ask(
        self, method: str, path: str, body: Any = None, token: str | None = TOKEN, **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """Return status, body (JSON where it is) and headers of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            named["authorization"] = f"Bearer {token}"
        if isinstance(body, dict):
            body, named["content-type"] = json.dumps(body), "application/json"
        try:
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        told = {name.lower(): value for name, value in answer.getheaders()}
        if told.get("content-type", "").startswith("application/json"):
            return answer.status, json.loads(content), told
        return answer.status, content, told

    def score(self, image: bytes, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """Send an image as it is."""
        return self.ask("POST", "/invocations", image, content_type="image/png", **headers)

    def stop(self) -> int:
        """Send SIGTERM; return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)
