"""What the README shows is run as it stands there."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def loop(block: str, sign: str) -> str:
    """The code of a diff after it (+) or before it (-)."""
    return "".join(line[1:] for line in block.splitlines(keepends=True) if line[:1] in (" ", sign))


@pytest.mark.parametrize("sign", ["+", "-"])
def test_the_script_of_the_readme_runs_as_it_is_pasted_with_and_without_the_diff(sign):
    diff, script = (re.search(rf"```{kind}\n(.*?)```", README, re.DOTALL).group(1) for kind in ("diff", "python"))
    assert script.count(loop(diff, "+")) == 1
    script = script.replace(loop(diff, "+"), loop(diff, sign))
    if sign == "-":
        script = script[: script.index("label_weight, teacher_weight")]
    names: dict[str, Any] = {}
    exec(script, names)
    judges, truth = names["images"][1300:], names["labels"][1300:]
    assert (names["model"](judges).argmax(1) == truth).float().mean() > 0.5
    if sign == "+":
        right, wrong = (names["label_weight"][rows].mean() for rows in (~names["wrong"], names["wrong"]))
        assert right > 1 > wrong


@pytest.mark.parametrize("page", ["docs/reliability.md", "SECURITY.md"])
def test_what_keeps_a_promise_exists(page):
    text = (ROOT / page).read_text()
    files = set(re.findall(r"`(tests/[\w/.]+)`", text))
    assert files
    for target in files:
        assert (ROOT / target).is_file(), target
    for target in re.findall(r"\]\((?!https:)([^)#]+)\)", text):
        assert (ROOT / page).parent.joinpath(target).exists(), target


def test_links_and_commands_of_the_readme_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
    commands = re.findall(r"(?<!from )tutelage (\w+)", README)
    from tutelage.cli import COMMANDS

    assert set(commands) <= {name.split()[0] for name in COMMANDS}  # of `audit draw` the first word


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "examples").glob("*.py"))])
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's own, and of few workers
def test_every_example_of_a_loop_runs(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert 0 <= module.main(steps=8) <= 1
