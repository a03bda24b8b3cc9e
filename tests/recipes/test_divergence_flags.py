"""A training that diverged says which flag to change, as the command line has it."""

import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmarks.faults.smallest import SMALLEST

from tutelage import recipes
from tutelage.cli.parser import parser_for
from tutelage.training import Budget

COMMANDS = {"moderation": "moderate"}
SECTIONS = {name: ["training"] for name in SMALLEST} | {"moderation": ["discovery_training", "training"]}


@pytest.mark.parametrize(("name", "section"), [(name, each) for name, found in SECTIONS.items() for each in found])
def test_the_flag_exists_and_is_the_one_that_was_wrong(name: str, section: str, tmp_path: Path) -> None:
    task, settings = SMALLEST[name]()
    wild: dict[str, Any] = {section: replace(getattr(settings, section), optimizer="sgd", lr=1e38, clip_norm=None)}
    if name != "multilabel":
        wild["budget"] = Budget(steps=3)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            recipes.run(name, task, replace(settings, **wild), tmp_path / "run", quiet=True)
            said = ""
        except ValueError as error:
            said = str(error)
    text = next(text for text in (said, *(str(each.message) for each in warned)) if "learning rate" in text)
    told = re.findall(r"(\w+)\.(lr|clip_norm|warmup)", text)
    assert told == [(section, "lr"), (section, "clip_norm"), (section, "warmup")]
    flags = {option for action in parser_for(COMMANDS.get(name, name))._actions for option in action.option_strings}
    assert {f"--{'.'.join(pair)}" for pair in told} <= flags
