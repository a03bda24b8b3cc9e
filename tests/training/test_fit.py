"""`fit` against a loop written by hand, and everything that can be asked of it."""

import functools
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from torch import Tensor, nn

from tutelage.data import Indexed, TensorData
from tutelage.signals import CrossEntropy, Distillation, Objective, Signal
from tutelage.training import Budget, Hardware, Interrupted, Log, Optimization, Shuffled
from tutelage.training.example_weights import example_weights
from tutelage.weighting import MAOAL, Fixed, Uncertainty, Weighting


def tiny_fit(**changed: Any) -> Any:
    arguments: dict[str, Any] = {
        "model": runs.network(),
        "train": runs.points(),
        "signals": [CrossEntropy()],
        "budget": Budget(epochs=2),
        "optimization": Optimization(lr=0.01, batch_size=8),
    }
    return runs.planned(arguments | changed)


def test_it_is_the_loop_that_one_would_write() -> None:
    """Without dropout, and so without dice, bit for bit."""
    plain = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, runs.C))
    ours, data = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, runs.C)), runs.points()
    ours.load_state_dict(plain.state_dict())
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for epoch in range(3):
        for places in Shuffled(runs.N, 4)(epoch).split(8):
            loss = nn.functional.cross_entropy(plain(data.tensors["input"][places]), data.tensors["label"][places])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
            optimizer.step()
            losses.append((loss.item(), len(places)))
    optimization = Optimization(optimizer="sgd", lr=0.1, weight_decay=0.0, clip_norm=0.5, batch_size=8)
    fitted = tiny_fit(model=ours, optimization=optimization, budget=Budget(epochs=3), seed=4)
    runs.same(dict(ours.state_dict()), dict(plain.state_dict()))
    assert fitted.model is ours
    for epoch, entry in enumerate(fitted.history):
        mean = sum(loss * size for loss, size in losses[3 * epoch : 3 * epoch + 3]) / runs.N
        assert entry == {"step": 3 * epoch + 3, "epoch": epoch, "cross_entropy": pytest.approx(mean, rel=1e-6)}


class Projected(Signal):
    """The outputs follow a teacher's features, through a projection that is trained, too."""

    def __init__(self) -> None:
        super().__init__("projected")
        self.projection = nn.Linear(runs.C, 2)
        with torch.no_grad():
            self.projection.weight.copy_(torch.linspace(-1, 1, 6).view(2, 3))
            self.projection.bias.zero_()

    def forward(self, outputs: Any, batch: Any) -> Tensor:
        return (self.projection(self.own_output(outputs)) - batch["input"]).square().mean(1)


def test_parameters_of_a_signal_are_trained_with_the_model(tmp_path: Path) -> None:
    plain, ours, data, signal = nn.Linear(2, runs.C), nn.Linear(2, runs.C), runs.points(), Projected()
    plain.load_state_dict(ours.state_dict())
    by_hand = Projected()
    optimizer = torch.optim.SGD([*plain.parameters(), *by_hand.parameters()], lr=0.1, momentum=0.9)
    for epoch in range(3):
        for places in Shuffled(runs.N, 4)(epoch).split(8):
            batch = data.batch(places)
            optimizer.zero_grad()
            losses_B = CrossEntropy()(plain(batch["input"]), batch) + by_hand(plain(batch["input"]), batch)
            losses_B.mean().backward()
            nn.utils.clip_grad_norm_([*plain.parameters(), *by_hand.parameters()], 0.5)
            optimizer.step()
    optimization = Optimization(optimizer="sgd", lr=0.1, weight_decay=0.0, clip_norm=0.5, batch_size=8)
    arguments: dict[str, Any] = {"optimization": optimization, "seed": 4, "out": tmp_path}
    tiny_fit(model=ours, signals=[CrossEntropy(), signal], budget=Budget(epochs=2), **arguments)
    again = [CrossEntropy(), Projected()]  # goes on where the first one ended
    tiny_fit(model=ours, signals=again, budget=Budget(epochs=3), **arguments)
    torch.testing.assert_close(dict(ours.state_dict()), dict(plain.state_dict()), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(dict(again[1].state_dict()), dict(by_hand.state_dict()), rtol=1e-5, atol=1e-6)


def test_the_best_weights_are_kept_and_ties_go_to_the_earlier() -> None:
    values, states = iter([0.1, 0.7, 0.7, float("nan"), 0.2]), []
    model = runs.network()

    def select_by(outputs: Any, batch: Any) -> float:
        states.append({key: value.clone() for key, value in model.state_dict().items()})
        return next(values)

    fitted = tiny_fit(model=model, budget=Budget(epochs=5), val=runs.points(5), select_by=select_by)
    assert fitted.best == fitted.history[1]
    runs.same(dict(model.state_dict()), states[1])


@pytest.mark.parametrize("first", [float("nan"), -float("inf")])
def test_a_value_that_is_no_number_does_not_stay_the_best(first: float) -> None:
    values = iter([first, 0.3, 0.2])
    fitted = tiny_fit(budget=Budget(epochs=3), val=runs.points(5), select_by=lambda *_: next(values))
    assert fitted.best == fitted.history[1]


def test_nothing_is_selected_by_nan_alone() -> None:
    fitted = tiny_fit(val=runs.points(5), select_by=lambda *_: float("nan"))
    runs.same(dict(fitted.model.state_dict()), dict(tiny_fit().model.state_dict()))
    assert fitted.best is None


def test_selection_sees_eval_mode_and_changes_nothing() -> None:
    watched = tiny_fit(val=runs.points(5), select_by=runs.accuracy)
    assert [entry["cross_entropy"] for entry in watched.history] == [
        entry["cross_entropy"] for entry in tiny_fit().history
    ]


def test_until_ends_training_after_an_epoch() -> None:
    answers = iter([False, True])
    fitted = tiny_fit(budget=Budget(epochs=5), until=lambda: next(answers))
    assert (fitted.steps, len(fitted.history)) == (6, 2)


def test_a_sampler_may_visit_a_part_and_something_twice() -> None:
    visited: list[int] = []

    class Watching(CrossEntropy):
        def forward(self, outputs: Any, batch: Any) -> Tensor:
            visited.extend(batch["index"].tolist())
            return super().forward(outputs, batch)

    order = [[1, 2, 3, 1], [7, 8]]
    tiny_fit(signals=[Watching()], sampler=lambda epoch: torch.tensor(order[epoch]), budget=Budget(epochs=2))
    assert visited == [1, 2, 3, 1, 7, 8]


def test_a_weighting_looks_at_every_example_before_each_epoch() -> None:
    seen: list[tuple[int, list[int], bool]] = []

    class Looking(Weighting):
        def begin_epoch(self, epoch: int, objective: Any, batches: Any) -> None:
            looked = list(batches)
            index = torch.cat([batch["index"] for batch in looked])
            asis = torch.equal(torch.cat([batch["input"] for batch in looked]), runs.points().tensors["input"][index])
            seen.append((epoch, index.tolist(), asis))
            assert objective(looked[0]).shape == (runs.ADAMW.batch_size, 1)

    tiny_fit(weighting=Looking(), augment=runs.Jitter(), budget=Budget(epochs=2))
    assert seen == [(epoch, list(range(runs.N)), True) for epoch in range(2)]


def test_a_call_of_adapt_may_see_more_held_out_examples_than_a_batch_has() -> None:
    asked: list[int] = []

    class Asking(Weighting):
        def adapt(self, objective: Any, batch: Any, held_out: Any, optimizer: Any) -> None:
            asked.append(len(held_out["index"]))

    held_out = runs.points(17)
    for size, found in ((None, 8), (3, 3), (100, 17)):
        tiny_fit(weighting=Asking(), held_out=held_out, held_out_batch_size=size, adapt_every=1, budget=Budget(steps=1))
        assert asked.pop() == found


def test_held_out_data_is_gone_through_and_shuffled_anew() -> None:
    asked: list[tuple[int, list[int]]] = []

    class Asking(Weighting):
        steps = 0

        def backward(self, *arguments: Any) -> None:
            self.steps += 1
            super().backward(*arguments)

        def adapt(self, objective: Any, batch: Any, held_out: Any, optimizer: Any) -> None:
            asked.append((self.steps, held_out["index"].tolist()))

    tiny_fit(weighting=Asking(), held_out=runs.points(17), adapt_every=3, budget=Budget(steps=20))
    assert [step for step, _ in asked] == [3, 6, 9, 12, 15, 18]
    for one, two in zip(asked[0::2], asked[1::2], strict=True):  # two batches of 8 are a pass over 17
        assert len(set(one[1]) | set(two[1])) == 16
    assert asked[0][1] != asked[2][1]


def test_a_weighting_that_adapts_first_judges_each_batch_before_it_is_weighed() -> None:
    heard: list[tuple[str, list[int], int]] = []

    class First(Weighting):
        adapts_first = True

        def adapt(self, objective: Any, batch: Any, held_out: Any, optimizer: Any) -> None:
            heard.append(("adapt", batch["index"].tolist(), len(held_out["index"])))

        def backward(self, losses: Any, batch: Any, model: Any) -> None:
            heard.append(("backward", batch["index"].tolist(), len(losses)))
            super().backward(losses, batch, model)

    tiny_fit(weighting=First(), held_out=runs.points(4), budget=Budget(steps=3))
    assert [name for name, *_ in heard] == ["adapt", "backward"] * 3
    assert all(one[1] == two[1] and one[2] == 4 for one, two in zip(heard[0::2], heard[1::2], strict=True))
    with pytest.raises(ValueError, match="First learns from held-out examples; give held_out"):
        tiny_fit(weighting=First())


def test_what_a_weighting_learns_with_the_model_is_moved_with_it(tmp_path: Path) -> None:
    """Uncertainty's s_k, which the weighted loss alone would send to infinity, by the model's optimiser: by hand."""
    plain, s = nn.Linear(2, runs.C), nn.Parameter(torch.full((1,), -0.5))
    ours, weighting, data = nn.Linear(2, runs.C), Uncertainty(1), runs.points()
    ours.load_state_dict(plain.state_dict())
    optimizer = torch.optim.SGD([*plain.parameters(), s], lr=0.1)
    for places in Shuffled(runs.N, 0)(0).split(8):
        loss = nn.functional.cross_entropy(plain(data.tensors["input"][places]), data.tensors["label"][places])
        optimizer.zero_grad()
        (loss / (2 * s.exp()) + s / 2).sum().backward()
        optimizer.step()
    sgd = Optimization(optimizer="sgd", lr=0.1, momentum=0.0, weight_decay=0.0, batch_size=8)
    tiny_fit(model=ours, weighting=weighting, optimization=sgd, budget=Budget(epochs=1), out=tmp_path)
    torch.testing.assert_close(weighting.log_variance_K, s)
    torch.testing.assert_close(ours.weight, plain.weight)

    again = Uncertainty(1)
    tiny_fit(model=nn.Linear(2, runs.C), weighting=again, optimization=sgd, budget=Budget(epochs=1), out=tmp_path)
    assert torch.equal(again.log_variance_K, weighting.log_variance_K)


def test_examples_that_are_not_finite_are_counted(tmp_path: Path) -> None:
    data = runs.points()
    data.tensors["input"][[3, 5]] = torch.nan
    with pytest.warns(UserWarning, match="2 of the 22 examples seen up to step 3 were left out") as told:
        fitted = tiny_fit(train=data, out=tmp_path)
    assert len(told) == 1  # and not at each evaluation
    assert fitted.skipped == 4
    assert all(value.isfinite().all() for value in fitted.model.state_dict().values())
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["warning", "evaluation", "evaluation"]
    assert "2 of the 22 examples" in lines[0]["text"]


def test_few_examples_that_are_not_finite_are_no_warning() -> None:
    data = runs.points(150)
    data.tensors["input"][7] = torch.nan
    assert tiny_fit(train=data).skipped == 2


def no_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def test_every_line_of_the_log_is_json(tmp_path: Path) -> None:
    log = Log(tmp_path / "deep" / "log.jsonl", quiet=True, stage="student")
    values = iter([float("nan"), float("inf")])
    fitted = tiny_fit(log=log, name="deit", val=runs.points(4), select_by=lambda *_: next(values))
    log.within(part=1).event("odd", nested={"a": [1.0, float("-inf")]}, path=tmp_path, text="ü\n")
    lines = [
        json.loads(line, parse_constant=no_constant)
        for line in (tmp_path / "deep" / "log.jsonl").read_text().splitlines()
    ]
    assert [line["event"] for line in lines] == ["evaluation", "evaluation", "odd"]
    assert all(line["stage"] == "student" for line in lines)
    assert all(abs(line["time"] - lines[0]["time"]) < 60 for line in lines)
    for line, entry in zip(lines, fitted.history, strict=False):
        assert line["name"] == "deit"
        assert (line["step"], line["cross_entropy"], line["val"]) == (entry["step"], entry["cross_entropy"], None)
    assert lines[2]["nested"] == {"a": [1.0, None]}
    assert (lines[2]["part"], lines[2]["path"], lines[2]["text"]) == (1, str(tmp_path), "ü\n")


def test_trackers_hear_every_evaluation() -> None:
    recorder = runs.Recorder()
    fitted = tiny_fit(hardware=Hardware(trackers=(recorder,)))  # type: ignore[arg-type]
    assert recorder.logged == [(entry["step"], entry) for entry in fitted.history]


def test_bfloat16_trains_in_float32_weights_and_close_to_float32() -> None:
    model = runs.network()
    half = tiny_fit(model=model, hardware=Hardware(precision="bf16"))
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    for ours, full in zip(half.history, tiny_fit().history, strict=True):
        assert ours["cross_entropy"] != full["cross_entropy"]  # it was done otherwise
        assert ours["cross_entropy"] == pytest.approx(full["cross_entropy"], rel=0.02)


def test_compilation_changes_how_and_not_what(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the tracing backend: the code generator's own arithmetic is not ours to test."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    compiled = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, runs.C))
    eager = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, runs.C))
    eager.load_state_dict(compiled.state_dict())
    monkeypatch.setattr(torch._functorch.config, "donated_buffer", True)
    before = torch._functorch.config.donated_buffer
    fitted = tiny_fit(model=compiled, hardware=Hardware(compile=True), out=tmp_path)
    tiny_fit(model=eager)
    assert fitted.model is compiled
    assert torch._functorch.config.donated_buffer is before  # the process's other graphs are as they were
    assert compiled.state_dict().keys() == eager.state_dict().keys()  # and no _orig_mod in anything that is saved
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_a_compiled_model_takes_a_weighting_of_several_backward_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which PyTorch refuses where the first pass may reuse the forward pass's memory."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    ends = []
    for compiled in (True, False):
        torch.manual_seed(4)
        model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, runs.C))
        weighting = MAOAL(model, 2, partition="parameter")
        weighting.free.copy_(torch.linspace(0.5, 1.5, weighting.free.numel()).view_as(weighting.free))
        signals = [CrossEntropy(), CrossEntropy(name="smooth", smoothing=0.2)]
        hardware = Hardware(compile=compiled)
        tiny_fit(model=model, signals=signals, weighting=weighting, held_out=runs.points(6), hardware=hardware)
        ends.append(model.state_dict())
    for name, value in ends[1].items():
        torch.testing.assert_close(ends[0][name], value, rtol=1e-4, atol=1e-5)


def test_the_weights_at_the_end_leave_each_module_in_its_mode() -> None:
    model = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, runs.C)).train()
    model[1].eval()
    objective = Objective(model, [CrossEntropy()])
    before = [module.training for module in objective.modules()]
    assert example_weights(Fixed([1.0]), objective, runs.points(6), 6) is not None
    assert [module.training for module in objective.modules()] == before


def test_a_teacher_and_frozen_layers() -> None:
    teacher, student = runs.network(7), runs.network()
    taught = {name: value.clone() for name, value in teacher.state_dict().items()}
    student[0].requires_grad_(False)
    frozen = student[0].weight.clone()
    signals = [CrossEntropy(), Distillation(teacher, temperature=2.0)]
    fitted = tiny_fit(model=student, signals=signals, weighting=Fixed([0.1, 0.9]))
    assert torch.equal(student[0].weight, frozen)
    runs.same(dict(teacher.state_dict()), taught)  # its statistics too
    assert fitted.history[0].keys() == {"step", "epoch", "cross_entropy", "distillation"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train": TensorData(input=torch.zeros(0, 2))}, "probe: train is empty"),
        ({"val": runs.points(3)}, "val and select_by belong together"),
        ({"select_by": runs.accuracy}, "val and select_by belong together"),
        ({"val": TensorData(input=torch.zeros(0, 2)), "select_by": runs.accuracy}, "empty"),
        (
            {"sampler": lambda epoch: torch.zeros(0, dtype=torch.int64)},
            "probe: epoch 0 of the sampler visits no example",
        ),
        ({"sampler": lambda epoch: torch.arange(1 - epoch)}, "probe: epoch 1 of the sampler visits no example"),
        ({"train": torch.utils.data.TensorDataset(torch.zeros(3, 2), torch.zeros(3))}, "Indexed"),
        ({"train": Indexed(torch.utils.data.TensorDataset(torch.zeros(3, 2)))}, "give \\(input, label\\)"),
        ({"weighting": Fixed([1.0, 1.0])}, "2 weights for 1 signals"),
        ({"signals": []}, "signals is empty"),
    ],
)
def test_mistakes_are_named(changed: dict[str, Any], message: str) -> None:
    model = nn.Linear(2, runs.C)
    with pytest.raises(ValueError, match=message):
        tiny_fit(model=model, name="probe", **changed)


def test_an_interrupt_is_not_an_error_that_somebody_catches_by_chance() -> None:
    assert not issubclass(Interrupted, OSError | ValueError | RuntimeError)


def test_elsewhere_than_in_the_main_thread_signals_are_left_alone() -> None:
    import threading

    ends: list[Any] = []
    thread = threading.Thread(target=lambda: ends.append(tiny_fit()))
    thread.start()
    thread.join()
    assert ends[0].steps == 6


def test_the_bar_is_for_terminals_only(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(None)
    tiny_fit(log=log)
    assert capsys.readouterr().err == ""
    log.say("plain line")
    assert capsys.readouterr().err == "plain line\n"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    tiny_fit(log=log, name="deit")
    assert "deit" in capsys.readouterr().err


def test_few_examples_are_not_passed_over_without_end(capsys: pytest.CaptureFixture[str]) -> None:
    fitted = tiny_fit(budget=Budget(steps=40, most_epochs=3), log=Log(None), name="probe")
    assert fitted.steps == 9
    assert (
        "probe: 9 steps instead of 40, with 3 in a pass over the examples (budget.most_epochs=3)"
        in capsys.readouterr().err
    )
