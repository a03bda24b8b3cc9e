"""CIFAR's networks: their sizes, their shapes, and that all of them learn and are found by name."""

import pytest
import torch
from torch import nn

from tutelage.models import ModelSpec, build
from tutelage.models.cifar import WideResNet
from tutelage.models.convnet import ConvNet4
from tutelage.models.perceptrons import MLP
from tutelage.models.small import CIFAR, SMALL
from tutelage.weighting import Partition

QUICK = ("cifar_resnet8", "cifar_resnet14", "wrn_16_1", "wrn_16_2", "convnet4", "pocket_mlp")


def images(count: int, size: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.trains
@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("size", [24, 32])
def test_every_parameter_learns_and_examples_do_not_see_each_other(name: str, size: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(ModelSpec(name, num_classes=5, image_size=size))
    outputs = model.train()(images(4, size))
    assert isinstance(outputs, torch.Tensor)
    assert outputs.shape == (4, 5)
    outputs.logsumexp(1).sum().backward()
    for part, parameter in model.named_parameters():
        assert parameter.grad is not None, part
        assert parameter.grad.isfinite().all(), part
    model.eval()
    with torch.no_grad():
        alone = torch.cat([model(image[None]) for image in images(4, size)])
        torch.testing.assert_close(model(images(4, size)), alone, rtol=1e-4, atol=1e-5)
        features = model.features(images(4, size))
    (head,) = model.heads
    torch.testing.assert_close(model.get_submodule(head)(features), model(images(4, size)), rtol=1e-4, atol=1e-5)
    assert features.shape[1] == model.backbone.num_features
    assert len(Partition.of(model)) >= 2  # blocks for MAOAL, the head not among them


def test_names_say_the_depth_and_the_width() -> None:
    with torch.device("meta"):
        for depth in (8, 14, 20, 26, 32, 44, 56, 110):
            network = CIFAR[f"cifar_resnet{depth}"](img_size=32, num_classes=10)
            path = [
                name
                for name, module in network.named_modules()
                if isinstance(module, nn.Conv2d | nn.Linear) and "shortcut" not in name
            ]
            assert len(path) == depth
        for width in (1, 2, 3, 4, 6, 8):
            assert CIFAR[f"wrn_16_{width}"](img_size=32, num_classes=10).num_features == 64 * width
    assert set(QUICK) < set(SMALL)


@pytest.mark.parametrize(("width", "millions"), [(4, 2.75), (8, 10.96)])
def test_wide_networks_have_the_published_sizes(width: int, millions: float) -> None:
    """Zagoruyko and Komodakis, table 5: WRN-16-8 has 11.0 million parameters; its program's WRN-16-4 2.75."""
    with torch.device("meta"):
        count = sum(p.numel() for p in WideResNet(16, width).parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.01)


def test_a_wide_block_normalises_before_it_convolves_and_adds_what_it_was_given() -> None:
    block = WideResNet(16, 1).stages[0][1].eval()
    nn.init.zeros_(block.conv2.weight)
    hidden = torch.randn(2, 16, 4, 4)
    assert torch.equal(block(hidden), hidden)


def test_convnet_4_is_800_to_512_from_32_pixels() -> None:
    network = ConvNet4()
    assert network.hidden[0].in_features == 800
    assert network.hidden[0].out_features == 512
    assert ConvNet4(img_size=16).hidden[0].in_features == 32  # 14, 12, 6, 4, 2, 1 pixel


def test_a_perceptron_sees_grey_values() -> None:
    network = MLP(img_size=8, widths=(7,)).eval()
    colour = torch.rand(2, 3, 8, 8)
    assert torch.allclose(network(colour), network(colour.mean(1, keepdim=True).expand(-1, 3, -1, -1)), atol=1e-6)
    assert sum(p.numel() for p in network.parameters()) == 64 * 7 + 7 + 7 * 10 + 10


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="depth=15 is not 6n \\+ 4"):
        WideResNet(15)
    with pytest.raises(ValueError, match="image_size=12: ConvNet-4 needs at least 16"):
        build(ModelSpec("convnet4", image_size=12))
    with pytest.raises(ValueError, match="did you mean 'cifar_resnet8'"):
        build(ModelSpec("cifar-resnet8"))
    with pytest.raises(ValueError, match=r"'pocket_mlp' does not take options=\{'width': 3\}"):
        build(ModelSpec("pocket_mlp", image_size=8, options={"width": 3}))
