"""SimCLR-v2's residual networks against formulas by hand, timm, and the sizes that are published."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage import _vision
from tutelage.models import ModelSpec, build
from tutelage.models.simclr import SIMCLR, MeanOfFour, SelectiveKernel, SimCLRResNet


def lively(network: nn.Module) -> nn.Module:
    """Give every normalisation statistics of its own, so that eval mode is no identity; in float64."""
    generator = torch.Generator().manual_seed(1)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for value in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                assert value is not None
                value.data = torch.rand(value.shape, generator=generator) + 0.5
    return network.double().eval()


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("simclr_r50_2x_sk0", 94),
        ("simclr_r50_1x_sk1", 35),
        ("simclr_r50_2x_sk1", 140),
        ("simclr_r101_2x_sk1", 257),
        ("simclr_r152_2x_sk0", 233),
        ("simclr_r152_1x_sk1", 89),
        ("simclr_r152_3x_sk1", 795),
    ],
)
def test_the_sizes_that_the_paper_prints(name: str, millions: int):
    with torch.device("meta"):  # SimCLR-v2, table 1: millions of parameters, of the encoder
        network = SIMCLR[name](img_size=224, num_classes=0)
    assert sum(weight.numel() for weight in network.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)


def test_a_selective_kernel_by_its_formula():
    torch.manual_seed(0)
    kernel = lively(SelectiveKernel(6, stride=2))
    images = torch.randn(2, 6, 7, 7, dtype=torch.float64)
    got = kernel(images)

    def normalised(values: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        shape = (1, -1, 1, 1)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        centred = (values - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + norm.eps).sqrt()
        return centred * norm.weight.view(shape) + norm.bias.view(shape)

    both = normalised(F.conv2d(images, kernel.conv.weight, stride=2, padding=1), kernel.norm).clamp_min(0)
    first, second = both[:, :6], both[:, 6:]
    mean = (first + second).mean((2, 3))
    hidden = normalised((mean @ kernel.mix1.weight[:, :, 0, 0].T)[:, :, None, None], kernel.mix_norm).clamp_min(0)
    asked = hidden[:, :, 0, 0] @ kernel.mix2.weight[:, :, 0, 0].T
    share = torch.sigmoid(asked[:, :6] - asked[:, 6:])[:, :, None, None]
    torch.testing.assert_close(got, share * first + (1 - share) * second)
    assert got.shape == (2, 6, 4, 4)


def test_means_at_the_border_are_tensorflows():
    square = torch.arange(9.0, dtype=torch.float64).view(1, 1, 3, 3)
    same = torch.tensor([[2.0, 3.0, 3.5], [5.0, 6.0, 6.5], [6.5, 7.5, 8.0]], dtype=torch.float64)
    assert torch.equal(MeanOfFour(1)(square)[0, 0], same)  # SAME: of what is inside the image
    halved = torch.tensor([[2.0, 1.75], [3.25, 2.0]], dtype=torch.float64)
    assert torch.equal(MeanOfFour(2)(square)[0, 0], halved)  # zeros past the border, then VALID


def test_without_selective_kernels_it_is_timms_resnet_but_for_the_border():
    torch.manual_seed(0)
    ours = lively(SimCLRResNet((1, 1, 1, 1), selective=False, num_classes=4))
    _vision.timm()
    from timm.models.resnet import Bottleneck, ResNet

    theirs = lively(ResNet(Bottleneck, [1, 1, 1, 1], num_classes=4))
    theirs.load_state_dict(ours.state_dict())
    theirs.maxpool = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(3, 2))
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(ours(images), theirs(images))


def test_it_is_built_by_its_name_and_gives_features():
    model = build(ModelSpec("simclr_r50_1x_sk1", num_classes=3, image_size=32, options={"blocks": [1, 1]}))
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert model.eval()(images).shape == (2, 3)
    assert model.features(images).shape == (2, 512)
    assert model.heads == ("backbone.fc",)
