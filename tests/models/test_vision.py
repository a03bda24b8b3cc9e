"""The one door to timm and torchvision opens, whatever torch they were built for."""

import subprocess
import sys

import pytest
import torch

from tutelage import _vision
from tutelage.data.augment import RandAugment, Shift, augmentation


def test_torchvision_imports_after_the_gateway_in_a_fresh_interpreter() -> None:
    """In an interpreter of its own: here, somebody has opened the door already."""
    program = (
        "from tutelage import _vision; v2 = _vision.transforms(); import torchvision, timm, torch;"
        "print(tuple(v2.Resize(8)(torch.zeros(3, 16, 16, dtype=torch.uint8)).shape), timm.is_model('resnet50'))"
    )
    found = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == ["(3,", "8,", "8)", "True"]


def test_the_door_may_be_opened_twice() -> None:
    assert _vision.timm() is _vision.timm()
    assert _vision.transforms() is _vision.transforms()
    assert issubclass(_vision.distilled_transformer(), torch.nn.Module)


def images(count: int = 5, height: int = 24, width: int = 32) -> torch.Tensor:
    return torch.randint(
        0, 256, (count, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


@pytest.mark.parametrize("augment", [RandAugment(), Shift(), Shift(pixels=0)], ids=["randaugment", "shift", "in place"])
def test_augmentations_keep_shape_and_type_and_follow_torchs_generator(augment: RandAugment | Shift) -> None:
    before = images()
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(augment(before))
    assert torch.equal(before, images())  # not in place
    assert drawn[0].shape == before.shape
    assert drawn[0].dtype == torch.uint8
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_shift_moves_each_image_by_its_own_whole_pixels() -> None:
    torch.manual_seed(3)
    p, before = 2, images(40)
    moved = Shift(pixels=p, contrast=0.0, brightness=0.0)(before)
    edges = torch.nn.functional.pad(before.float(), (p, p, p, p), mode="replicate").to(torch.uint8)
    steps = set()
    for image, padded in zip(moved, edges, strict=True):
        fits = [
            (dy - p, dx - p)
            for dy in range(2 * p + 1)
            for dx in range(2 * p + 1)
            if torch.equal(image, padded[:, dy : dy + 24, dx : dx + 32])
        ]
        assert len(fits) == 1
        steps.add(fits[0])
    assert len(steps) > 10
    assert {dy for dy, _ in steps} == {dx for _, dx in steps} == {-2, -1, 0, 1, 2}


def test_a_shift_brightens_and_stretches_within_its_bounds() -> None:
    torch.manual_seed(4)
    grey = torch.full((500, 3, 4, 4), 178, dtype=torch.uint8)  # 50 above the middle
    changed = Shift(contrast=0.2, brightness=20.0)(grey)[:, 0, 0, 0].float() - 178
    assert changed.min() >= -31  # 0.2 * 50 + 20, and less than 1 by truncation
    assert changed.max() <= 30
    assert changed.std() > 10
    ends = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 3, 4, 4)
    assert Shift(contrast=0.9, brightness=200.0)(ends).dtype == torch.uint8  # clamped, and not wrapped around


def test_augmentations_by_name() -> None:
    assert augmentation("none") is None
    assert isinstance(augmentation("randaugment"), RandAugment)
    assert isinstance(augmentation("shift"), Shift)
