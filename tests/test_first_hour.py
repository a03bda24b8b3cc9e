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
import yaml

from tutelage import cli
from tutelage.recipes import denoise, distill
from tutelage.training import Budget
from tutelage.training.stages import plain

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
                    assert (kind, program) == ("sh", "tutelage")
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
    names, said = hour("researcher.md")
    assert names["found"][names["issues"].ranked].mean() > 0.8
    assert len(names["issues"]) > 0.7 * names["found"].sum()
    assert names["right"] > 0.5
    assert "Sequential: " in said
    assert Path("runs/distilled/report.html").is_file()


def test_rules(hour):
    _, said = hour("rules.md")
    assert "rules that never voted: shouts" in said
    assert "macro F1: " in said
    assert all(Path(file).stat().st_size for file in opened("rules.md"))
    assert len(pd.read_csv("labelled.csv")) == 600


def test_every_page_is_gone_through_and_its_links_are_there():
    pages = sorted(path.name for path in PAGES.glob("*.md"))
    assert pages == ["moderation.md", "researcher.md", "rules.md"]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)", (PAGES / page).read_text()):
            assert (PAGES / target).exists(), target
