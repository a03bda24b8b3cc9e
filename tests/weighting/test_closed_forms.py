"""SuperLoss, learning to reweight and CRUST by numbers from elsewhere."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import lambertw
from torch import nn
from weighting_zoo import N, examples, network, objective_of, rows

from tutelage.signals import CrossEntropy, Objective
from tutelage.weighting import CRUST, SuperLoss, super_loss
from tutelage.weighting.crust import facility_location, gradient_distances
from tutelage.weighting.reweight import normalised
from tutelage.weighting.superloss import lambert_w

LOSSES = torch.tensor([0, 1, math.log(10), 4, 8], dtype=torch.float64)
GOLDEN = {
    1.0: ([2.718282, 2.718282, 1, 0.600637, 0.359310], [-5.259075, -2.540793, 0, 1.279390, 3.094833]),
    0.25: ([2.718282, 2.718282, 1, 0.328192, 0.160534], [-6.009075, -3.290793, 0, 0.867414, 1.751167]),
}


@pytest.mark.parametrize("regularisation", GOLDEN)
def test_super_loss_golden_numbers(regularisation):
    sigma, loss = super_loss(LOSSES, math.log(10), regularisation)
    for found, expected in zip((sigma, loss), GOLDEN[regularisation], strict=True):
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-6)


def test_lambert_w_is_minus_one_where_libraries_give_nan():
    branch_point = torch.tensor([-1 / math.e, -1.0], dtype=torch.float64)
    assert torch.equal(lambert_w(branch_point), torch.tensor([-1.0, -1.0], dtype=torch.float64))
    assert torch.equal(lambert_w(branch_point.float()), torch.tensor([-1.0, -1.0]))


def test_lambert_w_against_scipy():
    y = torch.cat(
        [torch.linspace(-0.3678, 1, 500, dtype=torch.float64), torch.logspace(0, 12, 200, dtype=torch.float64)]
    )
    torch.testing.assert_close(lambert_w(y), torch.from_numpy(lambertw(y.numpy()).real), rtol=1e-12, atol=1e-12)


@given(st.floats(-1e4, 1e4), st.floats(-10, 10), st.floats(1e-3, 1e3))
def test_the_confidence_minimises_the_super_loss(loss, threshold, regularisation):
    sigma, least = super_loss(torch.tensor([loss], dtype=torch.float64), threshold, regularisation)
    assert torch.isfinite(sigma).all()
    if loss - threshold > -2 / math.e * regularisation:  # elsewhere the loss is bounded by a limit of sigma
        for factor in (0.9, 1.1):
            other = float(sigma) * factor
            value = (loss - threshold) * other + regularisation * math.log(other) ** 2 if other > 0 else math.inf
            assert value >= float(least) - 1e-9 * (1 + abs(value))


def test_the_weight_is_the_gradient_of_the_super_loss():
    """The envelope theorem, against the derivative of the whole formula."""
    losses = torch.tensor([0.5, 2.0, 5.0], dtype=torch.float64)
    sigma, _ = super_loss(losses, 2.3, 1.0)
    step = 1e-6
    slope = (super_loss(losses + step, 2.3, 1.0)[1] - super_loss(losses - step, 2.3, 1.0)[1]) / (2 * step)
    torch.testing.assert_close(slope, sigma, rtol=1e-7, atol=0)


def test_a_running_threshold_follows_the_mean():
    weighting = SuperLoss(num_signals=2, smoothing=0.5).double()
    first = torch.tensor([[1.0, 10.0], [3.0, 30.0]], dtype=torch.float64)
    weighting.example_weights(first, {})
    torch.testing.assert_close(weighting.threshold_K, torch.tensor([2.0, 20.0], dtype=torch.float64))
    weighting.example_weights(2 * first, {})
    torch.testing.assert_close(weighting.threshold_K, torch.tensor([3.0, 30.0], dtype=torch.float64))
    with pytest.raises(ValueError, match="running means of 2 signals, and there are 3: give num_signals=3"):
        weighting.example_weights(torch.ones(4, 3), {})


def test_reading_the_last_weights_moves_no_running_mean():
    weighting = SuperLoss(num_signals=1).double()
    losses = torch.tensor([[1.0], [3.0]], dtype=torch.float64)
    assert (weighting.last_weights(losses, {}) == 1).all()  # no mean is known yet
    assert weighting.threshold_K.isnan().all()
    weighting.example_weights(losses, {})
    for _ in range(2):
        torch.testing.assert_close(weighting.last_weights(5 * losses, {}), super_loss(5 * losses, 2.0, 1.0)[0])
    assert weighting.threshold_K.tolist() == [2.0]


def test_missing_losses_are_no_part_of_a_running_mean():
    """By hand: the first signal is missing for the second example, the second one for all of the first batch."""
    weighting = SuperLoss(num_signals=2, smoothing=0.5).double()
    found = weighting.example_weights(torch.tensor([[1.0, 0.0], [0.0, 0.0], [3.0, 0.0]], dtype=torch.float64), {})
    alone = SuperLoss(num_signals=1, smoothing=0.5).double()
    torch.testing.assert_close(
        found[::2, :1], alone.example_weights(torch.tensor([[1.0], [3.0]], dtype=torch.float64), {})
    )
    assert (found[:, 1] == 1).all()  # nothing is known of it
    assert weighting.threshold_K[0] == 2
    weighting.example_weights(torch.tensor([[0.0, 4.0], [0.0, 0.0]], dtype=torch.float64), {})
    assert weighting.threshold_K.tolist() == [2, 4]


def test_learning_to_reweight_golden_numbers():
    found = normalised(torch.tensor([0.3, -0.2, -0.6, 0.1]))
    torch.testing.assert_close(found, torch.tensor([0.0, 0.25, 0.75, 0.0]))
    assert (normalised(torch.tensor([0.3, 0.0])) == 0).all()


@pytest.mark.parametrize("biased", [True, False])
def test_gradient_distances_are_those_of_the_gradients(biased):
    model = nn.Linear(5, 3, bias=biased).double()
    batch = examples(9)
    gradients = []
    for i in range(9):
        model.zero_grad()
        nn.functional.cross_entropy(model(batch["input"][[i]]), batch["label"][[i]]).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    pulls = model(batch["input"]).softmax(1).detach() - nn.functional.one_hot(batch["label"], 3)
    found = gradient_distances(batch["input"], pulls, biased)
    torch.testing.assert_close(found, torch.cdist(torch.stack(gradients), torch.stack(gradients)), rtol=1e-6, atol=1e-7)


def value_of(similarity, chosen):
    return float(similarity[:, list(chosen)].amax(1).sum())


@given(st.integers(1, 8), st.integers(0, 99))
def test_lazy_greedy_is_greedy_and_within_its_guarantee(size, seed):
    points = torch.randn(8, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    distances = torch.cdist(points, points)
    similarity = distances.max() - distances
    found = facility_location(similarity, size).tolist()
    plain: list[int] = []
    for _ in range(size):
        rest = [j for j in range(8) if j not in plain]
        plain.append(max(rest, key=lambda j: (value_of(similarity, [*plain, j]), -j)))
    assert len(set(found)) == size
    assert math.isclose(value_of(similarity, found), value_of(similarity, plain), rel_tol=1e-12)
    best = max(value_of(similarity, chosen) for chosen in itertools.combinations(range(8), size))
    assert value_of(similarity, found) >= (1 - 1 / math.e) * best


def test_crust_keeps_a_share_of_each_class_and_counts_what_is_near():
    model, everything = network(), examples()
    objective = objective_of(model)
    batches = [rows(everything, range(start, start + 8)) for start in range(0, N, 8)]
    model.body[1].train()
    model.head.eval()
    for radius in (0.5, None):
        weighting = CRUST(N, fraction=0.5, radius=radius)
        assert (weighting.weights == 1).all()
        weighting.select(objective, batches)
        chosen, weights = weighting.selected, weighting.weights
        for label in range(3):
            kept, all_of_it = ((everything["label"][which] == label).sum() for which in (chosen, slice(None)))
            assert kept == round(0.5 * float(all_of_it))
        torch.testing.assert_close(weights[chosen].mean(), torch.tensor(1.0))
        if radius is None:  # each example counts for one medoid
            counts = weights[chosen] * N / len(chosen)
            torch.testing.assert_close(counts, counts.round())
    assert model.body[1].training
    assert not model.head.training  # as each module was
    shuffled = CRUST(N, fraction=0.5, radius=None)
    shuffled.select(objective, reversed(batches))
    assert torch.equal(shuffled.weights, weights)


@pytest.mark.parametrize("radius", [0.5, None])
def test_crust_chooses_as_if_examples_without_a_label_were_not_there(radius):
    model, everything = network(), examples()
    objective = objective_of(model)
    labelled = torch.arange(N) % 3 != 0
    alone = CRUST(N, fraction=0.5, radius=radius)
    alone.select(objective, [{key: value[labelled] for key, value in everything.items()}])
    among = CRUST(N, fraction=0.5, radius=radius)
    among.select(objective, [{**everything, "label": torch.where(labelled, everything["label"], -1)}])
    assert torch.equal(among.weights, alone.weights)
    assert (among.weights[~labelled] == 0).all()
    with pytest.raises(ValueError, match="no example is finite and has a label"):
        among.select(objective, [{**everything, "label": torch.full((N,), -1)}])
    with pytest.raises(ValueError, match=r"batch\['label'\] is torch.float32 \(24, 3\); give whole numbers \(B,\)"):
        among.select(objective_of(model), [{**everything, "label": torch.ones(N, 3)}])


def test_crust_makes_little_of_mislabelled_examples():
    """Two far clusters; a tenth of the labels are wrong, and a model that has learned the rule."""
    g = torch.Generator().manual_seed(0)
    true = torch.arange(200) % 2
    input = (2.0 * true - 1)[:, None] * 2 + torch.randn(200, 2, generator=g)
    wrong = torch.rand(200, generator=g) < 0.1
    label = torch.where(wrong, 1 - true, true)
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
        model.bias.zero_()
    weighting = CRUST(200, fraction=0.2, radius=2.0)
    batch = {"index": torch.arange(200), "input": input, "label": label}
    weighting.select(Objective(model, [CrossEntropy()]), [batch])
    chosen = weighting.weights > 0  # outliers are medoids too, of few
    assert weighting.weights[chosen & wrong].mean() < 0.2 * weighting.weights[chosen & ~wrong].mean()


def test_mistakes_are_named():
    model = network()
    with pytest.raises(ValueError, match="batches is empty"):
        CRUST(N).select(objective_of(model), [])
    broken = {**examples(8), "input": torch.full((8, 5), torch.nan, dtype=torch.float64)}
    with pytest.raises(ValueError, match="no example is finite"):
        CRUST(N).select(objective_of(model), [broken])
    weighting = CRUST(N)
    weighting.select(objective_of(model), [examples()])
    with pytest.raises(ValueError, match="no example is finite"):
        weighting.select(objective_of(model), [broken])
    with pytest.raises(ValueError, match="fraction=0"):
        CRUST(N, fraction=0)
    with pytest.raises(ValueError, match="regularisation=0"):
        SuperLoss(1.0, regularisation=0)
    with pytest.raises(ValueError, match="3 thresholds for 2 signals"):
        SuperLoss([1.0, 2.0, 3.0]).example_weights(torch.ones(4, 2), {})
