"""From a PyTorch model to an ONNX graph, and to one with 8-bit weights and activations."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tutelage.models import joint_logits

OPSET = 20


class Served(nn.Module):
    """A model as it is served: one input, the logits of one head, and how near each sub-task is.

    Args:
        model: any model of ours; of several heads' logits the mean is taken.
        head: the head that answers, of a model with a head for each task.
        centres_KD: of sub-tasks, in the model's features.
    """

    centres_KD: Tensor | None

    def __init__(self, model: nn.Module, head: str | None = None, centres_KD: Tensor | None = None) -> None:
        super().__init__()
        self.model = model
        self.head = head
        self.register_buffer("centres_KD", None if centres_KD is None else nn.functional.normalize(centres_KD, dim=1))

    def forward(self, input: Tensor) -> tuple[Tensor, ...]:
        """Return (B, C), and (B, K) cosines where there are sub-tasks."""
        outputs = self.model(input)
        logits_BC = outputs[self.head] if self.head is not None else joint_logits(outputs)
        if self.centres_KD is None:
            return (logits_BC,)
        features: Any = self.model.features
        return logits_BC, nn.functional.normalize(features(input), dim=1) @ self.centres_KD.T


def write_graph(model: Served, example: Tensor, path: Path) -> None:
    """Write the graph of a model for batches of any size.

    Args:
        model: in eval mode.
        example: a batch of at least two.
        path: the file.

    Raises:
        ValueError: the model does what ONNX cannot say.
    """
    model = model.cpu().eval()
    names = ["logits", "subtasks"][: 1 if model.centres_KD is None else 2]
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")  # the exporter's, about itself
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["input"],
                output_names=names,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ValueError(f"the model has no ONNX graph: {str(error).strip().splitlines()[0]}") from error
    assert program is not None
    program.save(path, external_data=False)


def write_int8_graph(graph: Path, examples: Callable[[], Any], path: Path) -> None:
    """Write a graph whose convolutions and matrix products are computed in 8 bits, with ranges seen on examples.

    Weights have a scale for each output channel, activations one for each tensor (ONNX Runtime's static quantisation).

    Args:
        graph: of 32 bits.
        examples: returns the batches from which the activations' ranges are taken.
        path: the file.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter(examples())

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"input": np.ascontiguousarray(batch)}

    with TemporaryDirectory(dir=path.parent) as folder, warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(graph), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(path),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "MatMul", "Gemm"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
        )


def run_graph(path: Path, batches: Iterable[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return a graph's outputs for all batches."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    found = [session.run(None, {"input": batch}) for batch in batches]
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Inside, the root logger, to which ONNX Runtime's quantisation tells that it treats a vector as a whole, is silent."""
    root = logging.getLogger()
    root.addFilter(_nothing)
    try:
        yield
    finally:
        root.removeFilter(_nothing)


def _nothing(record: logging.LogRecord) -> bool:
    return record.levelno > logging.WARNING
