"""Requests that hold features, for a model that reads no images."""

import asyncio
import json
from typing import Any

import pytest
from starlette.datastructures import Headers

from tutelage.production.serving.protocol_v2 import examples
from tutelage.production.serving.reading import Example, read_example
from tutelage.production.serving.refusals import Refused

JSON = "application/json"


def read(body: Any, kind: str = JSON) -> Example:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return asyncio.run(read_example(raw, Headers({"content-type": kind}), "features"))


def tensor(**changed: Any) -> dict[str, Any]:
    told = {"name": "features", "datatype": "FP32", "shape": [2, 3], "data": [1, 2, 3, 4.5, 5, 6]}
    return {"inputs": [told | changed]}


def test_features_come_as_json_or_as_a_tensor_flat_or_nested():
    assert read({"features": [1, -2.5], "id": "ad"}) == Example((1.0, -2.5), "ad")
    rows = [(1.0, 2.0, 3.0), (4.5, 5.0, 6.0)]
    assert [each.content for each in examples(tensor(), "features", 4)] == rows
    nested = examples(tensor(data=[[1, 2, 3], [4.5, 5, 6]]), "features", 4)
    assert [each.content for each in nested] == rows


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b"1,2", "text/plain", "content_type"),
        (b"x", "image/png", "content_type"),
        (b"--X--", "multipart/form-data; boundary=X", "content_type"),
        ({}, JSON, "no_features"),
        ({"features": []}, JSON, "no_features"),
        ({"features": [1, "2"]}, JSON, "features"),
        ({"features": [1, True]}, JSON, "features"),
        ({"features": [1, 1e39]}, JSON, "features"),
        (b'{"features": [NaN]}', JSON, "json"),
        ({"features": "1,2"}, JSON, "features"),
        ({"image": "eA=="}, JSON, "no_features"),
    ],
)
def test_other_requests_are_refused(body, kind, reason):
    with pytest.raises(Refused) as error:
        read(body, kind)
    assert error.value.reason == reason


@pytest.mark.parametrize(
    "wrong",
    [
        {"datatype": "BYTES"},
        {"shape": [6]},
        {"shape": [2, 2]},
        {"shape": [3, 3]},
        {"shape": [2, 0]},
        {"shape": [2.0, 3]},
        {"data": [1, 2, 3, 4, 5, "6"]},
        {"data": [[1, 2, 3], [4, 5]]},
        {"data": None},
    ],
)
def test_tensors_that_are_not_what_they_say_are_refused(wrong):
    with pytest.raises(Refused, match="features"):
        examples(tensor(**wrong), "features", 4)


def test_a_table_of_texts_is_refused_and_one_text_is_not():
    def read(kind: str) -> Any:
        return asyncio.run(read_example(b"one\ntwo\n", Headers({"content-type": kind}), "text"))

    assert read("text/plain; charset=utf-8").content == "one\ntwo\n"
    for kind in ("text/csv", "text/csv; header=absent", "text/tab-separated-values"):
        with pytest.raises(Refused, match="a table; send each text by itself"):
            read(kind)
