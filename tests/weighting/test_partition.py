from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.parallel import DataParallel
from weighting_zoo import Network, network

from tutelage import _vision
from tutelage.models import ModelSpec, build
from tutelage.models.cifar import CifarResNet
from tutelage.signals import CrossEntropy, Objective
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


def test_blocks_of_torchvision_s_models():
    _vision.timm()  # which makes torchvision importable
    from torchvision import models

    with torch.device("meta"):
        vit, resnet = models.vit_b_16(), models.resnet18()
    partition = Partition.of(vit)
    assert partition.names == ("conv_proj", *(f"encoder.layers.encoder_layer_{i}" for i in range(12)))
    joined = ("class_token", "encoder.pos_embedding", "encoder.ln.weight")
    assert [partition.module_of[name] for name in joined] == [0, 0, 12]
    assert not any(name.startswith("heads.") for name in partition.module_of)
    assert Partition.of(resnet).names == ("conv1", "layer1", "layer2", "layer3", "layer4")


def layer() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)


def within(**parts: nn.Module) -> nn.Module:
    """A module of these parts, as anybody writes one."""
    made = nn.Module()
    for name, part in parts.items():
        made.add_module(name, part)
    return made


class BertLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = within(
            self=within(query=nn.Linear(8, 8), key=nn.Linear(8, 8), value=nn.Linear(8, 8)),
            output=within(dense=nn.Linear(8, 8), LayerNorm=nn.LayerNorm(8)),
        )
        self.intermediate = within(dense=nn.Linear(8, 16))
        self.output = within(dense=nn.Linear(16, 8), LayerNorm=nn.LayerNorm(8))


def bert() -> nn.Module:
    return within(
        bert=within(
            embeddings=within(word_embeddings=nn.Embedding(50, 8), LayerNorm=nn.LayerNorm(8)),
            encoder=within(layer=nn.ModuleList(BertLayer() for _ in range(3))),
            pooler=within(dense=nn.Linear(8, 8)),
        ),
        classifier=nn.Linear(8, 2),
    )


def two_heads() -> nn.Module:
    trunk = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 5))
    return within(backbone=trunk, main_head=nn.Linear(5, 2), aux_head=nn.Linear(5, 3))


class Shared(nn.Module):
    """One block in two places, a tied output, a parameter of its own and one that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.embed = nn.Embedding(7, 4)
        block = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
        self.layers = nn.ModuleList([block, nn.Sequential(nn.Linear(4, 4)), block])
        self.lm_head = nn.Linear(4, 7, bias=False)
        self.lm_head.weight = self.embed.weight
        self.unused = nn.Linear(2, 2)


T = 3  # layers
STRUCTURES = {
    "two heads": (two_heads, ["main_head", "aux_head"], ["backbone.0", "backbone.2"]),
    "bert": (
        bert,
        ["classifier"],
        ["bert.embeddings", *(f"bert.encoder.layer.{i}" for i in range(T)), "bert.pooler"],
    ),
    "encoder": (lambda: nn.TransformerEncoder(layer(), T, nn.LayerNorm(8)), [], [f"layers.{i}" for i in range(T)]),
    "tutorial": (
        lambda: within(
            encoder=nn.Embedding(9, 8),
            transformer_encoder=nn.TransformerEncoder(layer(), T, nn.LayerNorm(8)),
            decoder=nn.Linear(8, 9),
        ),
        ["decoder"],
        ["encoder", *(f"transformer_encoder.layers.{i}" for i in range(T))],
    ),
    "transformer": (
        lambda: nn.Transformer(8, 2, T, T, 16, batch_first=True),
        [],
        [f"{part}.layers.{i}" for part in ("encoder", "decoder") for i in range(T)],
    ),
    "attributes": (
        lambda: within(
            embed=nn.Linear(4, 4),
            encoder=within(a=BertLayer(), b=BertLayer(), norm=nn.LayerNorm(8)),
            fc=nn.Linear(8, 2),
        ),
        ["fc"],
        ["embed", "encoder.a", "encoder.b"],
    ),
    "shared": (Shared, ["lm_head"], ["embed", "layers.0", "layers.1", "unused"]),
    "one layer": (lambda: within(fc1=nn.Linear(4, 4), head=nn.Linear(4, 2)), ["head"], ["fc1"]),
    "attention": (lambda: within(multi_head_attention=nn.Linear(4, 4), conv_head=nn.Linear(4, 2)), [], None),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_blocks_by_repeated_structure_and_heads_by_names(name):
    make, heads, modules = STRUCTURES[name]
    model = make()
    assert heads_of(model) == heads
    partition = Partition.of(model)
    assert list(partition.names) == (modules or [name for name, _ in model.named_children()])
    outside = {n for n, _ in model.named_parameters() if any(n.startswith(head + ".") for head in heads)}
    assert partition.module_of.keys() == {n for n, _ in model.named_parameters()} - outside
    assert set(partition.module_of.values()) == set(range(len(partition)))


class Branches(nn.Module):
    """A trunk, and two outputs whose names do not tell that they are heads."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.5))
        self.left, self.right = nn.Linear(5, 2), nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 3))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        trunk = self.trunk(x)
        return {"left": self.left(trunk), "right": self.right(trunk)}


def test_heads_by_which_loss_reaches_what():
    model = Branches()
    batch = {"input": torch.randn(6, 4), "index": torch.arange(6), "label": torch.tensor([0, 1] * 3)}
    signals = [CrossEntropy("label", head="left", name="left"), CrossEntropy("label", head="right", name="right")]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    drawn = torch.get_rng_state()
    partition = Partition.of(model, objective=Objective(model, signals), batch=batch)
    assert partition.names == ("trunk.0",)
    assert set(partition.module_of) == {"trunk.0.weight", "trunk.0.bias", "trunk.1.weight", "trunk.1.bias"}
    # no trace: neither statistics nor random states nor gradients
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(drawn, torch.get_rng_state())
    assert all(p.grad is None for p in model.parameters())
    # a second loss on a head makes it a module, and a single signal has nothing to weigh
    both = [*signals, CrossEntropy("label", head="left", name="again")]
    assert Partition.of(model, objective=Objective(model, both), batch=batch).names == ("trunk", "left")
    alone = Partition.of(model, objective=Objective(model, signals[:1]), batch=batch)
    assert alone.module_of.keys() == dict(model.named_parameters()).keys()
    assert len(Partition.of(model, "parameter", objective=Objective(model, signals), batch=batch)) == 4
    for mistake in ({"objective": Objective(model, signals)}, {"batch": batch}):
        with pytest.raises(ValueError, match="give heads, or objective and batch"):
            Partition.of(model, **mistake)
    with pytest.raises(ValueError, match="give heads, or objective and batch"):
        Partition.of(model, heads=[], objective=Objective(model, signals), batch=batch)
    with pytest.raises(ValueError, match="objective is of another model"):
        Partition.of(Branches(), objective=Objective(model, signals), batch=batch)


def test_a_printed_partition_is_a_table():
    assert str(Partition.of(two_heads())).splitlines() == [
        "module       parameters  what is in it",
        "backbone.0           25  backbone.0",
        "backbone.2           30  backbone.2",
        "(no module)          30  main_head, aux_head",
    ]
    table = str(Partition.of(of_timm("vit_tiny_patch16_224")))
    assert "patch_embed     185,664  cls_token, pos_embed, patch_embed" in table
    assert "blocks.11       445,248  blocks.11, norm" in table
    assert str(Partition.of(two_heads(), "model", heads=[])).splitlines()[1] == "model           85  everything"
    norms = within(body=nn.Linear(2, 2), **{f"norm{i}": nn.LayerNorm(2) for i in range(6)})
    assert str(Partition.of(within(all=norms, fc=nn.Linear(2, 2)), heads=["fc"])).endswith(
        "(no module)           6  fc"
    )


def trees() -> st.SearchStrategy[nn.Module]:
    """Any tree of lists, sequences and modules over layers with matrices, vectors, both or nothing."""
    leaves = st.sampled_from([lambda: nn.Linear(2, 2), lambda: nn.LayerNorm(2), nn.ReLU, BertLayer, Shared]).map(
        lambda m: m()
    )
    return st.recursive(leaves, _parents, max_leaves=12)


def _parents(children: st.SearchStrategy[nn.Module]) -> st.SearchStrategy[nn.Module]:
    def joined(parts: Sequence[nn.Module], kind: str, own: bool, twice: bool) -> nn.Module:
        parts = [*parts, parts[0]] if twice else list(parts)
        made = {"list": nn.ModuleList, "sequence": lambda p: nn.Sequential(*p)}.get(kind, _attributes)(parts)
        if own:
            made.register_parameter("own", nn.Parameter(torch.zeros(2, 2)))
        return made

    kinds = st.sampled_from(["list", "sequence", "attributes"])
    return st.builds(joined, st.lists(children, min_size=1, max_size=4), kinds, st.booleans(), st.booleans())


def _attributes(parts: Sequence[nn.Module]) -> nn.Module:
    return within(**dict(zip(("body", "encoder", "aux_head", "norm", "fc"), parts, strict=False)))


@given(trees())
def test_every_parameter_outside_of_the_heads_is_in_one_module_and_every_module_holds_one(tree):
    names = [name for name, _ in tree.named_parameters()]
    heads = heads_of(tree)
    inside = [name for name in names if not any(name == head or name.startswith(head + ".") for head in heads)]
    if not inside:
        with pytest.raises(ValueError, match="no parameters outside of its heads"):
            Partition.of(tree)
        return
    for level in ("block", "parameter", "model"):
        partition = Partition.of(tree, level)
        assert set(partition.module_of) == set(inside)
        assert set(partition.module_of.values()) == set(range(len(partition)))
        assert len(set(partition.names)) == len(partition)
        counts = [int(line.split()[-1].replace(",", "")) for line in _first_columns(partition)]
        assert sum(counts) == sum(p.numel() for p in tree.parameters())


def _first_columns(partition: Partition) -> list[str]:
    head, *lines = str(partition).splitlines()
    return [line[: head.index("what")] for line in lines if " is also " not in line]


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


def test_tied_weights_are_shown_where_they_count():
    """The head is registered first, so that the embedding, which is the same tensor, is in no module."""
    model = nn.Module()
    model.head, model.body, model.embedding = nn.Linear(3, 5, bias=False), nn.Linear(3, 3), nn.Embedding(5, 3)
    model.embedding.weight = model.head.weight
    partition = Partition.of(model)
    assert set(partition.module_of) == {"body.weight", "body.bias"}
    assert str(partition).splitlines() == [
        "module       parameters  what is in it",
        "body                 12  body",
        "(no module)          15  head",
        "head.weight is also embedding.weight: one tensor",
    ]
    assert "one tensor" not in str(Partition.of(Network()))


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
    with pytest.raises(ValueError, match=r"heads='head' must be a list of names: heads=\['head'\]"):
        Partition.of(model, heads="head")
    with pytest.raises(ValueError, match=r"module 'early' is 'body'; give a list of names: \['body'\]"):
        Partition.given(model, {"early": "body"})
    with pytest.raises(ValueError, match="'stem', which holds no parameter"):
        Partition.given(model, {"early": ["stem"]})
    with pytest.raises(ValueError, match=r"'body.0.weight' is in the modules \['a', 'b'\]"):
        Partition.given(model, {"a": ["body"], "b": ["body.0.weight"]})


def test_a_division_into_nothing_is_refused():
    model = network()
    with pytest.raises(ValueError, match="modules is empty"):
        Partition.given(model, {})
    with pytest.raises(ValueError, match="module 'a' is empty"):
        Partition.given(model, {"a": []})
