"""Two finished runs to look at: one from Python on posters, one from the command line on files, some of them hostile."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import tiny
import torch
from markupsafe import Markup
from matplotlib.figure import Figure

from tutelage import recipes
from tutelage.recipes.moderation import ModerationTask
from tutelage.reports import plots

sys.path.append(str(Path(__file__).parents[1] / "data"))  # hostile images


DRAWN: dict[str, Markup] = {}
_draw = plots.svg


def drawn_once(figure: Figure, name: str, alt: str) -> Markup:
    """Draw the first plot of each name, and give it for all later ones: to draw takes longer than most of these runs."""
    if name not in DRAWN:
        DRAWN[name] = _draw(figure, name, alt)
    return DRAWN[name]


@contextmanager
def in_a_hurry() -> Iterator[None]:
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # else the command line takes all cores
        tiny.hurry(patch.setattr)
        patch.setattr(plots, "svg", drawn_once)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True, scope="module")  # a session's would last beyond this folder
def _in_a_hurry() -> Iterator[None]:
    with in_a_hurry():
        yield


@pytest.fixture(scope="session")
def task() -> ModerationTask:
    return tiny.task()


@pytest.fixture(scope="session")
def moderated(task: ModerationTask, tmp_path_factory: pytest.TempPathFactory) -> recipes.Run:
    out = tmp_path_factory.mktemp("posters") / "run"
    with in_a_hurry():
        return recipes.run("moderation", task, tiny.settings(), out, quiet=True)
