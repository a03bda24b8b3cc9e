"""Several networks as one: the sum of their log-odds, stored and read like any model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from tutelage.models import NOT_HEARD, Committee, CommitteeSpec, ModelSpec, build, load_committee, save_committee
from tutelage.models.classifier import joint_logits

DEIT = ModelSpec("pocket_deit", 2, 24, options={"embed_dim": 16, "depth": 1, "num_heads": 2})
JUDGES = ModelSpec("pocket_resnet", 3, 24, options={"widths": [4, 8]})


@pytest.fixture
def committee() -> Committee:
    torch.manual_seed(0)
    made = Committee([build(DEIT), build(JUDGES)], [False, True])
    made.weight.copy_(torch.tensor([0.7, 1.3]))
    made.offset.fill_(-0.4)
    made.points(1).copy_(torch.tensor([0.5, NOT_HEARD, -0.2]))
    return made.eval()


def test_it_says_the_weighted_sum_of_its_members_log_odds(committee):
    images = torch.randint(256, (5, 3, 24, 24), dtype=torch.uint8)
    with torch.no_grad():
        told = committee(images).double().numpy()
        verdict, judges = (joint_logits(member(images)).double().numpy() for member in committee.members)
    heard = judges[:, [0, 2]] - np.array([0.5, -0.2])
    wanted = 0.7 * (verdict[:, 1] - verdict[:, 0]) - 1.3 * logsumexp(-heard, axis=1) - 0.4
    assert told[:, 0] == pytest.approx(np.zeros(5))
    assert told[:, 1] == pytest.approx(wanted, abs=1e-5)
    assert torch.equal(committee.features(images), committee.members[0].features(images))


def test_it_is_stored_and_read_again(committee, tmp_path):
    save_committee(committee, tmp_path, fpr=0.01)
    again, facts = load_committee(tmp_path)
    assert facts == {"fpr": 0.01}
    assert again.spec == committee.spec
    assert again.spec.image_size == 24
    images = torch.randint(256, (3, 3, 24, 24), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(again.cpu()(images), committee(images))


def test_a_strangers_spec_is_checked(committee, tmp_path: Path):
    with pytest.raises(ValueError, match="members of one image size"):
        CommitteeSpec((), ())
    with pytest.raises(ValueError, match="members of one image size"):
        CommitteeSpec((DEIT,), (False, True))
    with pytest.raises(ValueError, match="'pocket_resnet' has 3 classes"):
        CommitteeSpec((JUDGES,), (False,))
    save_committee(committee, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["committee"]["specialists"] = [True, True]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="points_0 is"):
        load_committee(tmp_path)
