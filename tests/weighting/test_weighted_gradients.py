"""From weights to gradients: the base of every weighting against autograd by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tutelage.hypergradient.passes import by_columns, by_rows, columns_are_cheaper, weighted_gradient
from tutelage.signals import CrossEntropy, Distillation, Objective
from tutelage.weighting import Equal, Fixed, ModuleWeights, Weighting

B, D, C, K = 6, 3, 4, 3
SIGNALS = (CrossEntropy(), CrossEntropy(smoothing=0.3, name="smoothed"), Distillation("teacher"))
MODULES = {"0.weight": 0, "0.bias": 0, "2.weight": 1, "2.bias": 1}  # the third layer is in no module


def network(dtype: torch.dtype = torch.float64) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(D, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, C)).to(dtype)


def batch(dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(1)
    return {
        "index": torch.arange(B),
        "input": torch.randn(B, D, dtype=dtype, generator=g),
        "label": torch.randint(0, C, (B,), generator=g),
        "teacher": torch.randn(B, C, dtype=dtype, generator=g),
    }


class Given(Weighting):
    """Any u and any a."""

    def __init__(
        self, u_BK: Tensor | None = None, a_KM: Tensor | None = None, modules: dict[str, int] = MODULES
    ) -> None:
        super().__init__()
        self.u_BK, self.a_KM, self.modules = u_BK, a_KM, modules

    def example_weights(self, losses_BK: Tensor, batch) -> Tensor | None:
        return None if self.u_BK is None else self.u_BK[batch["index"]]

    def module_weights(self, model: nn.Module) -> ModuleWeights | None:
        return None if self.a_KM is None else ModuleWeights(self.a_KM, self.modules)


def gradients(weighting: Weighting, model: nn.Module, of: dict[str, Tensor], signals=SIGNALS) -> dict[str, Tensor]:
    model.zero_grad()
    weighting.backward(Objective(model, signals)(of), of, model)
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


NEUTRAL = {
    "base": Weighting(),
    "equal": Equal(),
    "fixed": Fixed([1.0]),
    "modules": Given(None, torch.ones(1, 2)),
    "both": Given(torch.ones(B, 1), torch.ones(1, 2)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("weighting", NEUTRAL.values(), ids=NEUTRAL)
def test_neutral_weights_are_the_plain_loop_bit_for_bit(weighting: Weighting, dtype: torch.dtype) -> None:
    model, whole = network(dtype), batch(dtype)
    nn.functional.cross_entropy(model(whole["input"]), whole["label"]).backward()
    plain = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert_equal(gradients(weighting, model, whole, SIGNALS[:1]), plain)


SILENT = {
    "fixed": Fixed([1.0, 0.0]),
    "modules": Given(None, torch.tensor([[1.0, 1.0], [0.0, 0.0]]), MODULES | {"4.weight": 1, "4.bias": 1}),
}


@pytest.mark.parametrize("weighting", SILENT.values(), ids=SILENT)
def test_an_auxiliary_without_weight_is_as_if_it_were_not_there_bit_for_bit(weighting: Weighting) -> None:
    model, whole = network(), batch()
    alone = {name: g.clone() for name, g in gradients(Equal(), model, whole, SIGNALS[:1]).items()}
    assert_equal(gradients(weighting, model, whole, SIGNALS[:2]), alone)


def test_a_parameter_that_is_in_no_module_is_trained_by_every_signal() -> None:
    model, whole = network(), batch()
    plain = {name: g.clone() for name, g in gradients(Equal(), model, whole).items()}
    found = gradients(Given(None, torch.zeros(K, 2)), model, whole)
    assert found.keys() == {"4.weight", "4.bias"}
    for name, value in found.items():
        torch.testing.assert_close(value, plain[name], rtol=1e-13, atol=0)


def gradient_of_each_loss() -> list[list[dict[str, Tensor]]]:
    model = network()
    losses_BK, named = Objective(model, SIGNALS)(batch()), dict(model.named_parameters())
    return [
        [
            dict(zip(named, torch.autograd.grad(loss, list(named.values()), retain_graph=True), strict=True))
            for loss in losses_K
        ]
        for losses_K in losses_BK
    ]


GRADIENTS = gradient_of_each_loss()
weights = st.sampled_from([0.0, 1.0, -0.5, 2.0])


@given(
    u=st.lists(weights, min_size=B * K, max_size=B * K) | st.none(),
    a=st.lists(weights, min_size=K * 2, max_size=K * 2) | st.none(),
)
def test_any_weights_are_the_sum_that_the_interface_states(u: list[float] | None, a: list[float] | None) -> None:
    u_BK = None if u is None else torch.tensor(u, dtype=torch.float64).reshape(B, K)
    a_KM = None if a is None else torch.tensor(a, dtype=torch.float64).reshape(K, 2)
    model, whole = network(), batch()
    found = gradients(Given(u_BK, a_KM), model, whole)

    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for i in range(B):
        for k in range(K):
            share = 1.0 if u_BK is None else float(u_BK[i, k])
            for name, gradient in GRADIENTS[i][k].items():
                within = 1.0 if a_KM is None or name not in MODULES else float(a_KM[k, MODULES[name]])
                expected[name] += share * within * gradient / B
    for name, value in expected.items():
        torch.testing.assert_close(found.get(name, torch.zeros_like(value)), value, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("seed", range(3))
def test_by_rows_and_by_columns_are_two_ways_to_the_same_gradient(seed: int) -> None:
    model, whole = network(), batch()
    a_KM = torch.randn(K, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    a_KM[1, 0] = 0.0
    a = ModuleWeights(a_KM, MODULES)
    trained = dict(model.named_parameters())
    totals_K = Objective(model, SIGNALS)(whole).mean(0)
    found = [
        weighted_gradient(totals_K, way(a, list(trained)), trained, retain_graph=True) for way in (by_rows, by_columns)
    ]
    assert found[0].keys() == found[1].keys() == trained.keys()
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-12, atol=1e-15)


def test_many_losses_over_few_modules_are_taken_by_columns() -> None:
    assert columns_are_cheaper(rows=11, columns=5)
    assert columns_are_cheaper(rows=3, columns=8)
    assert not columns_are_cheaper(rows=2, columns=2)  # the second may be a loss of the parameters alone
    assert not columns_are_cheaper(rows=3, columns=60)


MODULEWISE = torch.tensor([[1.0, 1.0], [0.5, 0.0], [0.5, 0.0]], dtype=torch.float64)


@pytest.mark.parametrize("a_KM", [None, MODULEWISE], ids=["plain", "modules"])
def test_gradients_are_added_to_what_is_there(a_KM: Tensor | None) -> None:
    model, whole, weighting = network(), batch(), Given(None, a_KM)
    once = {name: g.clone() for name, g in gradients(weighting, model, whole).items()}
    weighting.backward(Objective(model, SIGNALS)(whole), whole, model)
    assert_equal(
        {name: p.grad for name, p in model.named_parameters() if p.grad is not None},
        {n: 2 * g for n, g in once.items()},
    )


@pytest.mark.parametrize("a_KM", [None, MODULEWISE], ids=["plain", "modules"])
def test_frozen_and_unused_parameters_are_left_alone(a_KM: Tensor | None) -> None:
    model, whole = network(), batch()
    expected = gradients(Given(None, a_KM), model, whole)
    part = network()
    part.get_parameter("0.weight").requires_grad_(False)
    part.register_parameter("idle", nn.Parameter(torch.zeros(2)))
    found = gradients(Given(None, a_KM), part, whole)
    assert found.keys() == expected.keys() - {"0.weight"}
    assert_equal(found, {name: expected[name] for name in found})


@pytest.mark.parametrize("a_KM", [None, MODULEWISE], ids=["plain", "modules"])
@given(bad=st.sets(st.integers(0, B - 1)))
def test_examples_that_are_not_finite_are_counted_and_have_no_weight(a_KM: Tensor | None, bad: set[int]) -> None:
    u_BK = torch.rand(B, K, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    model, whole, weighting = network(), batch(), Given(u_BK, a_KM)
    whole["input"][torch.tensor(sorted(bad), dtype=torch.int64)] = torch.nan
    found = {name: g.clone() for name, g in gradients(weighting, model, whole).items()}
    assert int(weighting.skipped) == len(bad)
    good = [i for i in range(B) if i not in bad]
    if not good:
        assert found == {}
        return
    rest = {key: value[good] for key, value in whole.items()}
    assert_equal(found, gradients(Given(u_BK, a_KM), model, rest))


def test_rows_that_are_not_finite_in_a_graph_of_ones_own_are_left_out_too() -> None:
    """Somebody's own losses, without an `Objective`."""
    w = nn.Parameter(torch.tensor(2.0))
    weighting = Equal()
    weighting.backward(
        torch.stack([w * 3, w * 5, w + torch.nan])[:, None], {"index": torch.arange(3)}, nn.ParameterList([w])
    )
    assert w.grad == 4.0
    assert int(weighting.skipped) == 1
    assert weighting.state_dict()["skipped"] == 1


def test_weights_of_a_batch_of_one() -> None:
    model, whole = network(), {key: value[:1] for key, value in batch().items()}
    nn.functional.cross_entropy(model(whole["input"]), whole["label"]).backward()
    plain = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert_equal(gradients(Fixed([1.0]), model, whole, SIGNALS[:1]), plain)


def test_fixed_weights_follow_the_losses_dtype() -> None:
    for dtype in (torch.float32, torch.float64):
        u_BK = Fixed([0.1, 0.9]).example_weights(torch.ones(5, 2, dtype=dtype), {})
        assert torch.equal(u_BK, torch.tensor([[0.1, 0.9]], dtype=dtype).expand(5, 2))


def test_weights_from_the_batch() -> None:
    weighting, trust = Fixed(["trust", 0.5]), torch.tensor([0.0, 0.25, 1.0])
    u_BK = weighting.example_weights(torch.ones(3, 2, dtype=torch.float64), {"trust": trust})
    assert u_BK.tolist() == [[0.0, 0.5], [0.25, 0.5], [1.0, 0.5]]
    with pytest.raises(ValueError, match=r"'Fixed' needs batch\['trust'\], but the batch holds \['label'\]"):
        weighting.example_weights(torch.ones(3, 2), {"label": trust})


@pytest.mark.parametrize("weights", [[], [1.0, float("nan")], [float("inf")], [[1.0, 2.0]]])
def test_fixed_weights_must_be_numbers(weights) -> None:
    with pytest.raises(ValueError, match="one finite number, or key of the batch, for each signal"):
        Fixed(weights)


def test_mistakes_are_named() -> None:
    model, whole = network(), batch()
    with pytest.raises(ValueError, match="Fixed has 2 weights for 3 signals"):
        gradients(Fixed([1.0, 2.0]), model, whole)
    with pytest.raises(ValueError, match=r"losses has shape \(\)"):
        Equal().backward(Objective(model, SIGNALS)(whole).mean(), whole, model)
