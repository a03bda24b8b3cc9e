"""A run's folder from a stranger: whatever it says, nothing runs, nothing is fetched, and memory is bounded."""

import json
import os
import socket
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tutelage import _vision
from tutelage.data.text import Features, FeatureSettings
from tutelage.models import (
    ModelSpec,
    MultiHeadSpec,
    RuleModel,
    RuleModelSpec,
    build,
    build_multi_head,
    load_model,
    load_multi_head,
    save_model,
    save_multi_head,
)


class Payload:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """No test here may open a connection, or ask for one."""
    asked: list[Any] = []

    def refuse(*told: Any, **_: Any) -> Any:
        asked.append(told)
        raise OSError("a connection was asked for")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return asked


def forge(folder: Path, entry: str = "model", /, **changes: Any) -> None:
    facts = json.loads((folder / "config.json").read_text())
    facts[entry] |= changes
    (folder / "config.json").write_text(json.dumps(facts))


def image_model(folder: Path) -> Any:
    save_model(build(ModelSpec("test_resnet", 3, 24)), folder)
    return load_model


def dense_model(folder: Path) -> Any:
    spec = MultiHeadSpec("test_efficientnet", {"parts": 5}, maps=("parts",), options={"width": 6})
    save_multi_head(build_multi_head(spec), spec, folder)
    return load_multi_head


ATTACKS: dict[str, dict[str, Any]] = {
    "a pickle": {"checkpoint_path": "PICKLE"},
    "an address": {"pretrained": True, "pretrained_cfg_overlay": {"url": "http://192.0.2.1/weights.pth"}},
    "a configuration": {"pretrained_cfg": {"url": "http://192.0.2.1/weights.pth"}},
    "a file": {"pretrained": True, "pretrained_cfg_overlay": {"file": "PICKLE"}},
    "a hub": {"pretrained": True, "pretrained_cfg_overlay": {"hf_hub_id": "a-stranger/model"}},
    "pretrained": {"pretrained": True},
    "a cache": {"cache_dir": "PICKLE"},
    "a path as a value": {"act_layer": "PICKLE"},
    "an address as a value": {"norm_layer": "http://192.0.2.1/x"},
}


@pytest.mark.parametrize("make", [image_model, dense_model])
@pytest.mark.parametrize("attack", ATTACKS)
def test_options_name_no_file_and_no_address(attack: str, make: Any, tmp_path: Path, offline: list[Any]) -> None:
    read, trace = make(tmp_path / "model"), tmp_path / "trace"
    torch.save(Payload(trace), tmp_path / "extra.pth")
    torch.load(tmp_path / "extra.pth", weights_only=False)
    trace.rmdir()  # raises where the payload is not armed
    options = json.loads(json.dumps(ATTACKS[attack]).replace("PICKLE", str(tmp_path / "extra.pth")))
    forge(tmp_path / "model", "multi_head" if make is dense_model else "model", options=options)
    with pytest.raises(ValueError, match=r"config\.json describes no model .*is no option|must be a number"):
        read(tmp_path / "model")
    assert not trace.exists()
    assert not offline


@pytest.mark.parametrize("make", [image_model, dense_model])
@pytest.mark.parametrize("name", ["hf-hub:a-stranger/model", "hf_hub:a/b", "local-dir:FOLDER", "../model", ""])
def test_a_models_name_is_no_place(name: str, make: Any, tmp_path: Path, offline: list[Any]) -> None:
    read = make(tmp_path / "model")
    entry = "multi_head" if make is dense_model else "model"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"architecture": "test_resnet", "num_classes": 3}')
    forge(tmp_path / "model", entry, name=name.replace("FOLDER", str(tmp_path / "other")))
    with pytest.raises(ValueError, match="is not known to timm"):
        read(tmp_path / "model")
    assert not offline


HUGE: dict[str, dict[str, Any]] = {
    "10^12 weights": {"name": "pocket_mlp", "options": {"widths": [65536, 65536, 65536]}},
    "too many classes": {"num_classes": 10**12},
    "more classes than are stored": {"num_classes": 10**6},
    "a number without end": {"options": {"width": 10**12}},
    "layers without end": {"name": "pocket_vit", "options": {"depth": 60_000}},
    "a list without end": {"name": "pocket_mlp", "options": {"widths": [1] * 100_000}},
    "pixels without end": {"image_size": 10**9},
    "not a number": {"dropout": float("nan")},
    "a text": {"num_classes": "3"},
    "an unknown entry": {"weights": "extra.pth"},
    "options that are none": {"options": ["checkpoint_path"]},
}


@pytest.mark.parametrize("attack", HUGE)
def test_what_is_not_stored_is_not_built(attack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = image_model(tmp_path)
    forge(tmp_path, **HUGE[attack])
    real = torch.nn.Module.register_parameter

    def watched(self: Any, name: str, value: Any) -> None:
        assert value is None or value.is_meta, "memory was taken"
        real(self, name, value)

    monkeypatch.setattr(torch.nn.Module, "register_parameter", watched)
    with pytest.raises(ValueError, match=r"config\.json describes no model|does not belong to its config\.json"):
        read(tmp_path)


def test_buffers_that_are_not_stored_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = image_model(tmp_path)
    monkeypatch.setattr("tutelage.models.folder._UNSTORED", -1)
    with pytest.raises(ValueError, match="GiB beside the model's weights"):
        read(tmp_path)


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000, '{"model": 3}', '{"other": {}}', "\x00"])
def test_a_configuration_that_is_none_is_named(text: str, tmp_path: Path) -> None:
    read = image_model(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json (is damaged|holds)"):
        read(tmp_path)


def test_weights_that_are_none_are_named(tmp_path: Path) -> None:
    read = image_model(tmp_path)
    torch.save(Payload(tmp_path / "trace"), tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged, or holds no safetensors"):
        read(tmp_path)
    assert not (tmp_path / "trace").exists()
    save_file({"other": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"does not belong to its config\.json: backbone.* absent there"):
        read(tmp_path)


def test_a_model_of_rules_is_compared_with_its_header(tmp_path: Path) -> None:
    RuleModel(RuleModelSpec(4, (0, 1), 2)).save(tmp_path)
    assert RuleModel.load(tmp_path)[0].spec == RuleModelSpec(4, (0, 1), 2)
    for changes, message in (({"features": 16_000_000}, "does not belong"), ({"hidden": 10**9}, r"hidden=1000000000")):
        forge(tmp_path, **changes)
        with pytest.raises(ValueError, match=message):
            RuleModel.load(tmp_path)


@pytest.mark.parametrize(
    "encoder",
    ["FOLDER", "../model", "./model", "/etc", "http://192.0.2.1/model", "a/b/c", "C:\\model", "\\\\host\\share", "~/m"],
)
def test_a_folders_sentence_encoder_is_no_path(encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setitem(sys.modules, "sentence_transformers", fake_sentences(asked))
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    name = encoder.replace("FOLDER", "model")
    Features(FeatureSettings(kind="sentences", encoder=name)).save(tmp_path)
    with pytest.raises(ValueError, match="names a path or an address, which a run's folder may not"):
        Features.load(tmp_path)(["one text"])
    assert not asked


def fake_sentences(asked: list[Any]) -> Any:
    def encoder(name: str, **options: Any) -> Any:
        asked.append((name, options))
        raise OSError("not in the cache")

    module = types.ModuleType("sentence_transformers")
    module.SentenceTransformer = encoder  # type: ignore[attr-defined]
    return module


def test_a_folders_sentence_encoder_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setitem(sys.modules, "sentence_transformers", fake_sentences(asked))
    own = Features(FeatureSettings(kind="sentences", encoder="a-stranger/model"))
    own.save(tmp_path)
    with pytest.raises(FileNotFoundError, match="nothing is fetched because a run's folder names it"):
        Features.load(tmp_path)(["one text"])
    with pytest.raises(FileNotFoundError, match=r"could not be loaded \(not in the cache\)"):
        own(["one text"])
    safe = {"trust_remote_code": False, "model_kwargs": {"use_safetensors": True}}
    assert asked == [("a-stranger/model", {**safe, "local_files_only": local}) for local in (True, False)]


def test_features_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    Features.fit(["a b", "a b c"], FeatureSettings()).save(tmp_path)
    stored = json.loads((tmp_path / "features.json").read_text())
    for change in (
        {"vocabulary": ["a"] * 9},
        {"vocabulary": 3},
        {"settings": {}},
        {"settings": {"ngrams": [1, 10**9]}},
    ):
        (tmp_path / "features.json").write_text(json.dumps(stored | change))
        with pytest.raises(ValueError, match="describe no features"):
            Features.load(tmp_path)


def test_pretrained_weights_are_never_asked_for_by_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = image_model(tmp_path)
    real, asked = _vision.timm().create_model, []

    def watched(*told: Any, **options: Any) -> Any:
        asked.append(options["pretrained"])
        return real(*told, **options)

    monkeypatch.setattr(_vision.timm(), "create_model", watched)
    read(tmp_path)
    assert asked == [False, False]
