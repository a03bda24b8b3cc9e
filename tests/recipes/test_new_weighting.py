"""CONTRIBUTING's walkthrough: a weighting that nobody knew is one file and one name, and every recipe takes it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import test_auxiliary
import test_distill
import tiny
import torch
from torch import Tensor

from tutelage import recipes
from tutelage.cli.parser import parser_for
from tutelage.recipes import auxiliary, denoise, distill, moderation
from tutelage.recipes.auxiliary.pipeline import Pipeline
from tutelage.reports.wording import Names
from tutelage.signals import Batch
from tutelage.training import Log
from tutelage.weighting import Weighting, registry


class Alternating(Weighting):
    """The first signal counts for examples of even index, the others for those of odd index.

    Args:
        num_signals: K.
        share: how far the other signals count.

    Raises:
        ValueError: a share that is not positive.
    """

    name: ClassVar[str] = "alternating"

    def __init__(self, num_signals: int, *, share: float = 1.0) -> None:
        super().__init__()
        if not share > 0:
            raise ValueError(f"share={share} must be positive")
        self.share = share

    def example_weights(self, losses_BK: Tensor, batch: Batch) -> Tensor:
        even_B1 = (batch["index"] % 2 == 0)[:, None].to(losses_BK)
        first_K = torch.eye(1, losses_BK.shape[1]).to(losses_BK)
        return even_B1 * first_K + self.share * (1 - even_B1) * (1 - first_K)


@pytest.fixture(autouse=True)
def _one_line_in_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.WEIGHTINGS, Alternating.name, Alternating)


CHOSEN: dict[str, Any] = {"weighting": "alternating", "weighting_options": {"share": 0.5}}


def test_distill_trains_by_it_and_says_how_far_each_loss_counted(tmp_path: Path) -> None:
    made = test_distill.pipeline(tmp_path, **CHOSEN)
    taught, plain = made.student("alternating"), made.student("equal")
    assert not torch.equal(taught.logits, plain.logits)
    assert taught.weights is not None
    rows = made.rows("train")
    even = rows % 2 == 0
    assert torch.equal(taught.weights[rows][even], torch.tensor([1.0, 0.0]).expand(int(even.sum()), 2))
    assert torch.equal(taught.weights[rows][~even], torch.tensor([0.0, 0.5]).expand(int((~even).sum()), 2))


def test_auxiliary_trains_by_it(tmp_path: Path) -> None:
    problem = test_auxiliary.squares((test_auxiliary.TaskSpec("even"), test_auxiliary.TaskSpec("turn", "rotation")))
    made = Pipeline(problem, test_auxiliary.settings(**CHOSEN), tmp_path, Log(None, quiet=True))
    found, plain = made.learned("alternating"), made.learned("equal")
    assert found.val != plain.val or (found.outcomes != plain.outcomes).any()


@dataclass(frozen=True)
class Job:
    """A recipe that weighs losses."""

    settings: Callable[..., Any]
    command: str


JOBS = {
    "auxiliary": Job(auxiliary.AuxiliarySettings, "auxiliary digits --out x"),
    "denoise": Job(denoise.DenoiseSettings, "denoise texts.csv --out x"),
    "distill": Job(distill.DistillSettings, "distill digits --out x"),
    "moderation": Job(moderation.ModerationSettings, "moderate ads.csv --out x"),
}


@pytest.mark.parametrize("name", JOBS)
def test_every_recipe_takes_it_by_its_name_with_its_options(name: str) -> None:
    job = JOBS[name]
    assert job.settings(**CHOSEN).weighting == "alternating"
    with pytest.raises(ValueError, match="weighting 'alternate' is unknown; did you mean 'alternating'"):
        job.settings(weighting="alternate")
    with pytest.raises(ValueError, match="has no option 'shares'; did you mean 'share'"):
        job.settings(weighting="alternating", weighting_options={"shares": 1})
    command, data, *words = job.command.split()
    told = [f"--{'manifest' if command == 'moderate' else 'data'}", data, *words]
    told += ["--weighting", "alternating", "--weighting_options.share", "0.5"]
    given = parser_for(command).parse_args(told)
    assert (given.weighting, dict(given.weighting_options)) == ("alternating", {"share": 0.5})


def test_a_wrong_value_is_told_before_anything_long_and_reports_know_the_title() -> None:
    with pytest.raises(ValueError, match="share=-1 must be positive"):
        moderation.ModerationSettings(weighting="alternating", weighting_options={"share": -1})
    assert Names()["alternating"] == "Alternating"


def test_moderation_trains_by_it(tmp_path: Path) -> None:
    done = recipes.run("moderation", tiny.task(), replace(tiny.settings(), **CHOSEN), tmp_path, quiet=True)
    assert done.metrics["weighting"]["name"] == "alternating"
