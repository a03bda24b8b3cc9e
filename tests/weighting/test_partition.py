import pytest
import torch
from torch import nn
from torch.nn.parallel import DataParallel
from weighting_zoo import Network, network

from tutelage import _vision
from tutelage.models import ModelSpec, build
from tutelage.models.cifar import CifarResNet
from tutelage.weighting import MAOAL, Partition
from tutelage.weighting.partition import heads_of


def of_timm(name: str) -> nn.Module:
    with torch.device("meta"):
        return _vision.timm().create_model(name)


EXPECTED = {
    # MAOAL's five modules of a ResNet: conv1, conv2_x to conv5_x
    "resnet18": (["fc"], ["conv1", "layer1", "layer2", "layer3", "layer4"]),
    "resnext50_32x4d": (["fc"], ["conv1", "layer1", "layer2", "layer3", "layer4"]),
    "vit_tiny_patch16_224": (["head"], ["patch_embed", *(f"blocks.{i}" for i in range(12))]),
    "deit_tiny_distilled_patch16_224": (
        ["head", "head_dist"],
        ["patch_embed", *(f"blocks.{i}" for i in range(12))],
    ),
    "efficientnet_b0": (["classifier"], ["conv_stem", *(f"blocks.{i}" for i in range(7)), "conv_head"]),
    "swin_tiny_patch4_window7_224": (["head.fc"], ["patch_embed", *(f"layers.{i}" for i in range(4))]),
    "convnext_tiny": (["head.fc"], ["stem", *(f"stages.{i}" for i in range(4))]),
    "regnetx_002": (["head.fc"], ["stem", "s1", "s2", "s3", "s4"]),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_blocks_of_timm_s_models(name):
    model = of_timm(name)
    heads, modules = EXPECTED[name]
    partition = Partition.of(model)
    assert heads_of(model) == heads
    assert list(partition.names) == modules
    in_heads = {n for n, _ in model.named_parameters() if any(n.startswith(head + ".") for head in heads)}
    assert partition.module_of.keys() == {n for n, _ in model.named_parameters()} - in_heads
    assert set(partition.module_of.values()) == set(range(len(modules)))


def test_what_has_only_vectors_joins_its_neighbour():
    partition = Partition.of(of_timm("vit_tiny_patch16_224"))
    names = [partition.names[partition.module_of[n]] for n in ("cls_token", "pos_embed", "norm.weight")]
    assert names == ["patch_embed", "patch_embed", "blocks.11"]
    partition = Partition.of(of_timm("resnet18"))
    assert partition.names[partition.module_of["bn1.bias"]] == "conv1"


def test_blocks_of_other_models():
    assert Partition.of(CifarResNet(blocks=3)).names == ("stem", "stages.0", "stages.1", "stages.2")
    wrapped = build(ModelSpec("pocket_deit"))
    assert Partition.of(wrapped).names == ("backbone.patch_embed", *(f"backbone.blocks.{i}" for i in range(4)))
    assert Partition.of(Network()).names == ("body.0", "body.2")
    conv = [layer for _ in range(4) for layer in (nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.ReLU())]
    convnet4 = Partition.of(nn.Sequential(*conv, nn.Flatten(), nn.Linear(9, 2)), heads=["13"])
    assert convnet4.names == ("0", "3", "6", "9")
    assert convnet4.module_of["10.weight"] == 3
    assert Partition.of(nn.Linear(2, 2)).names == ("model",)
    assert Partition.of(nn.BatchNorm1d(2)).names == ("model",)


def test_levels():
    model = Network()
    assert Partition.of(model, "model").module_of == dict.fromkeys(
        ["body.0.weight", "body.0.bias", "body.2.weight", "body.2.bias"], 0
    )
    assert len(Partition.of(model, "parameter")) == 4
    assert len(Partition.of(model, "parameter", heads=[])) == 6


def test_a_given_partition():
    partition = Partition.given(Network(), {"early": ["body.0"], "late": ["body.2.weight", "head"]})
    assert partition.names == ("early", "late")
    assert partition.module_of == {
        "body.0.weight": 0,
        "body.0.bias": 0,
        "body.2.weight": 1,
        "head.weight": 1,
        "head.bias": 1,
    }


def test_wrappers_change_no_module():
    model = network()
    weighting = MAOAL(model, 2)
    plain = weighting.module_weights(model).module_of
    for wrapper, prefix in ((DataParallel(model), "module."), (torch.compile(model, backend="eager"), "_orig_mod.")):
        assert weighting.module_weights(wrapper).module_of == {prefix + n: m for n, m in plain.items()}


def test_mistakes_are_named():
    model = Network()
    with pytest.raises(ValueError, match="'tail', which is no module of Network"):
        Partition.of(model, heads=["tail"])
    with pytest.raises(ValueError, match="level='layer' is not one of block, parameter, model"):
        Partition.of(model, "layer")
    with pytest.raises(ValueError, match="no parameters outside of its heads"):
        Partition.of(model, heads=["body", "head"])
    with pytest.raises(ValueError, match="'stem', which holds no parameter"):
        Partition.given(model, {"early": ["stem"]})
    with pytest.raises(ValueError, match=r"'body.0.weight' is in the modules \['a', 'b'\]"):
        Partition.given(model, {"a": ["body"], "b": ["body.0.weight"]})
