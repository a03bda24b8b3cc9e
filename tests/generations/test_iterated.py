"""Iterated learning: who holds which weights at which step, what is said, and that an interruption changes nothing."""

import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from chains import Cut, PowerCut
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tutelage.configured import differences
from tutelage.data import TensorData
from tutelage.generations import Generations, Iterated, IteratedSettings, Schedule, iterate
from tutelage.models.heads import expect_one_label
from tutelage.signals import BinaryCrossEntropy, Objective, Signal
from tutelage.signals.pseudo_labels import PseudoLabels
from tutelage.training import Budget, Optimization, Plan, checkpoint, fit

N, C = 22, 3
SGD = Optimization(optimizer="sgd", lr=0.2, momentum=0.9, weight_decay=0.0, batch_size=8)


def network(seed: int = 2) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, C))


def trained(
    tiny_data: TensorData, settings: IteratedSettings, remember: tuple[int, int] | None = None, **planned: Any
) -> nn.Module:
    plan = Plan(Budget(steps=12), SGD, seed=5, **planned)
    return iterate(network(), tiny_data, settings, plan, remember=remember).fitted.model


# --- the schedule


@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 40))
def test_every_step_belongs_to_one_phase_and_the_last_one_is_a_students(interaction, imitation, more):
    steps = interaction + imitation + more
    schedule = Schedule(steps, interaction, imitation)
    phases = []
    for step in range(steps):
        generation = schedule.generation(step)
        assert schedule.start(generation) <= step < schedule.start(generation + 1)
        phases.append((generation, step >= schedule.turn(generation)))
    for generation in range(schedule.generations):
        first = steps % schedule.length if generation == 0 else 0
        assert phases.count((generation, False)) == interaction + first
        assert phases.count((generation, True)) == imitation
    assert phases == sorted(phases)
    assert phases[-1] == (schedule.generations - 1, True)


def test_a_budget_without_a_whole_generation_is_refused(tiny_data):
    with pytest.raises(ValueError, match="generations of 20 steps, and the budget has 12"):
        trained(tiny_data, IteratedSettings(10, 10))


# --- who holds which weights


class Watch(Signal):
    """Reads the model before and after the roles change: it stands on either side of `Iterated`."""

    def __init__(self, name: str, of: Iterated | None = None) -> None:
        super().__init__(name)
        self.of = [of]
        self.seen: list[tuple[list[Tensor], list[Tensor]]] = []

    def begin_step(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        copy = self.of[0].copy if self.of[0] is not None else model
        self.seen.append(
            ([p.detach().clone() for p in model.parameters()], [p.detach().clone() for p in copy.parameters()])
        )

    def forward(self, outputs: Any, batch: Any) -> Tensor:
        return torch.zeros(len(batch["index"]))


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def watched(tiny_data: TensorData, variant: str) -> tuple[list, list]:
    model = network()
    schedule = Schedule(10, 3, 2)
    signal = Iterated(model, BinaryCrossEntropy(), PseudoLabels("teacher_logits"), schedule, variant=variant)  # type: ignore[arg-type]
    before, after = Watch("before", signal), Watch("after", signal)
    fit(model, tiny_data, signals=[before, signal, after], plan=Plan(Budget(steps=10), SGD))
    return before.seen, after.seen


def test_printed_the_student_goes_on_from_the_student_before_it(tiny_data):
    before, after = watched(tiny_data, "printed")
    student = after[0][0]
    assert same(after[0][1], student)  # theta_T <- copy of theta_S
    assert same(after[2][1], student)  # and theta_S waits while the teacher learns
    assert not same(before[3][0], student)
    assert same(after[3][0], student)  # it goes on from its own weights,
    assert same(after[3][1], before[3][0])  # taught by what has learned
    assert same(after[4][1], before[3][0])  # and stays as it is
    assert same(after[5][0], before[5][0])  # the next teacher starts from this student
    assert same(after[5][1], before[5][0])
    assert same(after[8][0], before[5][0])


def test_released_the_student_goes_on_from_its_teacher(tiny_data):
    before, after = watched(tiny_data, "released")
    assert all(same(one[0], other[0]) for one, other in zip(before, after, strict=True))  # one model, never put back
    assert same(after[3][1], before[3][0])
    assert same(after[4][1], before[3][0])
    assert same(after[8][1], before[8][0])


def test_two_generations_by_hand(tiny_data):
    """Algorithm 1 written out for full batches, against `iterate`; the batch order does not matter to a full batch."""
    whole = tiny_data.batch(list(range(N)))
    plain = Optimization(optimizer="sgd", lr=0.1, momentum=0.0, weight_decay=0.0, batch_size=N)
    model = nn.Linear(2, C).double()
    data = TensorData(input=whole["input"].double(), label=whole["label"])
    whole = data.batch(list(range(N)))
    student = deepcopy(model)

    def descend(network: nn.Module, targets: Tensor) -> None:
        losses = nn.functional.binary_cross_entropy_with_logits(network(whole["input"]), targets, reduction="none")
        gradients = torch.autograd.grad(losses.sum(1).mean(), list(network.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter -= 0.1 * gradient

    for _ in range(2):
        teacher = deepcopy(student)
        for _ in range(3):
            descend(teacher, nn.functional.one_hot(whole["label"], C).double())
        for _ in range(2):
            descend(student, (teacher(whole["input"]).sigmoid() > 0.4).double())
    settings = IteratedSettings(3, 2, rho=0.4)
    found = iterate(model, data, settings, Plan(Budget(steps=10), plain)).fitted.model
    for mine, theirs in zip(found.parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


def test_a_teacher_that_says_nothing_but_the_given_label_is_plain_training(tiny_data):
    """rho near 1 with the union: the released variant is then the sigmoid baseline, bit for bit."""
    settings = IteratedSettings(3, 2, rho=1 - 1e-12, variant="released", union=True)
    found = trained(tiny_data, settings)
    sampler = Generations(Schedule(12, 3, 2), torch.arange(N), torch.arange(N), batch_size=8, seed=5)
    plain = network()
    fit(plain, tiny_data, signals=[BinaryCrossEntropy()], plan=Plan(Budget(steps=12), SGD, sampler=sampler, seed=5))
    assert same(list(found.parameters()), list(plain.parameters()))


def test_moments_are_kept_or_forgotten(tiny_data):
    kept = trained(tiny_data, IteratedSettings(3, 3))
    reset = trained(tiny_data, IteratedSettings(3, 3, optimizer_state="reset"))
    assert not same(list(kept.parameters()), list(reset.parameters()))
    optimizer = torch.optim.SGD(network().parameters(), lr=0.1, momentum=0.9)
    optimizer.state[next(iter(optimizer.param_groups[0]["params"]))] = {"momentum_buffer": torch.ones(1)}
    model = network()
    signal = Iterated(
        model, BinaryCrossEntropy(), PseudoLabels("teacher_logits"), Schedule(6, 3, 3), optimizer_state="reset"
    )
    for step, left in ((1, 1), (3, 0)):
        signal.begin_step(step, model, optimizer)
        assert len(optimizer.state) == left


# --- what is said


def say(logits: Tensor, **options: Any) -> Tensor:
    labels = torch.tensor([0, -1])
    return PseudoLabels("teacher", **options).labels({"teacher": logits, "label": labels, "index": torch.arange(2)})


def test_pseudo_labels_by_hand():
    logits = torch.tensor([[-2.0, 0.0, 2.0], [math.log(0.25 / 0.75), -3.0, 1.0]])
    assert say(logits, rho=0.25).tolist() == [[0, 1, 1], [0, 0, 1]]  # above the threshold, not at it
    assert say(logits, rho=0.6).tolist() == [[0, 0, 1], [0, 0, 1]]
    assert say(logits, rho=0.6, union=True).tolist() == [[1, 0, 1], [0, 0, 1]]  # nothing is given for the second
    logits[1, 0] = torch.nan
    assert say(logits).tolist() == [[0, 1, 1], [-1, -1, -1]]


def test_sampled_pseudo_labels_have_the_teachers_rates():
    logits = torch.tensor([[-1.0, 0.5]]).expand(20_000, 2)
    torch.manual_seed(0)
    signal = PseudoLabels("teacher", sample=2.0)
    found = signal.labels({"teacher": logits, "index": torch.arange(20_000)}).mean(0)
    torch.testing.assert_close(found, (logits[0] / 2).sigmoid(), atol=0.012, rtol=0)


def test_multi_label_targets_join_the_union():
    given_labels = torch.tensor([[1, 0, 1], [0, -1, 0]])
    signal = PseudoLabels("teacher", union=True)
    batch = {"teacher": torch.full((2, 3), -9.0), "label": given_labels, "index": torch.arange(2)}
    assert signal.labels(batch).tolist() == [[1, 0, 1], [0, 0, 0]]


def test_the_generation_in_which_a_label_was_first_said_is_remembered():
    signal = PseudoLabels("teacher", remember=(4, 2))
    logits, z = torch.tensor([[9.0, -9.0], [-9.0, -9.0]]), torch.zeros(2, 2)
    signal(z, {"teacher": logits, "index": torch.tensor([2, 0])})
    signal.generation = 2
    signal(z, {"teacher": torch.full((2, 2), 9.0), "index": torch.tensor([2, 1])})
    assert signal.first_said.tolist() == [[-1, -1], [2, 2], [1, 2], [-1, -1]]


def test_how_many_labels_each_generation_says_is_counted():
    signal = PseudoLabels("teacher", generations=2)
    z, logits = torch.zeros(2, 2), torch.tensor([[9.0, 9.0], [torch.nan, 0.0]])
    signal(z, {"teacher": logits, "index": torch.arange(2)})
    signal.generation = 2
    signal(z, {"teacher": logits.nan_to_num(-9.0), "index": torch.arange(2)})
    assert signal.tally_G2.tolist() == [[2, 1], [3, 2]]


def test_the_loss_is_binary_cross_entropy_with_what_was_said():
    logits, z = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    signal = PseudoLabels("teacher", rho=0.3)
    batch = {"teacher": logits, "index": torch.arange(2)}
    expected = BinaryCrossEntropy("said")(z, {"said": signal.labels(batch).double()})
    torch.testing.assert_close(signal(z, batch), expected)


# --- examples without a label


def test_unlabelled_examples_take_part_in_the_imitation_alone(tiny_data):
    labelled = torch.arange(0, N, 2)
    schedule = Schedule(9, 2, 2)
    order = Generations(schedule, labelled, torch.arange(N), batch_size=4, seed=1)
    epochs = [order(0).split(4), order(1).split(4)]
    assert [len(epoch) for epoch in epochs] == [5, 4]  # the odd step comes first
    interactions = torch.cat([*epochs[0][:3], *epochs[1][:2]])
    imitations = torch.cat([*epochs[0][3:], *epochs[1][2:]])
    assert (interactions % 2 == 0).all()
    assert (imitations % 2 == 1).any()
    assert torch.equal(interactions[:11].sort().values, labelled)  # a pass leaves nobody out
    assert len(imitations.unique()) == 16


def test_one_stream_for_all_where_all_are_labelled():
    order = Generations(Schedule(11, 2, 3), torch.arange(7), torch.arange(7), batch_size=4, every=2, seed=1)
    stream = torch.cat([order(0), order(1)])
    assert len(stream) == 44
    assert all(torch.equal(part.sort().values, torch.arange(7)) for part in stream[:42].split(7))


def test_each_process_has_its_own_streams_whose_phases_begin_together():
    """Three processes of 15, 7 and 8 places, of which 5, 1 and 8 have a label; batches of 4."""
    owner = torch.tensor([0] * 15 + [1] * 7 + [2] * 8)
    labelled = torch.cat([torch.arange(5), torch.tensor([20]), torch.arange(22, 30)])
    order = Generations(Schedule(9, 2, 2), labelled, torch.arange(30), batch_size=4, seed=1, owner=owner)
    assert sorted(torch.unique(owner[order(0)], return_counts=True)[1].tolist()) == [20] * 3
    for rank in range(3):
        places = torch.cat([order(epoch) for epoch in range(2)])
        steps = places[owner[places] == rank].split(4)
        assert len(steps) == 9
        own = labelled[owner[labelled] == rank]
        interactions = torch.cat([*steps[:3], *steps[5:7]])
        assert torch.equal(interactions.unique(), own)
        if rank < 2:
            assert torch.cat([*steps[3:5], *steps[7:]]).unique().numel() == min(16, int((owner == rank).sum()))
        else:  # all of its examples have labels: one stream for both phases
            passes = torch.cat(steps)[:32].split(8)
            assert all(torch.equal(each.sort().values, own) for each in passes)


def test_passes_of_ones_own():
    """Pass number p over three places repeats place p in the place of the next."""
    order = Generations(
        Schedule(3, 1, 1),
        torch.arange(3),
        torch.arange(3),
        batch_size=2,
        passing=lambda places, number: places[[number, number, (number + 2) % 3]],
    )
    assert order(0).tolist() == [0, 0, 2, 1, 1, 0]


def test_a_teacher_answers_in_eval_mode_whoever_calls_train():
    model = network()
    signal = Iterated(model, BinaryCrossEntropy(), PseudoLabels("teacher_logits"), Schedule(4, 1, 1))
    objective = Objective(model, [signal])
    objective.train()
    assert model.training
    assert not any(module.training for module in signal.copy.modules())


# --- languages


@pytest.mark.parametrize("language", ["sets", "hard", "soft"])
def test_every_language_learns_what_is_plain_to_see(language):
    input = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    data = TensorData(input=input, label=(input[:, 0] > 0).long())
    settings = IteratedSettings(20, 20, rho=0.5, language=language)
    model = nn.Linear(2, 2)
    iterate(model, data, settings, Plan(Budget(steps=120), SGD))
    found = model(input).argmax(1)
    assert (found == data.tensors["label"]).float().mean() > 0.95


def test_each_sigmoid_starts_at_one_label_in_all():
    model = network()
    expect_one_label(model, ["3"])
    assert torch.equal(model[3].bias, torch.full((C,), -math.log(C)))  # type: ignore[index]
    with pytest.raises(ValueError, match="'1' is no linear layer"):
        expect_one_label(model, ["1"])


# --- interruption


@pytest.mark.parametrize("variant", ["printed", "released"])
@pytest.mark.parametrize("step", [1, 4, 5, 7, 10], ids=lambda step: f"step-{step}")
def test_straight_through_equals_interrupted_and_resumed(tiny_data, tmp_path: Path, monkeypatch, variant, step):
    """Generations of 3 and 2 steps after 2 more: steps 5 and 10 begin an imitation, 7 a generation, the others lie within."""
    monkeypatch.setattr("tutelage.training.checkpoint.due", lambda *_: True)
    settings = IteratedSettings(3, 2, variant=variant)
    jitter = Cut(step + 1)

    def run(out: Path) -> Any:
        selection = {"val": tiny_data, "select_by": lambda outputs, batch: -float(outputs.square().mean())}
        return trained(tiny_data, settings, (N, C), out=out, augment=jitter, **selection)

    with pytest.raises(PowerCut):
        run(tmp_path / "cut")
    resumed = run(tmp_path / "cut")
    straight = run(tmp_path / "straight")
    assert same(list(resumed.parameters()), list(straight.parameters()))
    states = [checkpoint.load(tmp_path / name) for name in ("cut", "straight")]
    assert states[0] is not None
    assert states[1] is not None
    signals = [state["signals"][0] for state in states]
    assert signals[0].keys() == signals[1].keys()
    assert "0.imitated.first_said" in signals[0]
    assert all(torch.equal(value, signals[1][key]) for key, value in signals[0].items())


def test_evaluations_fall_on_students(tiny_data):
    history = iterate(
        network(),
        tiny_data,
        IteratedSettings(3, 2, evaluate_every=2),
        Plan(Budget(steps=24), SGD, val=tiny_data, select_by=lambda outputs, batch: 0.0),
    ).fitted.history
    assert [entry["step"] for entry in history] == [14, 24]


def test_a_users_own_loop(tiny_data):
    model = network()
    schedule = Schedule(8, 2, 2)
    signal = Iterated(model, BinaryCrossEntropy(), PseudoLabels("teacher_logits", rho=0.1), schedule)
    objective = Objective(model, [signal])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = tiny_data.batch(list(range(8)))
    for step in range(8):
        signal.begin_step(step, model, optimizer)
        objective(batch).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert signal.imitating


def test_a_deal_for_other_processes_is_another_by_that_name() -> None:
    schedule, everything = Schedule(steps=12, interaction=2, imitation=2), torch.arange(8)
    one, two = (
        Generations(schedule, everything, everything, batch_size=2, owner=owner).config()
        for owner in (None, everything % 2)
    )
    assert next(differences(one, two)) == ("processes", 1, 2)
    assert one == Generations(schedule, everything, everything, batch_size=2).config()
