import tracemalloc

import hostile
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tutelage.data import ImageArray, ImageTable, Problems, drop_duplicates, find_duplicates, perceptual_hash
from tutelage.data.duplicates import as_hex, connected, from_hex, near_groups, normalised, perceptual_hashes


def tensor(image: Image.Image, size: int = 64) -> torch.Tensor:
    return torch.from_numpy(np.array(image.resize((size, size), Image.Resampling.BICUBIC))).permute(2, 0, 1)


def darker(image: torch.Tensor) -> torch.Tensor:
    return image.mul(0.9).to(torch.uint8)


def distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.bitwise_count(one ^ other).sum(-1)


def hashes_near_each_other(seed: int, count: int, flips: int) -> np.ndarray:
    """A few random hashes, and copies of them with up to `flips` bits turned."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, (max(1, count // 4), 256), dtype=np.uint8)[rng.integers(0, max(1, count // 4), count)]
    for row in bits:
        row[rng.choice(256, rng.integers(0, flips + 1), replace=False)] ^= 1
    return np.packbits(bits, axis=1).view(np.uint64)


def table(images: list[torch.Tensor], **columns) -> ImageTable:
    facts = {"id": [f"row{i}" for i in range(len(images))], "label": 1, "split": "unassigned", **columns}
    return ImageTable(ImageArray(torch.stack(images)), pd.DataFrame(facts))


def test_hash_is_the_median_cut_of_scipys_dct():
    grey = np.random.default_rng(0).integers(0, 256, (5, 64, 64), dtype=np.uint8)
    images = torch.from_numpy(grey)[:, None].expand(5, 3, 64, 64)
    low = dctn(grey.astype(np.float64), type=2, axes=(1, 2))[:, :16, :16].reshape(5, 256)
    bits = low > np.median(low, axis=1, keepdims=True)
    assert np.array_equal(np.unpackbits(perceptual_hash(images).view(np.uint8), axis=1), bits)


def test_hash_finds_copies_and_parts_pictures():
    pictures = [hostile.photograph(seed, 160, 120) for seed in range(20)]
    hashes = perceptual_hash(torch.stack([tensor(picture) for picture in pictures]))
    for copy in (
        lambda image: tensor(image.resize((80, 60), Image.Resampling.BILINEAR)),
        lambda image: darker(tensor(image)),
        lambda image: tensor(image, 96),
    ):
        copies = np.concatenate([perceptual_hash(copy(picture)[None]) for picture in pictures])
        assert distance(hashes, copies).max() <= 16
        far = distance(hashes[:, None], copies[None]) + 256 * np.eye(20, dtype=int)
        assert far.min() > 60


def test_flat_pictures_are_alike_whatever_the_rounding():
    flat = torch.stack([torch.full((3, 37, 53), value, dtype=torch.uint8) for value in (1, 77, 200, 255)])
    assert len(np.unique(perceptual_hash(flat), axis=0)) == 1


def test_hash_of_a_sequence_and_as_text():
    images = torch.randint(0, 256, (7, 3, 20, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    hashes = perceptual_hashes(ImageArray(images), batch_size=3)
    assert hashes.shape == (7, 4)
    assert np.array_equal(hashes, perceptual_hash(images))
    assert np.array_equal(from_hex(as_hex(hashes)), hashes)
    assert perceptual_hashes(ImageArray(images[:0])).shape == from_hex([]).shape == (0, 4)


def groups_by_comparing_all(hashes: np.ndarray, radius: int) -> list[int]:
    near = distance(hashes[:, None], hashes[None]) <= radius
    _, group = connected_components(coo_array(near), directed=False) if len(hashes) else (0, np.empty(0, int))
    return [int(np.flatnonzero(group == each)[0]) for each in group]


@pytest.mark.parametrize("radius", [*range(17), 17, 31, 127])
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6), count=st.integers(0, 40), at_once=st.sampled_from([1, 30, 1 << 16]))
def test_no_pair_is_missed_and_none_is_invented(radius, seed, count, at_once):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tutelage.data.duplicates._AT_ONCE", at_once)
        for flips in (radius // 2, radius):
            hashes = hashes_near_each_other(seed, count, flips)
            assert near_groups(hashes, radius).tolist() == groups_by_comparing_all(hashes, radius)


@pytest.mark.parametrize("radius", range(17))
def test_a_pair_at_the_radius_is_one_group_and_one_beyond_it_is_two(radius):
    rng = np.random.default_rng(radius)
    for _ in range(10):
        bits = np.repeat(rng.integers(0, 2, (1, 256), dtype=np.uint8), 3, axis=0)
        turned = rng.permutation(256)
        bits[1, turned[: radius + 1]] ^= 1
        bits[2, turned[radius + 1 : 2 * radius + 1]] ^= 1
        assert near_groups(np.packbits(bits, axis=1).view(np.uint64), radius).tolist() == [0, 1, 0]


def test_a_burst_of_one_template_holds_few_pairs_at_a_time():
    burst = hashes_near_each_other(0, 4_000, flips=12)
    burst[:] = np.where(
        np.arange(4_000)[:, None] % 1_000 == 999, burst, burst[:1]
    )  # most of them equal, a few strangers
    noise = np.packbits(np.random.default_rng(1).random((4_000, 256)) < 0.03, axis=1).view(np.uint64)
    tracemalloc.start()
    groups = near_groups(burst ^ noise, 16)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (groups == 0).sum() >= 3_900
    assert peak < 50 << 20  # each pair once would be 128 MB


@settings(deadline=None)
@given(count=st.integers(1, 30), seed=st.integers(0, 10**6), edges=st.integers(0, 40))
def test_components_are_scipys(count, seed, edges):
    pairs = np.random.default_rng(seed).integers(0, count, (2, edges))
    ours = connected(count, pairs)
    _, theirs = connected_components(coo_array((np.ones(edges), tuple(pairs)), (count, count)), directed=False)
    first = [np.flatnonzero(theirs == component)[0] for component in theirs]
    assert ours.tolist() == first


def test_a_long_chain_is_one_component():
    order = np.random.default_rng(0).permutation(20_000)
    assert not connected(20_000, np.stack([order[:-1], order[1:]])).any()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Big SALE!! – 50 % off", "big sale 50 off"),
        ("Straße", "strasse"),
        ("ﬁne　print", "fine print"),
        (None, ""),
        (float("nan"), ""),
    ],
)
def test_headlines(text, expected):
    assert normalised(text) == expected


def test_groups_by_headline_and_by_image_touch():
    a, b, c, d = (tensor(hostile.photograph(seed, 160, 120)) for seed in range(4))
    images = [a, b, darker(a), c, d, d]
    headlines = ["One", "Two", "Three", "two!", "", ""]
    found = find_duplicates(table(images, headline=headlines, label=[1, 0, 1, 1, 0, -1]), rule="headline_or_image")
    assert found.groups.tolist() == [0, 1, 0, 1, 4, 4]
    assert found.kept.tolist() == [True, True, False, False, True, False]
    assert found.listing.to_dict("list") == {
        "group": [0, 0, 1, 1, 2, 2],
        "id": ["row0", "row2", "row1", "row3", "row4", "row5"],
        "reason": ["image", "image", "headline", "headline", "image", "image"],
        "kept": [True, False, True, False, True, False],
        "label": [1, 1, 0, 1, 0, -1],
        "conflict": [False, False, True, True, False, False],
    }
    chained = find_duplicates(table(images, headline=["One", "Two", "Two", "two!", "x", "y"]), rule="headline_or_image")
    assert chained.groups.tolist() == [0, 0, 0, 0, 4, 4]
    assert chained.listing["reason"].tolist()[:4] == ["image", "headline", "headline+image", "headline"]


def test_a_repeated_headline_alone_is_no_duplicate_and_all_can_be_switched_off():
    images = [tensor(hostile.photograph(seed)) for seed in range(20)]
    shop = table([*images, images[0]], headline="Shop now")
    assert find_duplicates(shop).groups.tolist() == [*range(20), 0]
    assert find_duplicates(shop, rule="none").groups.tolist() == list(range(21))
    assert find_duplicates(shop, rule="headline_or_image").groups.tolist() == [0] * 21
    with pytest.raises(
        ValueError, match="duplicates='headlines' is not one of image, headline_or_image, none; did you"
    ):
        find_duplicates(shop, rule="headlines")


def test_the_first_submitted_is_kept_and_a_labelled_one_before_that():
    same = [tensor(hostile.photograph())] * 4
    times = pd.to_datetime(["2024-03-01", "2024-02-01", "2024-01-01", None], utc=True)
    found = find_duplicates(table(same, label=[1, 0, -1, 1], submitted_at=times))
    assert found.kept.tolist() == [False, True, False, False]


def test_dropped_rows_are_listed_and_stay_in_their_place():
    a, b = (tensor(hostile.photograph(seed)) for seed in range(2))
    problems = Problems()
    before = table([a, b, a, a], label=[1, 1, 0, 1], split=["unassigned", "train", "test", "left_out"])
    after, listing = drop_duplicates(before, problems)
    assert after.table["split"].tolist() == ["unassigned", "train", "left_out", "left_out"]
    assert before.table["split"].tolist()[2] == "test"
    assert list(problems) == [
        ("row2", "near_duplicate", "of row0 by image; the labels of its group disagree", True),
        (
            "row0",
            "conflicting_labels",
            "the same as row2, with another label; its own is used: see duplicates.csv",
            False,
        ),
    ]
    assert problems.warnings() == [
        "warning: conflicting labels: 1 row kept, such as row0: the same as row2, with another label; its own is used: see "
        "duplicates.csv"
    ]
    assert listing["id"].tolist() == ["row0", "row2"]


def test_hashes_in_the_table_save_decoding():
    images = [tensor(hostile.photograph(seed)) for seed in (0, 0, 1)]
    hashes = perceptual_hash(torch.stack([images[0], images[2], images[2]]))  # not those of the images
    assert find_duplicates(table(images)).groups.tolist() == [0, 0, 2]
    assert find_duplicates(table(images, phash=as_hex(hashes))).groups.tolist() == [0, 1, 1]


def test_senseless_radius():
    with pytest.raises(ValueError, match=r"radius=128 must be an integer in \[0, 127\]"):
        find_duplicates(table([tensor(hostile.photograph())]), radius=128)
