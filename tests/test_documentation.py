"""What the README shows is run as it stands there."""

import importlib.util
import itertools
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import tutelage
from tutelage.data import TensorData

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def loop(block: str, sign: str) -> str:
    """The code of a diff after it (+) or before it (-)."""
    return "\n".join(line[1:] for line in block.splitlines() if line[:1] in (" ", sign))


@pytest.mark.parametrize("sign", ["+", "-"])
def test_the_loop_of_the_readme_trains_before_and_after_the_diff(sign):
    block = re.search(r"```diff\n(.*?)```", README, re.DOTALL)
    assert block is not None
    torch.manual_seed(0)
    train = TensorData(input=torch.randn(48, 4), label=torch.randint(0, 3, (48,)))
    batches = [train.batch(list(range(i, i + 8))) for i in range(0, 48, 8)]
    model, teacher = nn.Linear(4, 3), nn.Linear(4, 3)
    before = model.weight.detach().clone()
    names = {
        **{name: getattr(tutelage, name) for name in tutelage.__all__},
        "model": model,
        "teacher": teacher,
        "train": train,
        "loader": batches,
        "held_out": itertools.cycle(batches),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        "F": nn.functional,
    }
    exec(loop(block.group(1), sign), names)
    assert not torch.equal(model.weight, before)
    assert all(parameter.grad is None for parameter in model.parameters())
    if sign == "+":
        assert names["weighting"].weights.shape == (48, 2)
        assert (names["weighting"].weights[:8] != names["weighting"].weights[8:16]).any()


def test_links_and_commands_of_the_readme_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
    commands = re.findall(r"(?:\.venv/bin/)?tutelage (\w+)", README)
    from tutelage.cli import COMMANDS

    assert set(commands) <= set(COMMANDS)


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "examples").glob("*.py"))])
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's own, and of few workers
def test_every_example_of_a_loop_runs(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert 0 <= module.main(steps=8) <= 1
