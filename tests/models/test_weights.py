"""Weights on disk, and starting from a relative's."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tutelage.models import (
    POCKET,
    ImageClassifier,
    ModelSpec,
    PartialWeights,
    build,
    joint_logits,
    load_matching,
    load_model,
    save_model,
)


def made(name: str, seed: int = 0, **settings: Any) -> ImageClassifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(ModelSpec(name, **{"num_classes": 3, "image_size": 24} | settings))


def lived(model: nn.Module) -> nn.Module:
    """Give every buffer and parameter a value of its own, as after a training."""
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.rand_like(value))
    return model


def body(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A file as timm would write it."""
    return {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}


@pytest.mark.parametrize("name", POCKET)
def test_what_is_saved_is_loaded_exactly(name: str, tmp_path: Path) -> None:
    model = lived(made(name, dropout=0.1, options={} if name == "pocket_coatnet" else {"drop_rate": 0.2}))
    save_model(model, tmp_path / "model", threshold=0.25, classes=["defective", "acceptable"])
    found, facts = load_model(tmp_path / "model")
    assert facts == {"threshold": 0.25, "classes": ["defective", "acceptable"]}
    assert found.spec == model.spec
    assert not found.training
    for entry, value in model.state_dict().items():
        assert value.dtype == found.state_dict()[entry].dtype
        assert torch.equal(value, found.state_dict()[entry]), entry
    images = torch.randint(0, 256, (2, 3, 24, 24), dtype=torch.uint8)
    assert torch.equal(joint_logits(found(images)), joint_logits(model.eval()(images)))
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors"]
    assert json.loads((tmp_path / "model" / "config.json").read_text())["model"]["name"] == name


def test_a_folder_without_a_model_says_what_it_should_be(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"config\.json does not exist; is .* the model/ folder of a finished run"
    ):
        load_model(tmp_path)
    save_model(made("pocket_resnet"), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors does not exist"):
        load_model(tmp_path)


@pytest.mark.parametrize("layout", ["timm's", "ours"])
def test_a_plain_transformer_starts_a_distilled_one(layout: str, tmp_path: Path) -> None:
    plain = lived(made("pocket_vit", seed=1))
    state = dict(plain.state_dict())
    save_file(body(state) if layout == "timm's" else state, tmp_path / "vit.safetensors")
    distilled = build(ModelSpec("pocket_deit", 3, 24), str(tmp_path / "vit.safetensors"))  # and nothing is warned of
    found = distilled.state_dict()
    for name in state:
        if name != "backbone.pos_embed" and (layout == "ours" or not name.startswith("pixels.")):
            assert torch.equal(found[name], state[name]), name
    assert torch.equal(found["backbone.dist_token"], state["backbone.cls_token"])
    assert torch.equal(found["backbone.head_dist.weight"], state["backbone.head.weight"])
    assert torch.equal(found["backbone.head_dist.bias"], state["backbone.head.bias"])
    places, given = found["backbone.pos_embed"], state["backbone.pos_embed"]
    assert torch.equal(places[:, 0], given[:, 0])
    assert torch.equal(places[:, 1], given[:, 0])
    assert torch.equal(places[:, 2:], given[:, 1:])
    images = torch.randint(0, 256, (2, 3, 24, 24), dtype=torch.uint8)
    outputs = distilled.eval()(images)
    torch.testing.assert_close(outputs["cls"], outputs["dist"])  # twins, until training tells them apart


def test_a_distilled_files_own_token_is_kept(tmp_path: Path) -> None:
    state = lived(made("pocket_deit", seed=1)).state_dict()
    target = made("pocket_deit")
    assert load_matching(target, state, "file") == []
    for name, value in target.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_heads_of_other_classes_start_anew_without_a_warning(tmp_path: Path) -> None:
    source = lived(made("pocket_resnet", num_classes=1000))
    save_model(source, tmp_path)
    before = made("pocket_resnet", seed=5).state_dict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        found = build(ModelSpec("pocket_resnet", 3, 24), str(tmp_path / "model.safetensors")).state_dict()
    for name, value in found.items():
        expected = before if name.startswith("backbone.fc.") else load_file(tmp_path / "model.safetensors")
        assert torch.equal(value, expected[name]), name


def test_what_has_no_partner_is_named() -> None:
    deeper, model = made("pocket_vit", options={"depth": 5}), made("pocket_vit")
    with pytest.warns(
        PartialWeights, match=r"^five\.safetensors: not used: backbone\.blocks\.4\.norm1\.weight, "
    ) as caught:
        assert load_matching(model, body(deeper.state_dict()), "five.safetensors") == ["pixels.mean", "pixels.std"]
    assert len(caught) == 1
    with pytest.warns(
        PartialWeights, match=r"^four: left at their initial values: backbone\.blocks\.4\.norm1\.weight, "
    ) as caught:
        left = load_matching(deeper, body(model.state_dict()), "four")
    assert "not used" not in str(caught[0].message)
    assert all(name.startswith(("backbone.blocks.4.", "pixels.")) for name in left)

    other = body(made("pocket_vit").state_dict())
    other["pos_embed"] = torch.zeros(1, 99, 64)
    with pytest.warns(PartialWeights, match=r"left at .*: backbone\.pos_embed; not used: backbone\.pos_embed"):
        load_matching(model, other, "other")


def test_another_architecture_is_refused() -> None:
    model = made("pocket_vit")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"resnet: none of its \d+ entries fits the model"):
        load_matching(model, body(made("pocket_resnet").state_dict()), "resnet")
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_weights_are_never_unpickled(tmp_path: Path) -> None:
    torch.save(made("pocket_resnet").state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(Exception, match=r"(?i)header"):
        build(ModelSpec("pocket_resnet", 3, 24), str(tmp_path / "model.safetensors"))


def test_a_loaded_model_lies_on_the_accelerator_where_there_is_one(tmp_path, monkeypatch):
    save_model(build(ModelSpec("pocket_mlp", num_classes=3, image_size=24)), tmp_path)
    for accelerator, device in ((None, "cpu"), (torch.device("meta"), "meta")):
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available, found=accelerator: found)
        assert {value.device.type for value in load_model(tmp_path)[0].state_dict().values()} == {device}


def test_the_pixels_door_alone_is_no_partner_and_a_warning_is_short() -> None:
    model = made("pocket_vit")
    with pytest.raises(ValueError, match=r"resnet: none of its \d+ entries fits the model"):
        load_matching(model, made("pocket_resnet").state_dict(), "resnet")
    with pytest.warns(PartialWeights, match=r"not used: (?:[\w.]+, ){5}[\w.]+ and \d+ more$"):
        load_matching(model, body(made("pocket_vit", options={"depth": 5}).state_dict()), "five")
