"""MAOAL by module: the problems, the rows, and the pictures that stand alone."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from benchmarks.maoal import modules
from benchmarks.pictures import standalone
from benchmarks.reproduce import reproduce
from benchmarks.results_table import read_results

from tutelage.data.ratings import Ratings
from tutelage.recipes.auxiliary.settings import BodySettings, Shares
from tutelage.training import Budget
from tutelage.weighting.settings import AdaptSettings

pytestmark = pytest.mark.filterwarnings("ignore::tutelage.hypergradient.NeumannWarning")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn features and ratings, and trainings of a few steps."""
    rng = np.random.default_rng(0)
    facts = pd.DataFrame({"id": [f"image-{n}" for n in range(200)], "coarse": rng.integers(0, 3, 200)})
    facts["noisy_label"] = rng.integers(0, 5, 200)
    facts["split"] = np.where(np.arange(200) < 150, "unassigned", "test")
    features = torch.from_numpy(rng.normal(size=(200, 1, 4))).float()
    monkeypatch.setattr(modules, "described", lambda name, data, runs: (features, facts))

    def movielens(folder: Path, users: int, seed: int) -> Ratings:
        users_of = torch.arange(users).repeat_interleave(3 * modules.EACH)
        fields = torch.stack([torch.randint(0, 9, users_of.shape), torch.zeros_like(users_of), users_of], 1)
        return Ratings(fields, fields[:, 0].float() % 5, ("movie", "genre", "user"), (9, 1, users))

    monkeypatch.setattr(modules, "movielens", movielens)
    monkeypatch.setattr(modules, "USERS", 20)
    few = {"budget": Budget(epochs=2), "adapt": AdaptSettings(every=1)}
    images, ratings = modules.SETTINGS.values()
    body = BodySettings("feature_mlp", options={"widths": [5, 4]})
    images = replace(images, body=body, shares=Shares(), training=replace(images.training, batch_size=64), **few)
    narrow = BodySettings("autoint", options={"width": 4, "attention_heads": 2, "layers": 2})
    ratings = replace(ratings, shares=Shares(), body=narrow, **few)
    monkeypatch.setattr(modules, "SETTINGS", {modules.CLASSES: images, modules.RATINGS: ratings})


def test_each_user_keeps_as_many_ratings(small, tmp_path):
    problem = modules.ratings(tmp_path, modules.SETTINGS[modules.RATINGS])
    assert problem.examples.tensors["input"][:, 2].bincount().tolist() == [modules.EACH] * modules.USERS
    assert torch.equal(problem.labels["rating"], problem.examples.tensors["input"][:, 0].float() % 5)


def test_every_granularity_is_measured_and_every_module_stands_in_the_pictures(small, tmp_path):
    arguments: dict[str, Any] = {"seeds": 2, "data": tmp_path, "out": tmp_path / "out", "runs": tmp_path / "runs"}
    people, programs, *pictures = reproduce("modules", "laptop", **arguments)
    rows = read_results(programs)
    assert {row.row for row in rows if row.metric == f"{modules.CLASSES}: accuracy, %"} == set(modules.ROWS)
    assert {row.seeds for row in rows} == {2}
    begun = {row.row: row.ours for row in rows if row.metric == "importance of arbitrary, MAOAL: 0 %"}
    assert begun == {"layer 1": 1.0, "layer 2": 1.0}
    ended = {row.row for row in rows if row.metric == "importance of the L2 regulariser in the end: 128 units"}
    assert ended == {"embedding", "layer 1", "layer 2", "head"}
    assert [path.name for path in pictures] == [
        "modules-laptop-peoples-class-maoal.svg",
        "modules-laptop-arbitrary-maoal.svg",
        "modules-laptop-peoples-class-maoal-evidence.svg",
        "modules-laptop-arbitrary-maoal-evidence.svg",
        "modules-laptop-the-l2-regulariser-in-the-end.svg",
        "modules-laptop-l2-maoal.svg",
    ]
    shown = re.findall(r"!\[(.*)\]\((.*)\)", people.read_text())
    assert [file for _, file in shown] == [path.name for path in pictures]
    assert all("in the last column" in alt for alt, _ in shown)
    for path in pictures:
        assert re.match(r'<svg width="\d+" height="\d+" role="img"', path.read_text())
    with pytest.raises(ValueError, match="no such part"):
        reproduce("modules", "laptop", **arguments, only=["moon"])


def test_a_picture_without_a_size_is_refused():
    with pytest.raises(ValueError, match="has no viewBox"):
        standalone("<svg></svg>")
