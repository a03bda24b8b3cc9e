"""Numbers with which a model cannot compute: refused by name, counted where a table is scored, and never a score."""

import asyncio
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper
from served import Served
from starlette.datastructures import Headers

from tutelage.data.given_features import read_given_features
from tutelage.data.problems import Problems
from tutelage.production.answers import answers
from tutelage.production.card import digest, write_card
from tutelage.production.score import score
from tutelage.production.serving.protocol_v2 import examples
from tutelage.production.serving.reading import read_example
from tutelage.production.serving.refusals import Refused
from tutelage.recipes.finished import _finite

CARD = {"answer": {"kind": "decision", "threshold": 0.5}, "classes": ["defective", "acceptable"]}


def model_of_features(folder: Path) -> None:
    """Write a model of two features whose log-odds of acceptable are (a - a) * 1e25 + b: NaN where that overflows."""
    folder.mkdir()
    one = helper.make_tensor("huge", TensorProto.FLOAT, [1], [1e25])
    pick = helper.make_tensor("pick", TensorProto.FLOAT, [2, 2], [0.0, 0.0, 0.0, 1.0])
    nodes = [
        helper.make_node("Mul", ["input", "huge"], ["far"]),
        helper.make_node("Sub", ["far", "far"], ["nothing"]),
        helper.make_node("Add", ["nothing", "input"], ["same"]),
        helper.make_node("MatMul", ["same", "pick"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "features",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [one, pick],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "graph.onnx"
    )
    told = {"recipe": "moderation", "title": "features", "tutelage": "0", "graph": "graph.onnx", "metrics": {}}
    told |= {"input": {"kind": "features", "features": 2}, "files": {"graph.onnx": digest(folder / "graph.onnx")}}
    write_card(folder, {**told, **CARD, "data": {"fingerprint": "f"}})


def test_an_answer_that_is_no_number_is_none():
    near = np.array([[0.0, 1.0]] * 3)
    card = {**CARD, "answer": {**CARD["answer"], "subtasks": ["a", "b"]}}
    good, wrong, low = answers(card, np.array([[0.0, 5.0], [0.0, np.nan], [5.0, 0.0]]), near)
    assert good["decision"] == "acceptable"
    assert wrong == {}
    assert low["subtask"] == "b"
    assert answers(card, np.full((1, 2), np.inf), near[:1]) == [{}]


def test_a_table_lists_what_cannot_be_scored(tmp_path: Path) -> None:
    model_of_features(tmp_path / "model")
    table = pd.DataFrame({"id": ["a", "far", "c"], "x": [1.0, 1e15, 2.0], "y": [1.0, 1.0, -1.0]})
    table.to_csv(tmp_path / "f.csv", index=False)
    found = score(tmp_path / "model", tmp_path / "f.csv", tmp_path / "out.csv")
    assert found.scored == 2
    assert found.left_out.counts() == {"not_finite": 1}
    assert pd.read_csv(tmp_path / "out.csv")["id"].tolist() == ["a", "c"]
    assert pd.read_csv(tmp_path / "out-problems.csv")["id"].tolist() == ["far"]


def test_a_file_with_a_number_whose_square_overflows_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", np.array([[1.0, 2.0], [1.0, -1e38]]))
    with pytest.raises(ValueError, match=r"row 1 holds a number as large as 1e\+38: its square"):
        read_given_features(tmp_path / "f.npy")


def test_predict_lists_what_cannot_be_scored() -> None:
    problems = Problems()
    table = _finite(pd.DataFrame({"id": ["a", "b"], "score": [0.5, np.nan], "decision": ["x", "y"]}), problems)
    assert table["id"].tolist() == ["a"]
    assert problems.counts() == {"not_finite": 1}


def test_the_service_refuses_it_with_and_without_an_id_and_its_figures_stay(tmp_path: Path) -> None:
    model_of_features(tmp_path / "model")
    with Served(tmp_path / "model", tmp_path / "log.sqlite") as service:
        for features in ([1e38, 1.0], [1e15, 1.0]):
            for named in ({}, {"id": "ad"}, {"id": "ad"}):
                status, told, _ = service.ask("POST", "/invocations", {"features": features, **named})
                assert (status, told["error"]) == (422, "features")
            tensor = {"name": "features", "datatype": "FP32", "shape": [1, 2], "data": features}
            assert service.ask("POST", "/v2/models/incumbent/infer", {"inputs": [tensor]})[0] == 422
        assert service.ask("POST", "/invocations", {"features": [1.0, 1.0], "id": "ad"})[0] == 200
        assert b"NaN" not in service.ask("GET", "/metrics")[1]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ('[1, 1e39]', "features[1] is the number 1e+39"),
        ('[1e999]', "features[0] is the number inf"),
        ('[1, "2"]', "features[1] is a text '2'"),
        ('[true]', "features[0] is a boolean True"),
        ('[[1, 2]]', "features[0] is a list"),
        ('{"a": 1}', "features is an object"),
    ],
)  # fmt: skip
def test_what_is_no_list_of_numbers_is_named(given: str, named: str) -> None:
    with pytest.raises(Refused) as error:
        asyncio.run(
            read_example(f'{{"features": {given}}}'.encode(), Headers({"content-type": "application/json"}), "features")
        )
    assert error.value.reason == "features"
    assert error.value.detail.startswith(named)
    tensor = {"name": "features", "datatype": "FP32", "shape": [1, 2], "data": [1e39, 1]}
    with pytest.raises(Refused, match="example 0: features\\[0\\] is the number 1e\\+39"):
        examples({"inputs": [tensor]}, "features", 4)
