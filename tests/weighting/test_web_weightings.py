"""MentorNet, CurriculumNet, CleanNet and IEG by hand, and by finite differences."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from weighting_zoo import CLASSES, N, examples, network, objective_of, rows

from tutelage.hypergradient import look_ahead_gradient
from tutelage.signals import CrossEntropy, Objective, OwnAnswer, Scaled, Signal
from tutelage.signals.base import unobserved
from tutelage.weighting import IEG, CleanNet, CurriculumNet, LearnedMentorNet, LearningToReweight, MentorNet
from tutelage.weighting.curriculumnet import by_density, three_of
from tutelage.weighting.ieg import chosen
from tutelage.weighting.reweight import normalised
from tutelage.weighting.verified import WrongLabels


def column(*losses: float) -> torch.Tensor:
    return torch.tensor(losses, dtype=torch.float64)[:, None]


def test_mentornet_s_weights_fall_linearly_behind_the_running_percentile():
    weighting = MentorNet(percentile=0.5, width=2.0, smoothing=0.75).double()
    found = weighting.example_weights(column(0.5, 1, 2, 3, 9), {})  # the median is 2
    torch.testing.assert_close(found[:, 0], torch.tensor([1, 1, 1, 0.5, 0], dtype=torch.float64))
    weighting.example_weights(column(4, 4, 4), {})
    assert float(weighting.threshold) == pytest.approx(0.75 * 2 + 0.25 * 4)
    before = weighting.threshold.clone()
    weighting.last_weights(column(8, 8), {})  # asked after the training: nothing moves
    assert torch.equal(weighting.threshold, before)
    paced = MentorNet(percentile=0.5, width=0.0)
    assert paced.example_weights(column(0.5, 1, 2, 3, 9), {})[:, 0].tolist() == [1, 1, 1, 0, 0]
    held_back = MentorNet(percentile=0.5, start=2)
    held_back.begin_epoch(1, None, [])  # type: ignore[arg-type]
    assert (held_back.example_weights(column(0, 1, 9), {}) == 1).all()
    held_back.begin_epoch(2, None, [])  # type: ignore[arg-type]
    assert held_back.example_weights(column(0, 1, 9), {})[2] == 0


@pytest.mark.parametrize("make", [MentorNet, LearnedMentorNet])
def test_mentornet_s_percentile_is_of_the_examples_that_have_a_label(make):
    torch.manual_seed(0)
    alone, among = make(percentile=0.5).double(), make(percentile=0.5).double()
    among.load_state_dict(alone.state_dict())
    nobody = among.example_weights(column(0, 0), {})
    assert (nobody == 1).all()
    assert among.threshold == -torch.inf  # not known yet
    expected = alone.example_weights(column(1, 2, 3), {})
    found = among.example_weights(column(0, 1, 0, 2, 0, 3), {})
    torch.testing.assert_close(found[1::2], expected)
    assert (found[::2] == 1).all()  # no label, so none that is doubted
    assert float(among.threshold) == float(alone.threshold) == 2


def test_the_percentile_s_share_weighs_one_and_the_others_less():
    losses = torch.linspace(0.01, 1, 100, dtype=torch.float64)[:, None]
    found = MentorNet(percentile=0.7, width=1.0).double().example_weights(losses, {})[:, 0]
    assert (found == 1).sum() == 70
    assert found.min() == pytest.approx(0.7, abs=0.01)  # 0.3 above the percentile, of a width of 1
    assert MentorNet(percentile=0.7, width=0.0).double().example_weights(losses, {}).sum() == 70


def test_wrong_labels_are_all_other_classes_in_turn():
    wrong, labels = WrongLabels(), torch.tensor([0, 1, 3, -1])
    met = []
    for _ in range(3):
        met.append(wrong({"input": torch.zeros(4, 1), "label": labels})["label"])
        wrong.turn()
    stacked = torch.stack(met)
    assert (stacked[:, 3] == -1).all()
    for place in range(3):
        assert set(stacked[:, place].tolist()) == set(range(4)) - {int(labels[place])}
    alone = WrongLabels()({"input": torch.zeros(2, 1), "label": torch.zeros(2, dtype=torch.int64)})
    assert (alone["label"] == -1).all()
    with pytest.raises(ValueError, match=r"float64 \(2, 3\); expected whole numbers \(B,\)"):
        WrongLabels()({"input": torch.zeros(2, 1), "label": torch.zeros(2, 3, dtype=torch.float64)})


def test_the_learned_mentor_s_gradient_by_finite_differences():
    model, held_out = network(), examples(6, seed=4)
    weighting = LearnedMentorNet(hidden=3).double()
    weighting.threshold.fill_(0.7)
    objective = objective_of(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gradients = weighting.hypergradient(objective, examples(8), held_out, optimizer)
    wrong = weighting.wrong(held_out)

    def loss() -> float:
        total = 0.0
        for batch, right in ((held_out, 1.0), (wrong, 0.0)):
            own = F.cross_entropy(model(batch["input"]), batch["label"], reduction="none").detach()
            v = weighting.curriculum(own, weighting.threshold)
            total += float(-(v if right else 1 - v).log().sum())
        return total / 12

    for name, parameter in weighting.network.named_parameters():
        flat = parameter.data.view(-1)
        for place in range(len(flat)):
            values = []
            for step in (1e-6, -2e-6):
                flat[place] += step
                values.append(loss())
            flat[place] += 1e-6
            slope = (values[0] - values[1]) / 2e-6
            assert slope == pytest.approx(float(gradients[name].view(-1)[place]), rel=1e-5, abs=1e-8)


def test_the_learned_mentor_tells_small_losses_from_large_ones():
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.scale * 3 * F.one_hot(x[:, 0].long(), 3).float()

    model = Fixed()
    objective = Objective(model, [CrossEntropy()])
    torch.manual_seed(0)
    weighting = LearnedMentorNet()
    labels = torch.arange(6) % 3
    batch = {"index": torch.arange(6), "input": labels[:, None].float(), "label": labels}
    for _ in range(300):
        weighting.adapt(objective, batch, batch, torch.optim.SGD(model.parameters(), lr=0.1))
    right, wrong = weighting.last_weights(torch.tensor([[0.0949], [3.0949]]), {})[:, 0]
    assert right > 0.9
    assert wrong < 0.1


def test_three_clusters_of_numbers():
    assert three_of(torch.tensor([0.0, 5.0, 0.1, 5.2, 2.0, 2.1])).tolist() == [0, 2, 0, 2, 1, 1]
    assert three_of(torch.tensor([3.0])).tolist() == [0]
    assert three_of(torch.ones(4)).tolist() == [0, 0, 0, 0]


def test_density_is_counted_within_the_quantile_of_the_squared_distances():
    # Squared distances on a line at 0, 1, 2 and 10: 0 (four times), 1, 1, 4, 64, 81, 100, each twice. The quantile 0.6 is
    # rank 10 of 16, which is 4; nearer than that lie 2, 3, 2 and 1 points with oneself, so that the one at 1 is the center.
    points = torch.tensor([[0.0], [1.0], [2.0], [10.0]])
    assert by_density(points, 0.6).tolist() == [1, 0, 1, 2]


class Passing(nn.Module):
    """Features as they are, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x)


def clouds() -> dict[str, torch.Tensor]:
    """Return two classes of ten examples each, eight alike, and two that look like the other class."""
    g = torch.Generator().manual_seed(0)
    label = torch.arange(20) // 10
    looks = label.clone()
    looks[[8, 9, 18, 19]] = 1 - looks[[8, 9, 18, 19]]
    input = 4 * F.one_hot(looks, 2).float() + 0.1 * torch.randn(20, 2, generator=g)
    return {"index": torch.arange(20), "input": input, "label": label}


FOREIGN = torch.isin(torch.arange(20), torch.tensor([8, 9, 18, 19]))


def test_the_curriculum_s_stages():
    batch, objective = clouds(), Objective(Passing(), [CrossEntropy()])
    weighting = CurriculumNet(20, start=1, stage=2, noisy=0.5, highly_noisy=0.25)
    seen = {}
    for epoch in range(7):
        weighting.begin_epoch(epoch, objective, [rows(batch, range(12)), rows(batch, range(12, 20))])
        seen[epoch] = weighting.example_weights(torch.zeros(20, 1), batch)[:, 0]
    subsets = weighting.subsets
    assert (subsets[FOREIGN] == 2).all()
    assert (subsets[~FOREIGN] < 2).all()
    assert (seen[0] == 1).all()
    for epochs, weights in (((1, 2), (1, 0, 0)), ((3, 4), (1, 0.5, 0)), ((5, 6), (1, 0.5, 0.25))):
        for epoch in epochs:
            assert torch.equal(seen[epoch], torch.tensor(weights)[subsets]), epoch
    assert torch.equal(weighting.columns(None)["weight"], seen[6])


def test_cleannet_weighs_by_the_cosine_with_the_class():
    batch, objective = clouds(), Objective(Passing(), [CrossEntropy()])
    weighting = CleanNet(20, start=0)
    assert (weighting.weights == 1).all()
    weighting.begin_epoch(0, objective, [batch])
    directions = F.normalize(batch["input"], dim=1)
    means = torch.stack([directions[batch["label"] == c].mean(0) for c in range(2)])
    cosines = F.cosine_similarity(directions, means[batch["label"]])  # an orthogonal A changes none
    torch.testing.assert_close(weighting.weights, cosines.clamp(min=0))
    before = weighting.weights
    held_out = rows(clouds(), (~FOREIGN).nonzero()[:, 0])
    for _ in range(200):
        weighting.adapt(objective, batch, held_out, torch.optim.SGD(objective.model.parameters(), lr=0.1))
    weighting.begin_epoch(1, objective, [batch])
    gap, gap_before = (w[~FOREIGN].mean() - w[FOREIGN].mean() for w in (weighting.weights, before))
    assert gap > gap_before > 0
    batch["label"][3] = -1
    weighting.begin_epoch(2, objective, [batch])
    assert weighting.weights[3] == 0


def test_cleannet_s_gradient_by_finite_differences():
    model = network()
    objective, held_out = objective_of(model), examples(6, seed=4)
    weighting = CleanNet(N, width=3, margin=-0.5, start=0).double()
    weighting.begin_epoch(0, objective, [examples()])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gradient = weighting.hypergradient(objective, examples(8), held_out, optimizer)["embedding"]
    wrong = weighting.wrong(held_out)["label"]
    features = model.body(held_out["input"]).detach()

    def loss(A: torch.Tensor) -> float:
        right, other = (
            F.cosine_similarity(features @ A.T, weighting.prototypes[label] @ A.T)
            for label in (held_out["label"], wrong)
        )
        return float((1 - right + 5.0 * (other + 0.5).clamp(min=0)).mean())

    for place in [(0, 0), (1, 3), (2, 5)]:
        step = torch.zeros_like(gradient)
        step[place] = 1e-6
        slope = (loss(weighting.embedding + step) - loss(weighting.embedding - step)) / 2e-6
        assert slope == pytest.approx(float(gradient[place]), rel=1e-5)


def test_ieg_takes_of_each_example_the_signal_that_helps_most():
    gradient = torch.tensor([[-3.0, 1.0], [-1.0, -2.0], [2.0, 0.5], [-1.0, -1.0], [torch.nan, torch.nan]])
    expected = torch.tensor([[3.0, 0], [0, 2.0], [0, 0], [1.0, 0], [0, 0]]) / 6
    torch.testing.assert_close(chosen(gradient), expected)
    assert torch.equal(chosen(gradient[:, :1]).squeeze(1), normalised(gradient[:, 0].nan_to_num()))


def test_ieg_with_one_signal_is_learning_to_reweight():
    model, batch, held_out = network(), rows(examples(), range(8)), examples(6, seed=4)
    objective = Objective(model, [CrossEntropy()])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found = []
    for weighting in (IEG(), LearningToReweight()):
        weighting.adapt(objective, batch, held_out, optimizer)
        found.append(weighting.example_weights(objective(batch).detach(), batch))
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("make", [IEG, LearningToReweight])
def test_weights_are_forgotten_once_they_are_used(make):
    model, batch, held_out = network(), rows(examples(), range(8)), examples(6, seed=4)
    objective, weighting = objective_of(model), make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    weighting.adapt(objective, batch, held_out, optimizer)
    for part in (range(3), range(3, 8)):  # a batch in parts
        weighting.backward(objective(rows(batch, part)), rows(batch, part), model)
    optimizer.step()
    for part in (range(8), [5]):
        with pytest.raises(ValueError, match="call adapt on it before every backward"):
            weighting.backward(objective(rows(batch, part)), rows(batch, part), model)
    weighting.adapt(objective, batch, held_out, optimizer)
    weighting.backward(objective(batch), batch, model)


def test_the_choice_is_the_sign_of_the_derivative_by_the_mixed_target():
    model, batch, held_out = network(), rows(examples(), range(8)), examples(6, seed=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    signals = [CrossEntropy(), OwnAnswer(temperature=0.5)]
    g = look_ahead_gradient(Objective(model, signals), batch, held_out, optimizer, torch.zeros(8, 2)).values
    answers = (model(batch["input"]).detach() / 0.5).softmax(1)

    def after(place: int, label_share: float) -> float:
        """The held-out loss after a step on the cross-entropy of one example with a mixed target."""
        target = label_share * F.one_hot(batch["label"], CLASSES)[place] + (1 - label_share) * answers[place]
        moved = network()
        loss = -1e-4 * (target * moved(batch["input"][place : place + 1]).log_softmax(1)).sum() / 8
        gradients = torch.autograd.grad(loss, list(moved.parameters()))
        with torch.no_grad():
            for p, gradient in zip(moved.parameters(), gradients, strict=True):
                p -= 0.1 * gradient
            return float(F.cross_entropy(moved(held_out["input"]), held_out["label"]))

    for place in range(8):
        slope = (after(place, 0.6) - after(place, 0.4)) / 0.2 / 1e-4
        assert slope == pytest.approx(float(g[place, 0] - g[place, 1]), rel=1e-3, abs=1e-9)


def test_an_own_answer_by_hand():
    z = torch.tensor([[0.0, torch.log(torch.tensor(3.0))]], dtype=torch.float64, requires_grad=True)  # p = 1/4, 3/4
    with unobserved():
        loss = OwnAnswer(temperature=0.5)(z, {})
    q = torch.tensor([0.1, 0.9], dtype=torch.float64)  # 1/16 and 9/16
    p = torch.tensor([0.25, 0.75], dtype=torch.float64)
    torch.testing.assert_close(loss, -(q * p.log()).sum()[None], rtol=1e-6, atol=0)
    (gradient,) = torch.autograd.grad(loss.sum(), z)
    torch.testing.assert_close(gradient[0], p - q, rtol=1e-6, atol=0)
    (still,) = torch.autograd.grad(OwnAnswer(temperature=1.0)(z, {}).sum(), z)
    torch.testing.assert_close(still, torch.zeros_like(still), rtol=0, atol=1e-15)
    with pytest.raises(ValueError, match=r"temperature=2.0 must be in \(0, 1\]"):
        OwnAnswer(temperature=2.0)


@pytest.mark.parametrize("scaled", [False, True])
def test_the_learned_mentor_is_shown_wrong_labels_of_the_primary_signal_s_target(scaled):
    signal = CrossEntropy("species")
    objective = Objective(network(), [Scaled(signal, 1.0) if scaled else signal])
    plain = Objective(objective.model, [CrossEntropy()])
    held_out, batch = examples(6, seed=4), examples(8)
    optimizer = torch.optim.SGD(objective.model.parameters(), lr=0.1)
    renamed = {**held_out, "species": held_out["label"]}
    del renamed["label"]
    weighting = LearnedMentorNet(hidden=3).double()
    expected = weighting.hypergradient(plain, batch, held_out, optimizer)
    found = weighting.hypergradient(objective, batch, renamed, optimizer)
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def test_the_learned_mentor_refuses_a_signal_that_wrong_labels_do_not_touch():
    class Other(Signal):
        def forward(self, outputs, batch):
            return F.cross_entropy(outputs, batch["species"], reduction="none")

    objective, held_out = Objective(network(), [Other("other")]), examples(6, seed=4)
    held_out["species"] = held_out["label"]
    optimizer = torch.optim.SGD(objective.model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"'other' does not judge by held_out\['label'\].*give it a target="):
        LearnedMentorNet().double().adapt(objective, examples(8), held_out, optimizer)


@pytest.mark.parametrize("kind", [CurriculumNet, CleanNet])
def test_labels_that_are_no_classes_are_refused_by_name(kind):
    objective = objective_of(network())
    weighting = kind(num_examples=N)

    def look(label) -> None:
        getattr(weighting, "divide" if kind is CurriculumNet else "weigh")(objective, [{**examples(8), "label": label}])

    for label in (torch.rand(8), torch.zeros(8, 3), torch.zeros(8, 1, dtype=torch.int64)):
        with pytest.raises(ValueError, match=rf"{kind.__name__} goes by class, and batch\['label'\] is"):
            look(label)
    if kind is CleanNet:
        with pytest.raises(ValueError, match=r"batch\['label'\] holds class 99, and the model has"):
            look(torch.full((8,), 99))
