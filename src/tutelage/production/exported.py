"""An exported model at work: ONNX Runtime, without PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from tutelage.checks import TOO_LARGE, too_large
from tutelage.decoding import Limits, decode
from tutelage.production.answers import Answer, answers
from tutelage.production.card import read_card

Outputs = list[NDArray[Any]]


class ExportedModel:
    """A model in the folder that `tutelage export` wrote.

    Args:
        folder: the folder.
        threads: processors that one batch may use; all by default.

    Raises:
        FileNotFoundError, ValueError: see `read_card`; a graph that ONNX Runtime refuses.
    """

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        self.folder = Path(folder)
        self.card = read_card(self.folder)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        providers = [
            name for name in onnxruntime.get_available_providers() if not name.startswith("Azure")
        ]  # it calls out
        try:
            self.session = onnxruntime.InferenceSession(
                str(self.folder / self.card["graph"]), options, providers=providers
            )
        except Exception as error:  # ONNX Runtime's errors have no common class
            raise ValueError(f"{self.folder / self.card['graph']} cannot be run: {error}") from error
        self._texts: Any = None
        if self.kind == "text":
            from tutelage.data.text import Features

            self._texts = Features.load(self.folder)

    @property
    def version(self) -> str:
        """The model's content hash."""
        return self.card["version"]

    @property
    def kind(self) -> str:
        """What it takes: image, text or features."""
        return self.card["input"]["kind"]

    def prepare(self, given: bytes | str | tuple[float, ...], limits: Limits | None = None) -> NDArray[Any]:
        """Return one example as the graph takes it: an image file's pixels, a text's features, or features as they are given.

        Raises:
            UnreadableImage: the image is refused.
            ValueError: the features are more or fewer than the model reads, or too large for it to compute with.
        """
        if isinstance(given, str):
            return self.prepare_texts([given])[0]
        if isinstance(given, tuple):
            if len(given) != self.card["input"]["features"]:
                raise ValueError(f"{len(given)} numbers; this model reads features of {self.card['input']['features']}")
            prepared = np.array(given, dtype=np.float32)
            if too_large(prepared[None])[0]:
                raise ValueError(f"a number is as large as {max(map(abs, given)):g}: {TOO_LARGE}")
            return prepared
        return decode(given, self.card["input"]["size"], limits)

    def prepare_texts(self, texts: list[str]) -> NDArray[np.float32]:
        """Return the features of texts, (N, D)."""
        found = self._texts(texts)
        return np.asarray(found.toarray() if hasattr(found, "toarray") else found, dtype=np.float32)

    def run(self, inputs: NDArray[Any]) -> Outputs:
        """Return the logits (N, C) and, where the model says, how near each sub-task is (N, K)."""
        return self.session.run(None, {"input": inputs})

    def answers(self, outputs: Outputs) -> list[Answer]:
        """Return one answer for each example of a batch."""
        return answers(self.card, *outputs)

    def answer(self, inputs: NDArray[Any]) -> list[Answer]:
        """Return one answer for each of N prepared examples."""
        return self.answers(self.run(inputs))

    def warm_up(self, batch: int = 1) -> None:
        """Answer for nothing in particular, so that the first request does not wait for what ONNX Runtime does once."""
        told = self.card["input"]
        one = (3, told["size"], told["size"]) if self.kind == "image" else (told["features"],)
        kind = np.uint8 if self.kind == "image" else np.float32
        for size in sorted({1, batch}):
            self.answer(np.zeros((size, *one), kind))
