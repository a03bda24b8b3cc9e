"""The three first hours are gone through as they are written, with less data and smaller models."""

import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import weighting_zoo
import yaml

from tutelage import cli
from tutelage.hypergradient import directional_derivatives
from tutelage.recipes import denoise, distill
from tutelage.signals import Objective, Signal
from tutelage.training import Budget
from tutelage.training.stages import plain
from tutelage.weighting import WEIGHTINGS, ExampleTable

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "first-hour"
sys.path.append(str(ROOT / "tests" / "recipes"))
import tiny  # noqa: E402

SMALLER = {"train=(400, 1100)": "train=(60, 140)", "Budget(epochs=20)": "Budget(epochs=4)"}
SETTINGS: dict[str, Any] = {
    "moderate": tiny.settings(),
    "denoise": replace(denoise.pocket(), budget=Budget(steps=20)),
    "distill": replace(distill.pocket(), budget=Budget(steps=2)),
}
RESEARCHER = (PAGES / "researcher.md").read_text()
Hour = Callable[[str], tuple[dict[str, Any], str]]


@pytest.fixture
def hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Hour:
    """Goes through a page in an empty folder; returns the names that its Python leaves, and what was said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    tiny.hurry(monkeypatch.setattr)

    def command(words: list[str]) -> None:
        if (settings := SETTINGS.get(words[0])) is not None:
            Path("small.yaml").write_text(yaml.safe_dump(plain(asdict(settings))))
            words = [*words, "--config", "small.yaml"]
        cli.main(words)

    def run(page: str) -> tuple[dict[str, Any], str]:
        names: dict[str, Any] = {}
        text = (PAGES / page).read_text()
        for kind, code in re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL):
            for whole, part in SMALLER.items():
                code = code.replace(whole, part)
            if file := re.match(r"# file: (\S+)\n", code):
                Path(file[1]).write_text(code)
            elif kind == "python":
                exec(code, names)
            else:
                for line in code.splitlines():
                    program, *words = shlex.split(line)
                    assert (kind, Path(program).name) == ("sh", "tutelage")
                    command(words)
        said = capsys.readouterr()
        return names, said.out + said.err

    return run


def opened(page: str) -> list[str]:
    """The files that a page tells to open."""
    return re.findall(r"^\| `(runs/[^`]+)` \|", (PAGES / page).read_text(), re.MULTILINE)


def test_moderation(hour):
    names, said = hour("moderation.md")
    used, gap = map(int, re.search(r"ads: (\d+) images are used, (\d+) left out: gap \2\n", said).groups())
    assert used + gap == 200
    assert "warning: short gap: " in said
    assert all(Path(file).stat().st_size for file in opened("moderation.md"))
    examples = pd.read_csv("runs/ads/examples.csv")
    assert examples["impressions"].tolist() == list(range(1000, 1200))
    assert len(names["issues"].given) == used
    assert re.search(r"\d+ of \d+ drawn test images are checked, \d+ labels were wrong", said)
    assert Path("runs/ads/review/review.html").is_file()
    scores = pd.read_csv("scores.csv")
    assert scores["image"].tolist() == [f"{number}.png" for number in range(5)]
    assert ((scores["score"] > scores["threshold"]) == (scores["decision"] == "acceptable")).all()


def test_researcher(hour):
    names, _ = hour("researcher.md")
    assert names["found"][names["issues"].ranked].mean() > 0.8
    assert len(names["issues"]) > 0.7 * names["found"].sum()
    right, wrong = (names["label_weight"][rows].mean() for rows in (~names["wrong"], names["wrong"]))
    assert right > 1 > wrong
    assert names["right"] > 0.8
    assert Path("runs/distilled/report.html").is_file()
    batch = names["train"].batch(list(range(16)))
    logits = names["start"]()[0].model(batch["input"]).detach().requires_grad_()
    losses = names["OddOrEven"]("odd")(logits, batch)
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    absent = batch["odd"] < 0
    assert (losses[absent] == 0).all()
    assert (gradient[absent] == 0).all()
    assert (losses[~absent] > 0).all()
    assert (gradient[~absent] != 0).any(1).all()


@pytest.fixture
def own_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the researcher's page leaves when the loop has been gone through."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", RESEARCHER.partition("## Stop, and go on")[0], re.DOTALL):
        exec(block, names)
    return names


def test_a_loop_of_one_s_own_goes_on_in_the_same_bits(own_loop):
    names = own_loop
    saving, loading = re.findall(r"(torch\.save\(.*?\n)\n(objective, .*?)```", RESEARCHER, re.DOTALL)[0]

    def steps(numbers: range) -> dict[str, torch.Tensor]:
        for number in numbers:
            batch, held_out = (
                names["train"].batch(list(range(number, number + 32))),
                names["trusted"].batch([number, 7]),
            )
            names["weighting"].backward(names["objective"](batch), batch, names["objective"].model)
            names["optimizer"].step()
            names["optimizer"].zero_grad()
            names["weighting"].adapt(names["objective"], batch, held_out, names["optimizer"])
        return {**names["objective"].state_dict(), **names["weighting"].state_dict(), "": torch.rand(3)}

    names["objective"], names["weighting"], names["optimizer"] = names["start"]()
    steps(range(4))
    exec(saving, names)
    straight = steps(range(4, 8))
    exec(loading, names)
    resumed = steps(range(4, 8))
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[key]) for key, value in straight.items())


def test_a_target_of_the_model_s_own_is_a_constant(own_loop):
    sharpened = own_loop["Sharpened"]

    class WithoutGrad(Signal):
        def forward(self, outputs, batch):
            with torch.no_grad():
                target = (2 * outputs).softmax(1)
            return -(target * outputs.log_softmax(1)).sum(1)

    model = torch.nn.Linear(4, 3).double()
    batch = {"index": torch.arange(5), "input": torch.randn(5, 4, generator=torch.Generator().manual_seed(0)).double()}
    direction = {name: torch.ones_like(parameter) / (1 + len(name)) for name, parameter in model.named_parameters()}
    direction["weight"][0] = -2.0

    def found(signal: Signal, strategy: Any) -> torch.Tensor:
        return directional_derivatives(Objective(model, [signal]), batch, direction, strategy).values

    exact = found(sharpened("s"), "double_backward")
    for signal, strategy, right in (
        (sharpened("s"), "forward_mode", True),
        (sharpened("s"), "finite_difference", False),
        (WithoutGrad("w"), "forward_mode", True),
        (WithoutGrad("w"), "finite_difference", False),
    ):
        assert torch.allclose(found(signal, strategy), exact, rtol=1e-6) == right, (signal.name, strategy)
    for signal in (sharpened("s"), WithoutGrad("w")):
        assert torch.allclose(found(signal, "auto"), exact)


def test_the_page_sends_to_the_card_of_every_weighting_and_says_which_take_losses_without_an_objective():
    page = RESEARCHER
    cards = [(PAGES / target).read_text() for target in re.findall(r"\]\((\.\./methods/[\w-]+\.md)\)", page)]
    for weighting in WEIGHTINGS.values():
        assert any(f"{weighting.__name__}(" in card for card in cards), weighting
    sentence = re.search(r"These take losses directly: (.*?)\.", page, re.DOTALL)
    assert sentence is not None
    model = weighting_zoo.network(torch.float32)
    alone = {
        type(made).__name__
        for name in weighting_zoo.METHODS
        for made in [weighting_zoo.build(name, model)]
        if not made.learns and not any(isinstance(part, ExampleTable) for part in made.modules())
    }
    assert set(re.findall(r"`(\w+)`", sentence[1])) == alone
    for name in weighting_zoo.METHODS:
        if name.partition(",")[0] in alone and name != "MentorNet, learned":
            losses_BK = torch.nn.functional.softplus(model(weighting_zoo.examples(8, dtype=torch.float32)["input"]))[
                :, :2
            ]
            weighting_zoo.build(name, model).backward(losses_BK, {"index": torch.arange(8)}, model)


def test_rules(hour):
    _, said = hour("rules.md")
    assert "rules that never voted: shouts" in said
    assert "macro F1 of 18 test texts: " in said
    assert all(Path(file).stat().st_size for file in opened("rules.md"))
    assert len(pd.read_csv("labelled.csv")) == 600


def test_every_page_is_gone_through_and_its_links_are_there():
    pages = sorted(path.name for path in PAGES.glob("*.md"))
    assert pages == ["moderation.md", "researcher.md", "rules.md"]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)", (PAGES / page).read_text()):
            assert (PAGES / target).exists(), target
