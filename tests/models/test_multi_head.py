"""Bodies for fields, images and maps, a head for each task, and what the model tells of its parameters."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import nn

from tutelage.models import AutoInt, MultiHead, MultiHeadSpec, build_multi_head, load_multi_head, save_multi_head
from tutelage.models.autoint import Interaction

FIELDS = MultiHeadSpec("autoint", {"rating": 1}, fields=(5, 3, 2), squared_norm=True)
IMAGES = MultiHeadSpec("pocket_resnet", {"kind": 4, "colour": 3}, hidden=6, options={"widths": [4, 8]})
MAPS = MultiHeadSpec(
    "pocket_resnet",
    {"parts": 5, "depth": 1, "scene": 2},
    maps=("parts", "depth"),
    options={"widths": [4, 8], "width": 6},
)
TIMM = MultiHeadSpec("test_efficientnet", {"parts": 5}, maps=("parts",), options={"width": 6})
SPECS = {"fields": FIELDS, "images": IMAGES, "maps": MAPS, "timm": TIMM}


def input_of(spec: MultiHeadSpec, size: int = 3) -> torch.Tensor:
    draws = torch.Generator().manual_seed(0)
    if spec.fields:
        return torch.stack([torch.randint(0, most, (size,), generator=draws) for most in spec.fields], dim=1)
    return torch.randint(0, 256, (size, 3, 24, 32), generator=draws, dtype=torch.uint8)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_outputs_by_head_and_the_same_after_saving(spec, tmp_path):
    torch.manual_seed(0)
    model = build_multi_head(spec).eval()
    outputs = model(input_of(spec))
    shapes = {name: (3, count, 24, 32) if name in spec.maps else (3, count) for name, count in spec.outputs.items()}
    assert {name: tuple(found.shape) for name, found in outputs.items() if name != "squared_norm"} == shapes
    assert ("squared_norm" in outputs) == spec.squared_norm
    save_multi_head(model, spec, tmp_path, note="a fact")
    again, facts = load_multi_head(tmp_path)
    assert facts == {"note": "a fact"}
    for name, found in again(input_of(spec)).items():
        assert torch.equal(found, outputs[name])
    named = dict(model.named_modules())
    assert set(model.heads) <= set(named)
    assert len(model.heads) == len(spec.outputs)


def test_an_interacting_layer_is_its_formula():
    torch.manual_seed(0)
    layer = Interaction(6, 2).double()
    e = torch.randn(2, 4, 6, dtype=torch.float64)
    q, k, v, r = (x.weight.detach().numpy() for x in (layer.query, layer.key, layer.value, layer.residual))
    expected = np.zeros((2, 4, 6))
    for b in range(2):
        for m in range(4):
            for head in (slice(0, 3), slice(3, 6)):
                match = [(q[head] @ e[b, m].numpy()) @ (k[head] @ e[b, n].numpy()) for n in range(4)]
                shares = softmax(match)
                expected[b, m, head] = sum(share * v[head] @ e[b, n].numpy() for n, share in enumerate(shares))
            expected[b, m] += r @ e[b, m].numpy()
    np.testing.assert_allclose(layer(e).detach(), expected.clip(min=0), rtol=1e-12, atol=1e-14)


def test_equal_numbers_in_two_fields_are_two_values():
    torch.manual_seed(0)
    model = AutoInt((3, 3), width=4, attention_heads=2, layers=0)
    first, second = model(torch.tensor([[1, 1]]))[0].split(4)
    assert not torch.equal(first, second)
    assert torch.equal(first, model.embedding.weight[1])
    assert torch.equal(second, model.embedding.weight[4])


def test_features_are_those_of_the_plain_model():
    torch.manual_seed(0)
    model = build_multi_head(MultiHeadSpec("pocket_deit", {"kind": 4}, image_size=24)).eval()
    images = torch.randint(0, 256, (2, 3, 24, 24), dtype=torch.uint8)
    body = model.body
    torch.testing.assert_close(model.towers["kind"](body.features(images)), model(images)["kind"])


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({"name": "autoint"}, "autoint is for categorical fields"),
        ({"fields": (3,)}, "autoint is for categorical fields"),
        ({"outputs": {}}, "outputs is empty"),
        ({"outputs": {"a.b": 2}}, "task name 'a.b' cannot name a head"),
        ({"outputs": {"keys": 2}}, "task name 'keys' cannot name a head"),
        ({"name": "pocket_resent"}, "did you mean 'pocket_resnet'"),
        ({"name": "pocket_vit", "maps": ("kind",)}, "'pocket_vit' has no maps of several resolutions"),
    ],
)
def test_mistakes_are_named(change, answer):
    with pytest.raises(ValueError, match=answer):
        build_multi_head(MultiHeadSpec(**{"name": "pocket_resnet", "outputs": {"kind": 2}, **change}))
    with pytest.raises(ValueError, match="attention_heads=3 must divide width=4"):
        AutoInt((2,), width=4, attention_heads=3)
    with pytest.raises(ValueError, match=r"sizes=\(2, 0\) must be the positive number"):
        AutoInt((2, 0))


def test_a_body_of_ones_own():
    model = MultiHead(nn.Linear(4, 6), 6, {"kind": 2})
    assert model(torch.randn(3, 4))["kind"].shape == (3, 2)
    assert model.heads == ("towers.kind",)
