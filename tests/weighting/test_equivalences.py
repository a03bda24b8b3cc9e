"""Weightings that are switched off, and tables that do not mind in which order the examples come."""

import pytest
import torch
from torch import nn
from weighting_zoo import CLASSES, WIDTH, K, Loop, N, assert_close, assert_same, examples, network, objective_of, rows

from tutelage.data import TensorData
from tutelage.signals import CrossEntropy, Distillation, Objective, Scaled
from tutelage.training import Budget, Optimization, Plan, fit
from tutelage.weighting import AMAL, MAOAL, Equal, Fixed, Joint, MetaOptimizer, Partition, Weighting

EVERYTHING = examples()


def trained(weighting: Weighting, model: nn.Module, signals: int = K) -> dict[str, torch.Tensor]:
    objective = Objective(model, list(objective_of(model).signals)[:signals])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    for number in range(6):
        batch = rows(EVERYTHING, torch.randperm(N, generator=torch.Generator().manual_seed(number))[:8])
        weighting.backward(objective(batch), batch, model)
        optimizer.step()
        optimizer.zero_grad()
    return dict(model.named_parameters())


def test_an_importance_of_0_is_training_without_the_auxiliary_loss_bit_for_bit():
    model = network()
    off = MAOAL(model, K, partition=Partition.of(model, heads=[]), init=0.0)
    plain = network()
    assert_same(trained(off, model), trained(Equal(), plain, signals=1))


@pytest.mark.parametrize("level", ["block", "parameter", "model"])
def test_importances_of_1_are_the_plain_sum_bit_for_bit(level):
    model, plain = network(), network()
    assert_same(trained(MAOAL(model, K, partition=level), model), trained(Equal(), plain))


def test_weights_of_1_and_0_are_the_primary_loss_alone():
    model, plain = network(), network()
    off = AMAL(N, K, init=(1.0, 0.0), bounds=(0.0, 2.0))
    assert_same(trained(off, model), trained(Fixed([1.0]), plain, signals=1))


def test_joint_that_learned_nothing_is_the_plain_sum():
    model, plain = network(), network()
    assert_same(trained(Joint(model, N, K), model), trained(Equal(), plain))


@pytest.mark.parametrize("n", [1, 5])
def test_maoal_as_its_card_has_the_released_program_is_adam_on_alpha_of_which_relu_alpha_by_n_counts(n):
    model = network()
    given = {f"t{k}": torch.randn(N, CLASSES, generator=torch.Generator().manual_seed(k)).double() for k in range(n)}
    of = rows(EVERYTHING, range(8)), examples(6, seed=3)
    batch, held_out = ({**each, **rows(given, range(len(each["index"])))} for each in of)
    sides = [Distillation(key, name=key) for key in given]
    released = MetaOptimizer(lr=1e-2, weight_decay=5e-4, clip_norm=10)
    divided = MetaOptimizer(lr=1e-2 / n, weight_decay=5e-4 * n**2, clip_norm=10 * n)
    partition = Partition.of(model, heads=[])  # the two differ in the heads
    found = []
    for share, init, settings in ((1 / n, 1.0, released), (1.0, 1 / n, divided)):
        objective = Objective(model, [CrossEntropy(), *(Scaled(side, share) for side in sides)])
        optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
        arguments = {"constraint": "relu", "neumann_lr": 0.2, "init": init, "meta_optimizer": settings}
        weighting = MAOAL(model, 1 + n, partition=partition, **arguments)
        alpha = torch.ones_like(weighting.importance, requires_grad=True)
        adam = torch.optim.Adam([alpha], lr=1e-2, weight_decay=5e-4)
        for step in range(20):
            gradient = weighting.hypergradient(objective, batch, held_out, optimizer) * 3000 / (1 + step) ** 2
            (alpha.relu() / n).backward(gradient / share)
            torch.nn.utils.clip_grad_norm_([alpha], 10)
            adam.step()
            adam.zero_grad()
            weighting.update(gradient)
            assert_close({"": weighting.importance * share}, {"": (alpha.relu() / n).detach()}, rtol=1e-6, atol=1e-8)
        found.append(weighting.importance * share)
    assert_close({"": found[1]}, {"": found[0]}, rtol=1e-6, atol=1e-8)


def test_a_weight_follows_its_example_however_the_loader_shuffles():
    """One adaptation of each example from the same model, in any order, in batches of one."""
    loop = Loop("AMAL")
    held_out = examples(6, seed=4)
    tables = []
    for seed in range(2):
        loop.weighting = AMAL(N, K).double()
        for place in torch.randperm(N, generator=torch.Generator().manual_seed(seed)):
            loop.weighting.adapt(loop.objective, rows(EVERYTHING, [int(place)]), held_out, loop.optimizer)
        tables.append(loop.weighting.weights)
    assert torch.equal(*tables)
    assert (tables[0] != 1).any(1).all()


class PowerCut(Exception):
    pass


class Cut:
    """An augmentation that changes nothing, and ends after some batches."""

    def __init__(self, batches):
        self.batches = batches

    def config(self):
        return {"name": "cut"}  # whenever it ends

    def __call__(self, input):
        self.batches -= 1
        if self.batches < 0:
            raise PowerCut
        return input


@pytest.mark.filterwarnings("ignore::tutelage.hypergradient.NeumannWarning")
@pytest.mark.parametrize("name", ["AMAL", "MAOAL", "Joint", "MetaWeightNet"])
def test_fit_goes_on_where_it_was_stopped(name, tmp_path, monkeypatch):
    monkeypatch.setattr("tutelage.training.checkpoint.due", lambda *_: True)  # after each step
    points, held_out = (
        TensorData(**{k: v.float() if v.is_floating_point() else v for k, v in part.items() if k != "index"})
        for part in (EVERYTHING, examples(8, seed=5))
    )

    def run(out, batches: int = 99):
        loop = Loop(name, network(torch.float32))
        fit(
            loop.model,
            points,
            signals=objective_of(loop.model).signals,
            weighting=loop.weighting,
            held_out=held_out,
            plan=Plan(
                Budget(steps=7),
                Optimization(optimizer="sgd", lr=0.1, batch_size=8),
                augment=Cut(batches),
                adapt_every=2,
                out=out,
            ),
        )
        return {**loop.model.state_dict(), **loop.weighting.state_dict()}

    with pytest.raises(PowerCut):
        run(tmp_path, batches=5)
    assert_same(run(tmp_path), run(None))


def test_one_signal_is_enough_where_nothing_auxiliary_is_needed():
    model = nn.Linear(WIDTH, CLASSES).double()
    objective, batch = Objective(model, [CrossEntropy()]), rows(EVERYTHING, range(8))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    weighting = AMAL(N, 1).double()
    weighting.adapt(objective, batch, examples(6, seed=3), optimizer)
    weighting.backward(objective(batch), batch, model)
    assert (weighting.weights[:8] != 1).all()
