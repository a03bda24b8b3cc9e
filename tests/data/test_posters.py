import numpy as np
import pytest
import torch

from tutelage.data import posters
from tutelage.data.posters import annotated, digit_posters, permitted_digits

SMALL = {"train": (40, 200), "validation": (40, 200), "test": (30, 60), "unlabelled": 50}


@pytest.fixture(scope="module")
def uniform():
    return digit_posters(**SMALL)


def test_every_part_has_the_asked_numbers(uniform):
    table = uniform.table
    assert table["split"].value_counts().to_dict() == {
        "train": 240, "student_val": 144, "test": 90, "unlabelled": 50, "teacher_val": 48, "teacher_test": 48,
    }  # fmt: skip
    for split, defective in (("train", 40), ("test", 30)):
        assert (table.loc[table["split"] == split, "true_label"] == 0).sum() == defective
    assert (table.loc[table["split"] == "unlabelled", "label"] == -1).all()
    assert set(table["true_subtask"]) == {-1, 2, 3, 5, 7, 9}
    assert ((table["true_subtask"] == -1) == (table["true_label"] == 1)).all()


def test_labels_are_wrong_at_the_asked_rate_and_right_in_the_test_part(uniform):
    table = uniform.table
    wrong = table["label"] != table["true_label"]
    train = table["split"] == "train"
    assert wrong[train & (table["true_label"] == 0)].sum() == 8
    assert wrong[train & (table["true_label"] == 1)].sum() == 40
    assert not wrong[table["split"] == "test"].any()
    assert table.attrs["noise"]["train"]["all"] == pytest.approx(0.2)
    assert table.attrs["noise"]["train"]["labelled_defective"] == pytest.approx(40 / 72)


def test_structured_noise_is_all_on_acceptable_look_alikes(uniform):
    structured = digit_posters(**SMALL, noise="structured")
    table = structured.table
    wrong = (table["label"] != table["true_label"]) & (table["split"] != "unlabelled")
    assert (table.loc[wrong, "true_label"] == 1).all()
    assert wrong[table["split"] == "train"].sum() == 48
    everything = range(len(table))
    assert torch.equal(structured.images.gather(everything), uniform.images.gather(everything))
    with pytest.raises(ValueError, match="only 100"):
        digit_posters(**SMALL, noise="structured", noise_rate=0.45)


def test_blocks_share_no_digit_and_hold_every_class():
    seen = []
    for block in posters.BLOCKS:
        digits = posters._digits(block)
        assert min(len(images) for images in digits.values()) >= 20
        seen.append({image.tobytes() for images in digits.values() for image in images})
    assert all(not a & b for i, a in enumerate(seen) for b in seen[:i])


def test_a_poster_is_its_digits_on_a_ground():
    rng = np.random.default_rng(0)
    source = {digit: np.full((1, 8, 8), 255, dtype=np.uint8) for digit in range(10)}
    images = posters._draw(np.array([[1, -1, -1, -1, 2, -1, -1, -1, 3]]), source, rng, tint=0.0)
    bright = images[0].mean(axis=0).reshape(3, 8, 3, 8).mean(axis=(1, 3)) > 128
    assert (bright == np.eye(3, dtype=bool)).all()


def test_half_of_the_acceptable_posters_show_the_look_alike():
    subtask = np.array([7] * 20 + [-1] * 40)
    theme = posters._themes(subtask, (3, 7), 4, np.random.default_rng(0))
    assert (theme[:20] == 7).all()
    assert (theme[20:] == 4).sum() == 20
    assert not np.isin(theme[20:], (3, 7)).any()


def test_a_poster_repeats_its_theme_among_strays():
    theme = np.array([7] * 100 + [4] * 100)
    digits = posters._compose(theme, np.array([0, 1]), (2, 5), (0, 2), np.random.default_rng(0))
    repeats, strays = (digits == theme[:, None]).sum(axis=1), np.isin(digits, (0, 1)).sum(axis=1)
    assert (repeats.min(), repeats.max()) == (2, 5)
    assert (strays.min(), strays.max()) == (0, 2)
    assert (repeats + strays + (digits == -1).sum(axis=1) == 9).all()


def test_seed_decides_everything(uniform):
    again, other = digit_posters(**SMALL), digit_posters(**SMALL, seed=1)
    assert again.table.equals(uniform.table)
    assert torch.equal(again.images.gather(range(100)), uniform.images.gather(range(100)))
    assert not torch.equal(other.images.gather(range(100)), uniform.images.gather(range(100)))


def test_pretraining_names_the_permitted_digit():
    images, labels = permitted_digits(examples=60, size=16)
    assert images.shape == (60, 3, 16, 16)
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    assert labels.unique().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "wrong",
    [{"look_alike": 3}, {"forbidden": (2, 2)}, {"forbidden": (11,)}, {"noise": "loud"}, {"noise_rate": 0.5}],
)
def test_refusals(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        digit_posters(**{**SMALL, **wrong})


def test_no_noise_means_true_labels(uniform):
    clean = uniform.table.drop(columns="label").replace(
        {"split": dict.fromkeys(posters.VALIDATION_PARTS, "validation")}
    )
    table = annotated(clean, np.zeros(len(clean), dtype=bool), "none", 0.2, seed=0)
    known = table["split"] != "unlabelled"
    assert (table["label"] == table["true_label"])[known].all()
    assert table.attrs["noise"]["train"]["all"] == 0
