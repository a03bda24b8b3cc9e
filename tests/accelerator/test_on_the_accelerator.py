"""What trains, derives and answers on an accelerator says what it says on the CPU."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.faults.smallest import SMALLEST
from benchmarks.gpu.agreement import TOLERANCE, difference, on_the_cpu
from torch import Tensor, nn
from weighting_zoo import METHODS, Loop, build, drawn_anew, examples, network, objective_of

from tutelage.batches import to_device
from tutelage.data import TensorData
from tutelage.hypergradient import NeumannWarning, directional_derivatives
from tutelage.hypergradient.finite_difference import full_precision
from tutelage.models import ModelSpec, load_model, save_model
from tutelage.models import build as build_model
from tutelage.signals import BinaryCrossEntropy, CrossEntropy, Distillation, PixelCrossEntropy, Signal
from tutelage.subtasks import kmeans, sinkhorn
from tutelage.training import Budget, Fitted, Hardware, Optimization, Plan, checkpoint, fit, predict
from tutelage.weighting import Fixed

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings(f"ignore::{NeumannWarning.__module__}.NeumannWarning")]


@pytest.fixture(autouse=True)
def _exact():
    with full_precision():
        yield


def close(found: Any, expected: Any, tolerance: float = TOLERANCE) -> None:
    torch.testing.assert_close(found.cpu(), expected, rtol=tolerance, atol=tolerance)


# variants of one class take the same ways; what is drawn at random is drawn on the device
@pytest.mark.parametrize(
    "name", [name for name in METHODS if "," not in name and not drawn_anew(Loop(name), examples(8))]
)
def test_every_weighting_learns_what_it_learns_on_the_cpu(name: str, device: torch.device) -> None:
    ends = []
    for place in (torch.device("cpu"), device):
        loop = Loop(name, network(torch.float32).to(place))
        loop.weighting.to(place)
        batch, held_out = (to_device(examples(8, seed, torch.float32), place) for seed in (1, 2))
        for _ in range(3):
            loop.step(batch, held_out)
        ends.append((loop.model.state_dict(), loop.weighting.state_dict()))
    (model, learned), (model_there, learned_there) = ends
    for state, there in ((model, model_there), (learned, learned_there)):
        assert state.keys() == there.keys()
        for key, value in state.items():
            assert there[key].device.type in (device.type, "cpu"), key
            if key != "neumann.chosen":
                close(there[key], value)


@pytest.mark.parametrize(
    ("signal", "label", "wrong"),
    [
        (CrossEntropy(), [0, 2, -1, 1], 3),
        (BinaryCrossEntropy(), [0, 2, -1, 1], 3),
        (BinaryCrossEntropy(), [0.0, 2.0, torch.nan, 1.0], 0.5),
        (BinaryCrossEntropy(), [[0.0, 1, 1], [0, 0.5, -1], [1, 1, 1], [-1, -1, -1]], 1.5),
        (PixelCrossEntropy("label"), [[[0, 2]], [[-1, 1]], [[1, 1]], [[-1, -1]]], 255),
    ],
)
def test_what_the_cpu_refuses_is_left_out_there_and_counted(
    signal: Signal, label: list[Any], wrong: float, device: torch.device
) -> None:
    labels = torch.tensor(label)
    z = torch.randn(4, 3, *labels.shape[1:] if labels.dim() == 3 else (), generator=torch.Generator().manual_seed(0))
    close(signal(z.to(device), {"label": labels.to(device)}), signal(z, {"label": labels}))
    bad = labels.clone()
    bad[1] = wrong
    with pytest.raises(ValueError, match=r"signal .*label"):
        signal(z, {"label": bad})
    found = signal(z.to(device), {"label": bad.to(device)}).cpu()
    assert found.isnan().tolist() == [False, True, False, False]
    close(found[2:], signal(z, {"label": labels})[2:])


def test_fixed_weights_that_the_cpu_refuses_leave_an_example_out_there(device: torch.device) -> None:
    model, twin = network(torch.float32).to(device), network(torch.float32).to(device)
    batch = to_device(examples(4, 1, torch.float32), device)
    share = torch.tensor([1.0, torch.nan, -1.0, 0.5], device=device)
    weighting = Fixed(["share", 1.0]).to(device)
    weighting.backward(objective_of(model)(batch), {**batch, "share": share}, model)
    assert int(weighting.skipped) == 2
    good = torch.tensor([0, 3]).to(device)
    losses = objective_of(twin)(batch)
    (share[good] * losses[good, 0] + losses[good, 1]).mean().backward()
    for own, expected in zip(model.parameters(), twin.parameters(), strict=True):
        assert own.grad is not None
        assert expected.grad is not None
        close(own.grad, expected.grad.cpu())


@pytest.mark.parametrize("strategy", ["forward_mode", "finite_difference", "double_backward", "last_layer", "auto"])
def test_every_strategy_derives_there(strategy: Any, device: torch.device) -> None:
    objective = objective_of(network(torch.float32))
    batch = examples(8, 1, torch.float32)
    names = ["head.weight"] if strategy == "last_layer" else [name for name, _ in objective.model.named_parameters()]
    draw = torch.Generator().manual_seed(0)
    shapes = dict(objective.model.named_parameters())
    direction = {name: 0.1 * torch.randn(shapes[name].shape, generator=draw) for name in names}
    expected = directional_derivatives(objective, batch, direction, "double_backward").values
    there = objective_of(copy.deepcopy(objective.model).to(device))
    moved = {name: value.to(device) for name, value in direction.items()}
    found = directional_derivatives(there, to_device(batch, device), moved, strategy)
    assert found.values.device.type == device.type
    close(found.values, expected, 1e-2 if strategy == "finite_difference" else TOLERANCE)


class Net(nn.Module):
    """A network with statistics and, where asked, dropout."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout))
        self.head = nn.Linear(8, 3)

    def forward(self, input: Tensor) -> Tensor:
        return self.head(self.body(input))


def trained(name: str, out: Path | None = None, *, dropout: float = 0.0, epochs: int = 2, **hardware: Any) -> Fitted:
    torch.manual_seed(0)
    model = Net(dropout)
    data = {
        seed: TensorData(**{k: v for k, v in examples(24, seed, torch.float32).items() if k != "index"})
        for seed in (1, 2)
    }
    plan = Plan(
        Budget(epochs=epochs),
        Optimization(lr=0.01, batch_size=8, clip_norm=1.0),
        adapt_every=2,
        seed=3,
        out=out,
        val=data[2],
        select_by=lambda outputs, batch: -float(nn.functional.cross_entropy(outputs, batch["label"])),
        hardware=Hardware(**hardware),
    )
    weighting = build(name, model).float()
    signals = [CrossEntropy(), Distillation("teacher", temperature=2.0)]
    return fit(model, data[1], signals=signals, weighting=weighting, held_out=data[2], plan=plan)


@pytest.mark.parametrize("name", ["Equal", "AMAL", "MAOAL", "Joint", "MetaWeightNet", "CRUST"])
def test_a_training_ends_as_on_the_cpu(name: str, device: torch.device) -> None:
    there = trained(name)
    with on_the_cpu():
        here = trained(name)
    assert next(there.model.parameters()).device.type == device.type
    assert next(here.model.parameters()).device.type == "cpu"
    for key, value in here.model.state_dict().items():
        close(there.model.state_dict()[key], value)
    assert there.best["val"] == pytest.approx(here.best["val"], abs=TOLERANCE)


def test_a_training_in_half_precision_differs_little(device: torch.device) -> None:
    half, full = trained("AMAL", precision="bf16"), trained("AMAL")
    assert half.best["val"] == pytest.approx(full.best["val"], abs=0.1)
    assert all(p.dtype == torch.float32 for p in half.model.parameters())


def test_an_interrupted_training_goes_on_with_the_same_dropout(
    device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = trained("AMAL", dropout=0.5)
    monkeypatch.setattr(checkpoint, "due", lambda *_: True)
    save, calls = checkpoint.save, 0

    def dying(*arguments: Any) -> None:
        nonlocal calls
        save(*arguments)
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", dying)
        with pytest.raises(KeyboardInterrupt):
            trained("AMAL", tmp_path, dropout=0.5)
    resumed = trained("AMAL", tmp_path, dropout=0.5)
    for key, value in straight.model.state_dict().items():
        close(resumed.model.state_dict()[key], value.cpu(), 1e-5)


def test_a_model_comes_back_to_the_accelerator_and_answers_there(device: torch.device, tmp_path: Path) -> None:
    spec = ModelSpec("pocket_resnet", 3, 8, options={"widths": [4, 8], "stem_stride": 1})
    torch.manual_seed(0)
    model = build_model(spec).eval()
    save_model(model, tmp_path)
    images = TensorData(input=torch.randint(0, 256, (10, 3, 8, 8), dtype=torch.uint8))
    expected, _ = predict(model, images)
    there, _ = load_model(tmp_path)
    assert next(there.parameters()).device.type == device.type
    found, rest = predict(there, images, batch_size=4)
    assert found.device.type == rest["index"].device.type == "cpu"
    close(found, expected)


def test_clusters_and_assignments_are_those_of_the_cpu(device: torch.device) -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(60, 4, generator=draw)
    here, there = (sinkhorn(logits.to(place).log_softmax(1), 5.0) for place in ("cpu", device))
    assert there.plan().device.type == device.type
    close(there.plan().float(), here.plan().float())
    points = torch.cat([torch.randn(20, 3, generator=draw) + 4 * shift for shift in range(3)])
    assert torch.equal(kmeans(points.to(device), 3)[0].cpu(), kmeans(points, 3)[0])


@pytest.mark.parametrize("name", SMALLEST)
def test_the_smallest_run_of_each_recipe_says_what_it_says_on_the_cpu(
    name: str, device: torch.device, tmp_path
) -> None:
    assert difference(name, tmp_path) <= TOLERANCE
