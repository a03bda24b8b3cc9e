"""oneDNN's gradients are right in every model of ours, on images as our data sets make them, whatever the processor.

`make test` runs what is marked `trains` once more as a processor without AVX-512 computes it.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tutelage.data import augmentation, handwritten_digits
from tutelage.data.augment import AugmentationName, CropFlip, RandAugment, Shift
from tutelage.models import SMALL, ModelSpec, MultiHeadSpec, Pixels, build, build_multi_head
from tutelage.models.pixels import layout_of
from tutelage.models.simclr import SIMCLR
from tutelage.training.batches import Batches

SIZE = 24
NARROW = ((3, 8), (4, 8), (6, 8), (8, 16, 32), (12, 24, 48))  # channels of a stage that the next one's shortcut reads
SPECS: dict[str, ModelSpec | MultiHeadSpec] = {
    **{name: ModelSpec(name, 5, SIZE) for name in SMALL if name not in SIMCLR},
    **{
        name: ModelSpec(name, 5, SIZE, options={"blocks": [1, 1, 1, 1]})  # the deep ones have the same convolutions
        for name in ("simclr_r50_1x_sk1", "simclr_r50_2x_sk0")
    },
    **{
        f"{name}-{widths}": ModelSpec(name, 5, SIZE, options={"widths": widths, "stem_stride": 1})
        for widths in NARROW
        for name in ("pocket_resnet", "cifar_resnet8")
    },
    "maps": MultiHeadSpec("pocket_resnet", {"map": 2}, ("map",), image_size=SIZE, options={"widths": (4, 8)}),
    "heads": MultiHeadSpec("pocket_resnet", {"a": 2, "b": 3}, image_size=SIZE, options={"widths": (6, 12)}),
}


def images(count: int, augment: AugmentationName) -> Tensor:
    """Return a batch as a training draws it: rows of a table whose images were grey and small, augmented."""
    table = handwritten_digits()
    table.images.images = nn.functional.interpolate(table.images.images, (SIZE, SIZE))
    rows = torch.arange(count)
    return Batches(table.subset(rows), rows, count, augmentation(augment), (0,))[0]["input"]


def trained(model: nn.Module, batch: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Take the gradients of a model, and return what each convolution was given: its input, and its output's gradient."""
    given: dict[str, tuple[Tensor, Tensor]] = {}

    def before(layer: nn.Module, args: tuple[Tensor, ...]) -> Tensor:
        own = args[0].clone().requires_grad_()  # whose gradient is this layer's alone; clones keep their strides
        own.retain_grad()
        return own

    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):

            def after(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor, name: str = name) -> None:
                output.register_hook(lambda gradient: given.update({name: (args[0], gradient)}))

            layer.register_forward_pre_hook(before)
            layer.register_forward_hook(after)
    outputs: Any = model(batch)
    sum(each.square().mean() for each in (outputs.values() if isinstance(outputs, dict) else [outputs])).backward()
    return given


@pytest.mark.trains
@pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN")  # of the context manager itself
@pytest.mark.parametrize("augment", ["shift", "none"])
@pytest.mark.parametrize("name", SPECS)
def test_gradients_are_those_without_onednn(name: str, augment: AugmentationName) -> None:
    """Layer by layer, since a whole network's differ by more than rounding where an activation passes through zero."""
    spec = SPECS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(spec) if isinstance(spec, ModelSpec) else build_multi_head(spec)
        given = trained(model, images(8 if augment == "shift" else 3, augment))
    assert len(given) == sum(isinstance(layer, nn.Conv2d) for layer in model.modules())
    for place, (input, gradient) in given.items():
        layer: Any = model.get_submodule(place)
        again, parameters = input.detach().requires_grad_(), dict(layer.named_parameters())
        found = {"input": input.grad, **{kind: parameter.grad for kind, parameter in parameters.items()}}
        with torch.backends.mkldnn.flags(enabled=False):
            plain = torch.autograd.grad(type(layer).forward(layer, again), [again, *parameters.values()], gradient)
        for (kind, fast), expected in zip(found.items(), plain, strict=True):
            # before a normalisation a bias has no gradient but rounding
            error = (fast - expected).norm() / (plain[1] if kind == "bias" else expected).norm()
            assert error < 1e-4, f"{place}: gradient by its {kind} is off by {error:.1e} of its length"


def test_what_a_network_sees_lies_in_memory_as_it_was_made_to() -> None:
    for widths in NARROW:
        assert (
            layout_of(build(ModelSpec("pocket_resnet", 2, SIZE, options={"widths": widths}))) is torch.contiguous_format
        )
    assert layout_of(build(ModelSpec("pocket_mlp", 2, SIZE))) is torch.contiguous_format
    assert layout_of(nn.Conv2d(32, 8, 1, 2, groups=4)) is torch.contiguous_format  # 8 channels a group
    for safe in (nn.Conv2d(16, 8, 1, 2), nn.Conv2d(4, 8, 1), nn.Conv2d(4, 8, 3, 2)):
        assert layout_of(safe) is torch.channels_last
    planes = torch.randint(0, 256, (2, 3, 5, 4), dtype=torch.uint8)
    for image in (planes, planes.contiguous(memory_format=torch.channels_last), planes[:, :1].expand(-1, 3, -1, -1)):
        for layout, strides in ((torch.contiguous_format, (60, 20, 4, 1)), (torch.channels_last, (60, 1, 12, 3))):
            assert Pixels((0.5,) * 3, (0.5,) * 3, layout)(image).stride() == strides


@pytest.mark.parametrize("augment", [CropFlip(1), Shift(1), RandAugment()])
@pytest.mark.parametrize("channels", [1, 3])
def test_augmented_images_are_planes(augment: Any, channels: int) -> None:
    """Of one channel, too, where `contiguous` has nothing to do and convolutions go by the strides."""
    image = torch.randint(0, 256, (2, channels, 6, 4), dtype=torch.uint8)
    assert augment(image).stride() == (24 * channels, 24, 4, 1)
