import math
import warnings
from pathlib import Path

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.special import logsumexp
from sinkhorn_worker import SHARDS, one_of_two, random_log_p

import processes
from tutelage.subtasks.sinkhorn import Sinkhorn, SinkhornWarning, sinkhorn
from tutelage.subtasks.sinkhorn_solver import Solver, _least_ratio, centred


def assert_solves(result: Sinkhorn, log_p: torch.Tensor, sizes_K: torch.Tensor | float, tolerance: float) -> None:
    """The plan has the form that only the optimum has, and the marginals: sufficient for optimality."""
    plan_NK = result.plan()
    scaled = (result.lam * log_p.double() + result.log_scale_N[:, None] + result.log_scale_K).exp()
    torch.testing.assert_close(plan_NK, scaled, rtol=1e-7, atol=1e-12)
    torch.testing.assert_close(plan_NK.sum(1), torch.ones(len(plan_NK), dtype=torch.float64), rtol=1e-9, atol=0)
    error = float((plan_NK.sum(0) / sizes_K - 1).abs().max())
    assert error <= tolerance + 1e-9
    assert result.marginal_error == pytest.approx(error, abs=1e-9)
    assert result.converged


# Worked by hand: K = 2, so each plan is Q_i0 = sigmoid(lam * logit(p_i) + a) with one unknown a.
P = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.55, 0.5], dtype=torch.float64)
GOLDEN = {
    1: [0.7989, 0.6385, 0.5074, 0.3984, 0.3505, 0.3063],
    10: [1.0, 0.9995, 0.8938, 0.0921, 0.0129, 0.0018],
    250: [1.0, 1.0, 1.0, 0.0, 0.0, 0.0],
}


@pytest.mark.parametrize("lam", GOLDEN)
def test_golden_numbers(lam):
    result = sinkhorn(torch.stack([P, 1 - P], 1).log(), lam, tolerance=1e-10)
    assert result.plan()[:, 0].tolist() == pytest.approx(GOLDEN[lam], abs=5e-5)
    assert result.plan().sum(0).tolist() == pytest.approx([3, 3], abs=1e-9)
    assert result.labels.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("lam", [1.0, 5.0, 20.0])
@pytest.mark.parametrize("uneven", [False, True])
def test_equals_pot(lam, uneven):
    log_p = random_log_p(60, 7, scale=1.0)
    share_K = torch.arange(1.0, 8.0, dtype=torch.float64) if uneven else torch.ones(7, dtype=torch.float64)
    share_K = share_K / share_K.sum()
    plan_NK = ot.bregman.sinkhorn_log(
        np.full(60, 1 / 60), share_K.numpy(), -log_p.numpy(), 1 / lam, numItermax=100_000, stopThr=1e-13
    )
    result = sinkhorn(log_p, lam, sizes=share_K if uneven else None, tolerance=1e-11)
    np.testing.assert_allclose(result.plan().numpy(), 60 * plan_NK, atol=1e-8)


def test_many_examples_in_as_many_clusters_is_the_assignment_problem():
    log_p = random_log_p(30, 30)
    _, best = linear_sum_assignment(-log_p.numpy())
    assert sinkhorn(log_p, 1000.0).labels.tolist() == best.tolist()


@pytest.mark.parametrize("scale", [0.05, 1.0, 3.0])
def test_the_papers_size_and_sharpness(scale):
    """N = 2,500, K = 100, lam = 250: clusters within 20 % of 25, where the multiplicative form underflows."""
    log_p = random_log_p(2500, 100, scale=scale).float()
    result = sinkhorn(log_p, 250.0)
    sizes = result.labels.bincount(minlength=100)
    assert 20 <= sizes.min() <= sizes.max() <= 30
    assert_solves(result, log_p, 25.0, 1e-6)


def multiplicative(p_NK: torch.Tensor, lam: float, iterations: int) -> torch.Tensor:
    """SeLa's form: scale p^lam itself."""
    kernel_NK = p_NK**lam
    alpha_K = torch.ones(p_NK.shape[1], dtype=p_NK.dtype)
    for _ in range(iterations):
        beta_N = 1 / (kernel_NK @ alpha_K)
        alpha_K = len(p_NK) / p_NK.shape[1] / (kernel_NK.T @ beta_N)
    return kernel_NK * alpha_K * beta_N[:, None]


def test_where_the_multiplicative_form_underflows_this_does_not():
    log_p = random_log_p(300, 100, scale=0.05)  # p is about 0.01, and 0.01^250 = 1e-500
    assert (log_p.exp() ** 250 == 0).all()
    assert multiplicative(log_p.exp(), 250.0, 10).isnan().all()
    assert_solves(sinkhorn(log_p, 250.0), log_p, 3.0, 1e-6)


def test_where_the_multiplicative_form_works_this_is_the_same():
    log_p = random_log_p(300, 20)
    plan_NK = multiplicative(log_p.exp(), 10.0, 3_000)
    torch.testing.assert_close(sinkhorn(log_p, 10.0, tolerance=1e-10).plan(), plan_NK, rtol=1e-5, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    lam=st.sampled_from([1.0, 7.0, 50.0, 250.0, 1000.0]),
    n=st.integers(1, 80),
    k=st.integers(1, 20),
    scale=st.sampled_from([0.0, 0.1, 3.0, 100.0]),
    seed=st.integers(0, 10_000),
)
def test_any_sharpness_and_shape_reaches_the_sizes(lam, n, k, scale, seed):
    log_p = random_log_p(max(n, k), k, seed, scale)
    assert_solves(sinkhorn(log_p, lam), log_p, max(n, k) / k, 1e-6)


@settings(max_examples=25, deadline=None)
@given(lam=st.sampled_from([1.0, 20.0, 250.0]), seed=st.integers(0, 10_000))
def test_permutations_and_constants_added_to_rows(lam, seed):
    log_p = random_log_p(40, 6, seed)
    draws = torch.Generator().manual_seed(seed)
    rows, columns = torch.randperm(40, generator=draws), torch.randperm(6, generator=draws)
    plan_NK = sinkhorn(log_p, lam, tolerance=1e-9).plan()
    permuted = sinkhorn(log_p[rows][:, columns], lam, tolerance=1e-9).plan()
    torch.testing.assert_close(permuted, plan_NK[rows][:, columns], rtol=0, atol=1e-6)
    shift_N1 = 100 * torch.randn(40, 1, generator=draws, dtype=torch.float64)
    torch.testing.assert_close(sinkhorn(log_p + shift_N1, lam, tolerance=1e-9).plan(), plan_NK, rtol=0, atol=1e-6)


@pytest.mark.parametrize("lam", [1.0, 250.0, 1000.0])
@pytest.mark.parametrize("n", [500, 510])
def test_many_small_clusters(lam, n):
    log_p = random_log_p(n, 500)
    assert_solves(sinkhorn(log_p, lam), log_p, n / 500, 1e-6)


def one_hot(n: int, k: int) -> torch.Tensor:
    return torch.nn.functional.one_hot((torch.linspace(0, 0.999, n) ** 2 * k).long(), k).double()


HOSTILE = {
    "constant": torch.zeros(50, 5),
    "one column": torch.zeros(50, 1),
    "one-hot logits": (1e4 * one_hot(50, 5)).log_softmax(1),
    "one-hot probabilities": one_hot(50, 5).log(),
    "all in one cluster": torch.tensor([0.0] + [-math.inf] * 4).expand(50, 5),
    "some impossible": random_log_p(50, 5).masked_fill(random_log_p(50, 5) < -3, -math.inf),
    "far below": torch.tensor([0.0, -1e5, -2e5, -3e5, -math.inf]).expand(50, 5),
    "logits of 1e4": random_log_p(50, 5, scale=1e4),
    "twins": random_log_p(5, 5).repeat(10, 1),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("lam", [1.0, 250.0, 1000.0])
def test_hostile_rows(name, lam):
    log_p = HOSTILE[name]
    result = sinkhorn(log_p, lam)
    assert result.converged
    plan_NK = result.plan()
    assert plan_NK.isfinite().all()
    assert result.log_plan().isfinite().all()
    torch.testing.assert_close(plan_NK.sum(0), result.sizes_K, rtol=2e-6, atol=0)
    torch.testing.assert_close(plan_NK.sum(1), torch.ones(50, dtype=torch.float64), rtol=1e-8, atol=0)


def test_every_setting_leads_to_the_same_plan():
    log_p = random_log_p(200, 10, scale=1.0)
    plan_NK = sinkhorn(log_p, 25.0, tolerance=1e-10).plan()
    for relaxation in (1.0, 1.5, 1.9):
        for newton_below in (0.0, 0.1, 100.0):
            other = sinkhorn(log_p, 25.0, tolerance=1e-9, relaxation=relaxation, newton_below=newton_below)
            torch.testing.assert_close(other.plan(), plan_NK, rtol=0, atol=1e-7)


def test_over_relaxation_needs_fewer_sweeps():
    log_p = random_log_p(500, 20)
    plain, relaxed = (sinkhorn(log_p, 100.0, relaxation=omega, newton_below=0, tolerance=1e-4) for omega in (1.0, 1.8))
    assert relaxed.iterations < plain.iterations / 2


@settings(max_examples=100, deadline=None)
@given(
    relaxation=st.floats(1.001, 1.999),
    target=st.floats(0.1, 10.0),
    log_ratio=st.floats(-20, 20),
)
def test_a_relaxed_step_never_raises_the_dual(relaxation, target, log_ratio):
    """Along one scale the dual is ratio * target * exp(step) - target * step: measured before and after."""
    problem = Solver(torch.zeros(2, 2, dtype=torch.float64), torch.ones(2, dtype=torch.float64), relaxation, 10, None)
    ratio = math.exp(log_ratio)
    step = math.log(float(problem.relaxed(torch.tensor(ratio, dtype=torch.float64))))
    before, after = ratio * target, ratio * target * math.exp(step) - target * step
    assert after <= before + 1e-9 * before
    if log_ratio:
        root = _least_ratio(relaxation)
        assert step == pytest.approx(-log_ratio if ratio < root else -relaxation * log_ratio)


def test_newton_minimises_the_dual():
    """At the solution no direction lowers the dual, computed here with scipy."""
    log_p = random_log_p(80, 6)
    scale_K = sinkhorn(log_p, 30.0, tolerance=1e-10).log_scale_K.numpy()

    def dual(a_K):
        return logsumexp(30.0 * log_p.numpy() + a_K, axis=1).sum() - 80 / 6 * a_K.sum()

    for direction_K in np.random.default_rng(0).normal(size=(20, 6)):
        assert dual(scale_K + 1e-3 * direction_K) >= dual(scale_K)


@pytest.mark.parametrize("lam", [25.0, 250.0])
def test_a_warm_start_saves_iterations_and_changes_nothing(lam):
    log_p = random_log_p(600, 30)
    later = (log_p + 0.02 * random_log_p(600, 30, seed=1)).log_softmax(1)
    before = sinkhorn(log_p, lam)
    cold, warm = (
        sinkhorn(later, lam, tolerance=1e-8),
        sinkhorn(later, lam, tolerance=1e-8, warm_start=before.log_scale_K),
    )
    assert warm.iterations < cold.iterations
    assert warm.labels.equal(cold.labels)
    torch.testing.assert_close(warm.plan(), cold.plan(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("lam", [25.0, 250.0])
def test_a_useless_warm_start_is_survived(lam):
    log_p = random_log_p(300, 30)
    wrong_K = 1e4 * torch.randn(30, generator=torch.Generator().manual_seed(0))
    assert sinkhorn(log_p, lam, warm_start=wrong_K).labels.equal(sinkhorn(log_p, lam).labels)


def test_uneven_sizes():
    log_p, sizes = random_log_p(100, 4), torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    result = sinkhorn(log_p, 50.0, sizes=sizes)
    assert result.sizes_K.tolist() == pytest.approx([10, 20, 30, 40])
    assert_solves(result, log_p, 10 * sizes, 1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_type_of_the_input_does_not_matter(dtype):
    log_p = random_log_p(100, 5).to(dtype)
    assert sinkhorn(log_p, 250.0).plan().equal(sinkhorn(log_p.double(), 250.0).plan())


def test_single_precision_inside():
    log_p = random_log_p(100, 5)
    result = sinkhorn(log_p, 25.0, dtype=torch.float32, tolerance=1e-4)
    assert result.plan().dtype == torch.float32
    torch.testing.assert_close(result.plan().double(), sinkhorn(log_p, 25.0).plan(), rtol=0, atol=1e-3)


def test_the_input_is_neither_changed_nor_differentiated():
    log_p = random_log_p(20, 3).requires_grad_()
    before = log_p.detach().clone()
    result = sinkhorn(log_p, 10.0)
    assert log_p.equal(before)
    assert not result.log_scale_K.requires_grad
    assert not result.plan().requires_grad


@pytest.mark.parametrize("newton_below", [0.0, 0.1])
def test_an_unmet_tolerance_is_never_silent(newton_below):
    with pytest.warns(SinkhornWarning, match=r"off by up to .* after \d+ passes") as caught:
        result = sinkhorn(random_log_p(300, 30), 250.0, max_iterations=12, newton_below=newton_below)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert not result.converged
    assert result.marginal_error == pytest.approx(float((result.plan().sum(0) / 10 - 1).abs().max()))
    assert result.marginal_error > 1e-6
    assert result.iterations <= 12 + 11  # the error is looked at every ten sweeps


def test_an_impossible_tolerance_ends_where_rounding_does():
    with pytest.warns(SinkhornWarning):
        result = sinkhorn(random_log_p(300, 30), 250.0, tolerance=1e-30)
    assert result.marginal_error < 1e-9
    assert result.iterations < 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"log_probabilities_NK": torch.zeros(3, 4)}, "3 examples cannot fill 4 clusters"),
        ({"log_probabilities_NK": torch.zeros(6)}, r"must be \(N, K\)"),
        ({"log_probabilities_NK": torch.tensor([[0.0, math.nan], [0, 0], [math.inf, 0]])}, "of 3 rows 2 hold NaN"),
        ({"log_probabilities_NK": torch.full((3, 2), -math.inf)}, "3 hold only -inf"),
        ({"lam": 0.0}, "lam"),
        ({"lam": math.nan}, "lam"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"max_iterations": 0}, "max_iterations"),
        ({"relaxation": 2.0}, "relaxation"),
        ({"newton_below": -1.0}, "newton_below"),
        ({"sizes": torch.tensor([1.0, 0.0])}, "sizes"),
        ({"sizes": torch.ones(3)}, "sizes"),
        ({"warm_start": torch.ones(3)}, "warm_start"),
        ({"warm_start": torch.tensor([0.0, math.nan])}, "warm_start"),
    ],
)
def test_errors_name_the_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        sinkhorn(**{"log_probabilities_NK": torch.zeros(6, 2), "lam": 1.0} | arguments)


def test_integers_are_refused():
    with pytest.raises(TypeError, match="floating point"):
        sinkhorn(torch.zeros(6, 2, dtype=torch.int64), 1.0)


def test_centred_rows():
    x_NK, top_N = centred(torch.tensor([[1.0, -math.inf, 0.5], [-1e6, 0.0, -math.inf]]), torch.float64)
    assert top_N.tolist() == [1.0, 0.0]
    tiny = math.log(torch.finfo(torch.float64).tiny)
    assert x_NK.tolist() == [[0.0, tiny, -0.5], [-1e6, 0.0, -1e6]]


def test_two_processes_equal_one(tmp_path: Path):
    processes.together(2, one_of_two, str(tmp_path))
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    single = sinkhorn(random_log_p(100, 8), 250.0)
    for name in SHARDS:
        assert first[name][0].equal(second[name][0])  # replicated, to the bit
        torch.testing.assert_close(torch.cat([first[name][1], second[name][1]]), single.plan(), rtol=0, atol=1e-5)
        assert torch.cat([first[name][2], second[name][2]]).equal(single.labels)
        assert first[name][3] == second[name][3]
    assert first["error"] == second["error"]
    assert "of 100 rows 1 hold NaN" in first["error"]


def test_quiet_when_all_is_well():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sinkhorn(random_log_p(50, 5), 250.0)
