"""The Open Inference Protocol, version 2, in JSON: https://github.com/kserve/open-inference-protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.production.exported import ExportedModel
from tutelage.production.serving.reading import Example, checked_text, from_base64, numbers
from tutelage.production.serving.refusals import Refused

Body = dict[str, Any]


def metadata(name: str, model: ExportedModel) -> Body:
    """Return what a model takes and gives."""
    return {
        "name": name,
        "versions": [model.version],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": model.kind, "datatype": "BYTES", "shape": [-1]}
            if model.kind != "features"
            else {"name": model.kind, "datatype": "FP32", "shape": [-1, model.card["input"]["features"]]},
            {"name": "id", "datatype": "BYTES", "shape": [-1], "optional": True},
        ],
        "outputs": [{"name": each, "datatype": kind, "shape": [-1]} for each, kind in _columns(model).items()],
    }


def examples(body: Mapping[str, Any], takes: str, most: int) -> list[Example]:
    """Return the examples of an inference request: a tensor of images in base64, of texts or of features, and their ads' names.

    Raises:
        Refused: it holds no such tensor, another number than its shape says, or more than `most`.
    """
    given = body.get("inputs")
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        raise Refused(400, "inputs", "inputs must be a list of tensors")
    tensors = {str(each.get("name")): each for each in given}
    if len(tensors) < len(given) or (strange := set(tensors) - {takes, "id"}):
        named = "two of one name" if len(tensors) < len(given) else repr(min(strange))[:80]
        raise Refused(400, "inputs", f"inputs hold {named}; known: {takes}, id")
    if takes not in tensors:
        raise Refused(400, "inputs", f"inputs lack the tensor {takes!r}")
    contents: Sequence[Any] = _rows(tensors[takes]) if takes == "features" else _texts(tensors[takes])
    if not 1 <= len(contents) <= most:
        raise Refused(400, "inputs", f"{len(contents)} examples; 1 to {most} are taken at once")
    names: list[str | None] = [None] * len(contents)
    if "id" in tensors:
        names = [checked_text("id", name, 512) for name in _texts(tensors["id"])]
    if len(names) != len(contents):
        raise Refused(400, "inputs", f"{len(names)} ids for {len(contents)} examples")
    return [
        Example(from_base64(content) if takes == "image" else content, name)
        for content, name in zip(contents, names, strict=True)
    ]


def response(body: Mapping[str, Any], name: str, model: ExportedModel, answers: Sequence[Mapping[str, Any]]) -> Body:
    """Return what answers an inference request."""
    outputs = []
    for column, kind in _columns(model).items():
        data = [answer[column] for answer in answers]
        if kind == "BYTES":
            data = ["" if each is None else "|".join(each) if isinstance(each, list) else str(each) for each in data]
        outputs.append({"name": column, "datatype": kind, "shape": [len(data)], "data": data})
    told: Body = {"model_name": name, "model_version": answers[0]["model_version"], "outputs": outputs}
    if body.get("id") is not None:
        told["id"] = checked_text("id", body["id"], 512)
    return told


def _texts(tensor: Mapping[str, Any]) -> list[str]:
    data, name = tensor.get("data"), str(tensor.get("name"))[:80]
    if (
        tensor.get("datatype") != "BYTES"
        or not isinstance(data, list)
        or not all(isinstance(each, str) for each in data)
    ):
        raise Refused(400, "inputs", f"the tensor {name!r} must have datatype BYTES and a list of texts as data")
    if tensor.get("shape") not in ([len(data)], [len(data), 1]):
        raise Refused(400, "inputs", f"the tensor {name!r} has shape {tensor.get('shape')!r:.80} and {len(data)} texts")
    return data


def _rows(tensor: Mapping[str, Any]) -> list[tuple[float, ...]]:
    """Return the rows of a tensor of features, whose data may be flat or nested."""
    shape, data = tensor.get("shape"), tensor.get("data")
    whole = isinstance(shape, list) and len(shape) == 2 and all(type(each) is int and each > 0 for each in shape)
    if tensor.get("datatype") != "FP32" or not whole or not isinstance(data, list):
        raise Refused(
            400, "inputs", "the tensor 'features' must have datatype FP32, a shape of two numbers, and a list as data"
        )
    count, width = shape  # type: ignore[misc]  # a list of two by now, which is not seen through `whole`
    nested = data if data and isinstance(data[0], list) else [data[k : k + width] for k in range(0, len(data), width)]
    rows = []
    for place, given in enumerate(nested):
        try:
            rows.append(numbers(given))
        except ValueError as error:
            raise Refused(400, "inputs", f"the tensor 'features', example {place}: {error}") from None
    if len(rows) != count or any(len(row) != width for row in rows):
        held = f"{len(rows)} examples of {'/'.join(map(str, sorted({len(row) for row in rows})))} numbers"
        raise Refused(400, "inputs", f"the tensor 'features' has shape {shape!r:.80} and holds {held}")
    return rows


def _columns(model: ExportedModel) -> dict[str, str]:
    kind = model.card["answer"]["kind"]
    if kind == "decision":
        return {"score": "FP64", "decision": "BYTES"}
    if kind == "labels":
        return {"labels": "BYTES"}
    if kind == "answer":
        return {"answer": "FP64" if model.card["answer"]["number"] else "BYTES"}
    return {"predicted" if kind == "class" else "label": "BYTES", "probability": "FP64"}
