import pytest
import torch
from torch import Tensor

from tutelage.data.augment import CropFlip, RandAugment, Shift, augmentation


def images(count: int = 8, size: int = 12) -> Tensor:
    draws = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), generator=draws, dtype=torch.uint8)


@pytest.mark.parametrize("name", ["randaugment", "crop_flip", "shift", "light"])
def test_uint8_in_uint8_out_one_draw_for_each_image_from_the_global_generator(name):
    change = augmentation(name)
    assert change is not None
    alike = images(1).expand(8, -1, -1, -1)
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(change(alike))
    assert found[0].shape == alike.shape
    assert found[0].dtype == torch.uint8
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert len({tuple(image.flatten().tolist()) for image in found[0]}) > 1


def test_none_changes_nothing():
    assert augmentation("none") is None
    assert isinstance(augmentation("randaugment"), RandAugment)


def test_a_shift_moves_the_image_and_repeats_its_border():
    torch.manual_seed(0)
    before = images(64)
    after = Shift(pixels=2, contrast=0.0, brightness=0.0)(before)
    padded = torch.nn.functional.pad(before.float(), (2, 2, 2, 2), mode="replicate").to(torch.uint8)
    found = set()
    for image, source in zip(after, padded, strict=True):
        places = [(y, x) for y in range(5) for x in range(5) if torch.equal(image, source[:, y : y + 12, x : x + 12])]
        assert len(places) == 1
        found.update(places)
    assert len(found) > 15  # of 25


def test_a_crop_lies_within_a_black_border_and_is_mirrored_or_not():
    torch.manual_seed(0)
    before = images(64)
    padded = torch.nn.functional.pad(before, (4, 4, 4, 4))
    found = []
    for image, source in zip(CropFlip()(before), padded, strict=True):
        windows = {(y, x): source[:, y : y + 12, x : x + 12] for y in range(9) for x in range(9)}
        found += [(place, False) for place, window in windows.items() if torch.equal(image, window)]
        found += [(place, True) for place, window in windows.items() if torch.equal(image, window.flip(2))]
    assert len(found) == 64
    assert len({place for place, _ in found}) > 30  # of 81
    assert 20 < sum(mirrored for _, mirrored in found) < 44


def test_contrast_and_brightness_are_one_line_for_a_whole_image():
    torch.manual_seed(0)
    before = (images(32).float() / 4 + 96).to(torch.uint8)  # far from black and white
    after = Shift(pixels=0)(before)
    for image, source in zip(after.float(), before.float(), strict=True):
        x, y = source.flatten(), image.flatten()
        gain = float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())
        offset = float(y.mean() - 128 - gain * (x.mean() - 128))
        assert 0.8 - 0.02 <= gain <= 1.2 + 0.02
        assert -20 - 1 <= offset <= 20 + 1
        assert (y - (128 + gain * (x - 128) + offset)).abs().max() <= 1.1  # rounding down


def test_black_and_white_stay_inside_the_range():
    torch.manual_seed(0)
    ends = torch.tensor([0, 255], dtype=torch.uint8).repeat(4)[:, None, None, None].expand(8, 3, 4, 4)
    after = Shift(contrast=0.9, brightness=200.0)(ends)
    assert after[::2].float().mean() < after[1::2].float().mean()  # nothing wraps around
