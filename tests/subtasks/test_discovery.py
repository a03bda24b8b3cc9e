from dataclasses import replace
from pathlib import Path

import pocket
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.data import ImageTable
from tutelage.subtasks import Discovery, DiscoverySettings, SelfLabels, discover, features, kmeans, sinkhorn
from tutelage.subtasks.discovery import Halves

SETTINGS = DiscoverySettings(subtasks=4, lam=10.0, epochs=3)


@pytest.fixture(scope="module")
def images() -> ImageTable:
    return pocket.posters()


def found(images: ImageTable, settings: DiscoverySettings, out: Path | None = None, until: int = 10**9) -> Discovery:
    return discover(
        pocket.network(settings.outputs),
        images.subset,
        *pocket.rows_by_label(images),
        settings,
        pocket.plan(augment=pocket.Jitter(until), seed=3, out=out),
    )


def view(logits_NK: Tensor, index: Tensor):
    """What fit shows a signal at the start of an epoch."""
    return lambda augmented: (index, logits_NK)


def logits(count: int, classes: int, seed: int = 0) -> Tensor:
    return torch.randn(count, classes, generator=torch.Generator().manual_seed(seed)) * 3


INDEX = torch.arange(5, 45)


def self_labels(subtasks, *, rest=None, seed=0, **settings):
    return SelfLabels(INDEX, DiscoverySettings(subtasks, 10.0, **settings), rest=rest, seed=seed)


def test_the_first_labels_are_a_random_partition_into_equal_parts():
    labels = self_labels(6, rest=torch.tensor([0, 50]), seed=1).labels
    assert labels[INDEX].bincount(minlength=6).tolist() == [7, 7, 7, 7, 6, 6]
    assert labels[[0, 50]].tolist() == [6, 6]  # one more class than the sub-tasks
    assert labels[1:5].tolist() == [-1] * 4
    again = self_labels(6, seed=1).labels
    assert torch.equal(labels[INDEX], again[INDEX])
    assert not torch.equal(labels[INDEX], self_labels(6, seed=2).labels[INDEX])


def test_the_labels_are_those_of_the_transport():
    signal = self_labels(4)
    first = signal.labels.clone()
    signal.begin_epoch(0, view(logits(40, 4), INDEX))
    assert torch.equal(signal.labels, first)  # which the first epoch learns
    shuffled = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    signal.begin_epoch(1, view(logits(40, 4)[shuffled], INDEX[shuffled]))
    transport = sinkhorn(F.log_softmax(logits(40, 4).double(), 1), 10.0)
    assert torch.equal(signal.labels[INDEX], transport.labels)
    assert torch.allclose(signal.log_scale_K - signal.log_scale_K[0], transport.log_scale_K - transport.log_scale_K[0])
    assert int(signal.rounds) == 1
    hand = torch.stack([-F.log_softmax(logits(40, 4), 1)[i, signal.labels[5 + i]] for i in (3, 7)])
    assert torch.allclose(signal(logits(40, 4)[[3, 7]], {"index": INDEX[[3, 7]]}), hand)


def test_what_is_acceptable_keeps_its_own_label_and_takes_no_part_in_the_transport():
    rest = torch.arange(45, 60)
    signal = self_labels(4, rest=rest)
    both, scores = torch.cat([rest, INDEX]), logits(55, 5)
    signal.begin_epoch(1, view(scores, both))
    transport = sinkhorn(F.log_softmax(scores[15:, :4].double(), 1), 10.0)
    assert torch.equal(signal.labels[INDEX], transport.labels)
    assert (signal.labels[rest] == 4).all()


def test_relabelling_only_so_often():
    signal = self_labels(4, relabel_every=3)
    for epoch in range(7):
        signal.begin_epoch(epoch, view(logits(40, 4, epoch), INDEX))
    assert int(signal.rounds) == 2


def test_argmax_collapses_where_the_transport_does_not():
    skewed = logits(40, 4) / 3 + torch.tensor([9.0, 0.0, 0.0, 0.0])
    sizes = {}
    for assignment in ("argmax", "sinkhorn"):
        signal = self_labels(4, assignment=assignment)
        signal.begin_epoch(1, view(skewed, INDEX))
        sizes[assignment] = signal.labels[INDEX].bincount(minlength=4).tolist()
    assert sizes["argmax"] == [40, 0, 0, 0]
    assert min(sizes["sinkhorn"]) >= 8


def test_settled_is_three_calm_rounds_in_a_row():
    signal = self_labels(4, settled_share=0.05)
    seeds = [0, 0, 0, 1, 1, 1, 1]  # the first round of each differs from what was before
    calm = []
    for epoch, seed in enumerate(seeds, start=1):
        signal.begin_epoch(epoch, view(logits(40, 4, seed), INDEX))
        calm.append(int(signal.calm_rounds))
    assert calm == [0, 1, 2, 0, 1, 2, 3]
    assert signal.settled()
    never = self_labels(4, settled_share=0.0)
    for epoch in range(1, 6):
        never.begin_epoch(epoch, view(logits(40, 4), INDEX))
    assert not never.settled()


def test_discovery_ends_when_the_labels_settle(images):
    still = found(images, replace(SETTINGS, settled_share=1.0, epochs=9))
    assert still.rounds == 3


def test_what_is_found(images):
    discovery = found(images, SETTINGS)
    defects, _ = pocket.rows_by_label(images)
    assert torch.equal(discovery.index, defects)
    assert discovery.labels.shape == discovery.confidence.shape == defects.shape
    assert ((discovery.confidence > 0) & (discovery.confidence <= 1)).all()
    assert discovery.rounds == SETTINGS.epochs - 1
    facts = discovery.facts()
    assert (facts["smallest"], facts["largest"]) == (
        int(discovery.labels.bincount(minlength=4).min()),
        int(discovery.labels.bincount(minlength=4).max()),
    )


@pytest.mark.parametrize("share", [0.5, 0.9, 1.0])
def test_every_sub_task_keeps_its_least_size(images, share):
    count = len(pocket.rows_by_label(images)[0])
    soft = replace(SETTINGS, lam=1.0, epochs=1, minimum_size=share)  # where the transport's argmax is far from even
    plain = found(images, replace(soft, minimum_size=0.0))
    assert torch.equal(plain.labels, plain.transport.labels)
    sizes = found(images, soft).labels.bincount(minlength=4)
    assert sizes.min() >= int(share * count / 4)
    assert sizes.sum() == count


@pytest.mark.parametrize("acceptable", [False, True])
def test_interrupted_and_resumed_equals_straight_through(images, acceptable, tmp_path, monkeypatch):
    monkeypatch.setattr("tutelage.training.checkpoint.due", lambda *_: True)
    settings = replace(SETTINGS, acceptable=acceptable)
    straight = found(images, settings)
    for batches in (2, 4):  # within the first epoch, and within the next
        with pytest.raises(pocket.PowerCut):
            found(images, settings, tmp_path, batches)
    resumed = found(images, settings, tmp_path)
    finished = found(images, settings, tmp_path)  # which trains no more
    for other in (resumed, finished):
        assert torch.equal(other.labels, straight.labels)
        assert torch.equal(other.confidence, straight.confidence)
        assert torch.equal(other.transport.log_scale_K, straight.transport.log_scale_K)
        assert other.facts() == straight.facts()


def test_argmax_takes_the_largest_probability_to_the_end(images):
    """Without the transport nothing keeps the sizes even, and no minimum is enforced."""
    discovery = found(images, replace(SETTINGS, assignment="argmax", epochs=2))
    assert torch.allclose(discovery.confidence, discovery.confidence.clamp_min(1 / 4))  # the largest of four


def test_the_start_by_k_means(images):
    defects, _ = pocket.rows_by_label(images)
    network = pocket.network(4)
    expected = kmeans(features(network, images.subset(defects)), 4, seed=3)[0]
    seen: list[Tensor] = []
    original = SelfLabels.begin_epoch

    def watch(self, epoch, predict_fn):
        original(self, epoch, predict_fn)
        seen.append(self.labels[defects].clone())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SelfLabels, "begin_epoch", watch)
        found(images, replace(SETTINGS, start="kmeans", epochs=1))
    assert torch.equal(seen[0], expected)


def test_features_are_what_the_head_sees(images):
    network = pocket.network(4).eval()
    examples = images.subset(torch.arange(5))
    batch = examples.batch(range(5))
    head = network.get_submodule(network.heads[0])
    assert torch.allclose(head(features(network, examples)), network(batch["input"]))


def test_each_epoch_has_all_defects_and_as_many_acceptable_examples():
    defects, acceptable = torch.arange(6), torch.arange(6, 30)
    order = Halves(defects, acceptable, seed=0)
    for epoch in range(3):
        places = order(epoch)
        assert sorted(places[places < 6].tolist()) == defects.tolist()
        assert len(set(places[places >= 6].tolist())) == 6
        assert torch.equal(places, Halves(defects, acceptable, seed=0)(epoch))
    assert not torch.equal(order(0), order(1))
    assert sorted(Halves(defects, acceptable[:2], seed=0)(0).tolist()) == list(range(8))


def test_fewer_defects_than_sub_tasks(images):
    count = len(pocket.rows_by_label(images)[0])
    with pytest.raises(ValueError, match=f"subtasks={count + 1} for {count} defective examples"):
        found(images, replace(SETTINGS, subtasks=count + 1))


@pytest.mark.parametrize(("field", "value"), [("subtasks", 0), ("lam", 0.0), ("lam", -1.0), ("minimum_size", 1.1)])
def test_settings_that_cannot_be(field, value):
    with pytest.raises(ValueError, match=rf"{field}={value}"):
        DiscoverySettings(**{field: value})
