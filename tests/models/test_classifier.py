"""Image classifiers: what goes in, what comes out, and what is built by which name."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tutelage import _vision
from tutelage.models import POCKET, ImageClassifier, ModelSpec, Pixels, build, joint_logits
from tutelage.models.cifar import CifarResNet

TIMM = {"test_vit": 160, "test_resnet": 160, "test_efficientnet": 160, "test_convnext": 160}


def images(count: int = 2, size: int = 24) -> Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def made(name: str, **settings: Any) -> ImageClassifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(ModelSpec(name, **{"num_classes": 3, "image_size": 24} | settings))


def test_pixels_are_standardised() -> None:
    pixels = Pixels((0.5, 0.25, 0.0), (0.5, 0.25, 1.0))
    grey = torch.tensor([0, 51, 255], dtype=torch.uint8)[:, None, None].expand(3, 2, 2)[None]
    expected = torch.tensor([(0 - 0.5) / 0.5, (0.2 - 0.25) / 0.25, 1.0])[None, :, None, None].expand(1, 3, 2, 2)
    torch.testing.assert_close(pixels(grey), expected)
    torch.testing.assert_close(pixels(grey.float() / 255), expected)  # floats lie in [0, 1] already
    assert pixels.double()(grey).dtype == torch.float64
    assert list(pixels.state_dict()) == ["mean", "std"]


@pytest.mark.parametrize("name", POCKET)
def test_every_pocket_model_learns_in_train_mode_and_repeats_itself_in_eval_mode(name: str) -> None:
    model = made(name)
    outputs = model.train()(images(4))
    logits = list(outputs.values()) if isinstance(outputs, dict) else [outputs]
    assert len(logits) == (2 if name == "pocket_deit" else 1)
    assert all(one.shape == (4, 3) for one in logits)
    torch.stack([one.logsumexp(1).sum() for one in logits]).sum().backward()
    for part, parameter in model.named_parameters():
        assert parameter.grad is not None, part
        assert parameter.grad.isfinite().all(), part
    model.eval()
    with torch.no_grad():
        once, again = joint_logits(model(images(4))), joint_logits(model(images(4)))
        assert torch.equal(once, again)
        assert once.isfinite().all()
        alone = torch.cat([joint_logits(model(image[None])) for image in images(4)])
    torch.testing.assert_close(once, alone, rtol=1e-4, atol=1e-5)  # examples do not see each other


@pytest.mark.parametrize("name", POCKET)
def test_pocket_models_are_of_the_size_that_is_asked_for(name: str) -> None:
    assert joint_logits(made(name, image_size=48).eval()(images(1, 48))).shape == (1, 3)
    assert sum(p.numel() for p in made(name).parameters()) < 1_000_000


@pytest.mark.parametrize("name", [*POCKET, *TIMM])
def test_the_heads_are_what_makes_classes_of_features(name: str) -> None:
    size = TIMM.get(name, 24)
    model = made(name, image_size=size, num_classes=5).eval()
    shapes = [model.get_submodule(head).weight.shape for head in model.heads]
    assert shapes
    assert all(shape[0] == 5 for shape in shapes)
    assert model.heads == (("backbone.head", "backbone.head_dist") if name == "pocket_deit" else model.heads[:1])
    with torch.no_grad():
        outputs, features = model(images(2, size)), model.features(images(2, size))
    if isinstance(outputs, Tensor):  # a head's bias and weight are all that lies between them
        torch.testing.assert_close(model.get_submodule(model.heads[0])(features), outputs, rtol=1e-4, atol=1e-5)
    else:
        assert features.shape == (2, shapes[0][1])


def test_a_distilled_transformer_speaks_by_two_heads_in_every_mode() -> None:
    model = made("pocket_deit")
    assert model.distilled
    for training in (True, False):
        assert model.train(training)(images()).keys() == {"cls", "dist"}
    assert not made("pocket_vit").distilled
    model.eval()
    backbone: Any = model.backbone
    features = backbone.forward_features(model.pixels(images()))
    torch.testing.assert_close(joint_logits(model(images())), backbone.forward_head(features))  # timm's own inference


def test_joint_logits_are_the_mean() -> None:
    one, other = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -2.0]])
    assert joint_logits({"cls": one, "dist": other}).tolist() == [[2.0, 0.0]]
    assert joint_logits(one) is one


def test_dropout_is_before_the_heads() -> None:
    for name in POCKET:
        model = made(name, dropout=0.5).train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        torch.manual_seed(1)
        assert not torch.equal(joint_logits(model(images())), joint_logits(model(images()))), name
        model.eval()
        assert torch.equal(joint_logits(model(images())), joint_logits(model(images()))), name


@pytest.mark.parametrize(
    ("name", "size"), [("test_vit", 64), ("test_resnet", 64), ("davit_tiny", 32), ("mobilevit_xxs", 32)]
)
def test_any_timm_name_at_any_size(name: str, size: int) -> None:
    """Some models must be told the size of the images and others cannot be, whatever they are called."""
    model = made(name, image_size=size).eval()
    assert joint_logits(model(images(1, size))).shape == (1, 3)


def test_standardisation_is_the_models_own() -> None:
    for name in ("test_vit", "test_resnet"):
        known = _vision.timm().get_pretrained_cfg(name)
        pixels = made(name, image_size=160).pixels
        assert pixels.mean.flatten().tolist() == pytest.approx(known.mean)
        assert pixels.std.flatten().tolist() == pytest.approx(known.std)


@pytest.mark.parametrize(
    ("name", "near"),
    [("resnet_50", "resnet50"), ("pocket_diet", "pocket_deit"), ("vit_base_patch16_225", "vit_base_patch16_224")],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.*did you mean '{near}'"):
        build(ModelSpec(name))


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"'pocket_vit' does not take options=\{'deph': 2\}.*deph"):
        made("pocket_vit", options={"deph": 2})
    with pytest.raises(ValueError, match=r"'test_resnet' does not take options=\{'deph': 2\}.*deph"):
        made("test_resnet", options={"deph": 2})
    with pytest.raises(ValueError, match="timm has no weights of 'pocket_vit'"):
        build(ModelSpec("pocket_vit", image_size=24), weights="timm")
    with pytest.raises(FileNotFoundError, match=r"pretrained='nowhere\.safetensors': no such file"):
        build(ModelSpec("pocket_vit", image_size=24), weights="nowhere.safetensors")


def test_options_reach_the_model() -> None:
    assert len(made("pocket_vit", options={"depth": 2}).backbone.blocks) == 2  # type: ignore[arg-type]
    assert made("pocket_resnet", options={"widths": [8, 16]}).backbone.num_features == 32


@pytest.mark.parametrize("blocks", [1, 3, 5])
def test_depth_is_6n_plus_2(blocks: int) -> None:
    """He et al. 2016, 4.2: the layers with weights on the longest path; shortcuts are not on it."""
    model = CifarResNet(blocks=blocks)
    path = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and "shortcut" not in name
    ]
    assert len(path) == 6 * blocks + 2
    maps = model.forward_features(torch.zeros(1, 3, 32, 32))
    assert maps.shape == (1, 64, 8, 8)


def test_resnet_20_has_the_papers_size() -> None:
    """0.27 million parameters (He et al. 2016, table 6), and 2,752 in the two shortcuts that are convolutions here."""
    assert sum(p.numel() for p in CifarResNet(blocks=3).parameters()) == 269_722 + 2_752


def test_residual_networks_pool_and_stop_at_the_features() -> None:
    model = CifarResNet(max_pool=True, num_classes=0, groups=4)
    maps = torch.arange(2 * 64 * 4.0).reshape(2, 64, 2, 2)
    pooled = model.forward_head(maps, pre_logits=True)
    assert torch.equal(pooled, torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1))
    assert torch.equal(model.forward_head(maps), pooled)
    assert pooled.shape[1] == model.num_features
    assert model.get_classifier() is model.fc


def test_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*given: Any, **options: Any) -> nn.Module:
        raise OSError("we couldn't connect")

    monkeypatch.setattr(_vision.timm(), "create_model", offline)
    with pytest.raises(
        FileNotFoundError, match=r"the weights of 'test_vit' could not be fetched \(OSError\); .* safetensors"
    ):
        build(ModelSpec("test_vit", 2, 160), "timm")
