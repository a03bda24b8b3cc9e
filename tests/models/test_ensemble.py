"""An ensemble's answer is the mean of its members', also after it was written and read, and behind an encoder."""

from pathlib import Path

import pytest
import torch

from tutelage.models import (
    EnsembleSpec,
    ModelSpec,
    MultiHeadSpec,
    build,
    build_multi_head,
    ensemble_of,
    load_ensemble,
    save_ensemble,
)
from tutelage.models.features import feature_door

SIDE = MultiHeadSpec("pocket_resnet", {"kind": 3, "other": 2}, image_size=8)
ALONE = MultiHeadSpec("pocket_resnet", {"kind": 3}, image_size=8)
MAP = MultiHeadSpec("test_efficientnet", {"kind": 3}, maps=("kind",), options={"width": 6})
FIELDS = MultiHeadSpec("autoint", {"kind": 1}, fields=(4, 5), squared_norm=True)


def networks(*specs):
    torch.manual_seed(0)
    return [(build_multi_head(spec).eval(), spec) for spec in specs]


@pytest.mark.parametrize(
    ("specs", "input", "numbers"),
    [
        ((SIDE, ALONE), torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8), False),
        ((MAP, MAP, MAP), torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8), False),
        ((FIELDS, FIELDS), torch.tensor([[0, 4], [3, 1]]), True),
        ((ALONE,), torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8), False),
    ],
    ids=["classes", "maps", "numbers", "one"],
)
@torch.inference_mode()
def test_the_answer_is_the_mean_of_the_members_answers(specs, input, numbers, tmp_path: Path) -> None:
    members = networks(*specs)
    each = torch.stack([network(input)["kind"] for network, _ in members])
    expected = each.mean(0) if numbers else each.softmax(2).mean(0)
    made = ensemble_of(members, "kind", numbers=numbers)
    save_ensemble(made, tmp_path, note="a fact")
    again, facts = load_ensemble(tmp_path)
    assert facts == {"note": "a fact"}
    assert again.spec == made.spec
    for model in (made, again):
        assert not model.training
        told = model(input)
        assert list(told) == ["kind"]
        torch.testing.assert_close(told["kind"] if numbers else told["kind"].exp(), expected)


@torch.inference_mode()
def test_standardised_numbers_are_answered_in_their_unit(tmp_path: Path) -> None:
    members, input = networks(FIELDS, FIELDS), torch.tensor([[0, 4], [3, 1]])
    plain = ensemble_of(members, "kind", numbers=True)(input)["kind"]
    save_ensemble(ensemble_of(members, "kind", numbers=True, standard=(2000.0, 30.0)), tmp_path)
    made, _ = load_ensemble(tmp_path)
    torch.testing.assert_close(made(input)["kind"], 2000 + 30 * plain)
    with pytest.raises(ValueError, match=r"standard\[1\]=0 must be a number above 0"):
        EnsembleSpec((FIELDS,), "kind", True, (0.0, 0))


@torch.inference_mode()
def test_members_of_features_share_one_encoder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = build(ModelSpec("pocket_resnet", 0, 8, options={"widths": [4, 6], "stem_stride": 1})).eval()
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    features = encoder.features(images)
    count = features.shape[1]
    spec = MultiHeadSpec("feature_mlp", {"kind": 3}, options={"num_features": count})
    members = networks(spec, spec)
    mean, std = torch.randn(count), torch.rand(count) + 1
    expected = torch.stack([network((features - mean) / std)["kind"].softmax(1) for network, _ in members]).mean(0)
    for encoded, input in ((encoder, images), (None, features)):
        made = ensemble_of(members, "kind", door=feature_door(encoded, mean, std))
        save_ensemble(made, tmp_path)
        again, _ = load_ensemble(tmp_path)
        torch.testing.assert_close(again(input)["kind"].exp(), expected)
        assert (again.spec.num_features, again.spec.image_size) == ((None, 8) if encoded else (count, spec.image_size))


@pytest.mark.parametrize(
    ("members", "head", "told"),
    [
        ((), "kind", "1 to 100 members"),
        ((ALONE,) * 101, "kind", "1 to 100 members"),
        ((ALONE, FIELDS), "kind", "of the same input"),
        ((ALONE, SIDE), "other", "a head 'other' with as many outputs in each"),
        ((ALONE,), "moon", "a head 'moon'"),
        ((ALONE, MultiHeadSpec("pocket_resnet", {"kind": 4}, image_size=8)), "kind", "as many outputs"),
    ],
)
def test_members_that_do_not_fit_are_refused(members, head, told) -> None:
    with pytest.raises(ValueError, match=told):
        EnsembleSpec(members, head)
