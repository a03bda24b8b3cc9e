"""How far each training label is believed: by the other examples, and by its sub-task's look-alikes."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from safetensors.torch import load_file
from torch import Tensor

from tutelage import recipes
from tutelage.models import ModelSettings, load_committee
from tutelage.recipes import moderation
from tutelage.recipes.encoding import EncoderSettings
from tutelage.recipes.moderation import served
from tutelage.recipes.moderation.belief import Belief, _means, believe, credible
from tutelage.recipes.moderation.choice import Choice, choose
from tutelage.recipes.moderation.found import Found
from tutelage.recipes.moderation.served import held_out
from tutelage.subtasks import Selection
from tutelage.subtasks.doubt import DoubtSettings
from tutelage.training import Log, Stages


def test_the_mean_over_each_subtask_s_labels_and_0_where_there_are_none():
    means, size = _means(torch.tensor([0.9, 0.5, 0.8]), torch.tensor([0, 0, 2]), 3)
    assert means.tolist() == pytest.approx([0.7, 0.0, 0.8])
    assert size.tolist() == [2, 0, 1]


def clusters(per: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Defects that look like nothing else, and defects whose labels were drawn by lot among the acceptable: the sub-tasks."""
    centres = 4 * torch.eye(6)[:3]
    features = torch.cat(
        [
            centre + 0.5 * torch.randn(per * size, 6, generator=generator)
            for centre, size in zip(centres, (1, 5, 2), strict=True)
        ]
    )
    kind = torch.tensor([0] * per + [1] * 5 * per + [2] * 2 * per)
    labels = torch.ones(len(kind), dtype=torch.int64)
    labels[kind == 0] = 0
    labels[(kind == 1) & (torch.rand(len(kind), generator=generator) < 0.25)] = 0
    subtask = torch.where(labels == 0, kind, -1)
    return features, labels, subtask


@pytest.fixture
def judged(tmp_path: Path) -> tuple[Belief, Tensor, Tensor]:
    features, labels, subtask = clusters(100, torch.Generator().manual_seed(0))
    return judge(tmp_path, features, labels, [subtask]), labels, subtask


def judge(folder: Path, features: Tensor, labels: Tensor, subtasks: list[Tensor]) -> Belief:
    """Return what is believed of the labels of four fifths; the sub-tasks of the others are taken away."""
    split = torch.arange(len(labels)) % 5 < 4

    def rows(*splits: str) -> Tensor:
        assert splits == ("train",)
        return split.nonzero().squeeze(1)

    settings = SimpleNamespace(discovery=SimpleNamespace(subtasks=2), doubt=DoubtSettings(used=True), seed=0)
    pipeline: Any = SimpleNamespace(
        settings=settings,
        task=SimpleNamespace(images=range(len(labels)), labels=labels, weights=None),
        rows=rows,
        features=lambda wanted: features[wanted],
        feature_std=None,
        stages=Stages(folder, Log(folder / "log.jsonl", quiet=True)),
        discovery_stages=["discovery"],
    )
    pipeline.stages.run("discovery", lambda folder: {}, cache_key=[])
    for subtask in subtasks:
        subtask[~split] = -1
    found = [Found(each, (each >= 0).float(), torch.ones(2), torch.zeros(0, 2), {}) for each in subtasks]
    return believe(pipeline, found)


def test_labels_drawn_by_lot_are_not_believed_and_the_others_are(judged):
    belief, _, subtask = judged
    real, drawn = subtask == 0, subtask == 1
    assert belief.right[real].mean() > 0.9
    assert belief.right[drawn].mean() < 0.3
    assert belief.right[subtask < 0].min() > 0.3  # of acceptable and held-out labels no sub-task says anything
    assert belief.apart[0] > 0.99
    assert 0.3 < belief.apart[1] < 0.7
    assert belief.pure[:100].unique().tolist() == [1.0]
    assert belief.believed[0] == pytest.approx(float(belief.right[real].mean()), abs=0.01)
    assert belief.right[drawn].mean() < belief.believed[1] < 0.5
    acceptable = belief.regression.log_odds > 0  # what they are, by the labels that are believed
    assert acceptable[drawn].float().mean() > 0.9


def test_where_features_tell_no_subtask_no_label_loses_its_say(tmp_path):
    generator = torch.Generator().manual_seed(1)
    features, labels, subtask = clusters(100, generator)
    blurred = features + 8 * torch.randn(features.shape, generator=generator)
    belief = judge(tmp_path, blurred, labels, [subtask])
    assert (belief.apart < 0.75).all()
    assert (belief.pure == 1).all()
    assert not belief.unjudged(labels).any()


def test_what_is_believed_is_the_mean_over_the_discoveries(tmp_path, judged):
    one, labels, subtask = judged
    merged = torch.where(labels == 0, 0, -1)  # a discovery that divides nothing
    features, *_ = clusters(100, torch.Generator().manual_seed(0))
    other = judge(tmp_path / "other", features, labels, [merged.clone()])
    both = judge(tmp_path / "both", features, labels, [subtask.clone(), merged])
    assert not torch.allclose(one.right, other.right)
    lowered = [(each.right / each.posterior).sqrt() for each in (both, one, other)]
    assert torch.allclose(lowered[0], (lowered[1] + lowered[2]) / 2, atol=1e-2)
    assert torch.allclose(both.pure, (one.pure + other.pure) / 2, atol=1e-3)
    assert np.allclose(both.apart, one.apart, equal_nan=True, atol=1e-3)
    assert both.believed[0] == pytest.approx(float((both.posterior * lowered[0])[subtask == 0].mean()), abs=1e-3)


def test_held_out_labels_of_such_a_subtask_have_no_say_and_its_specialist_is_not_kept(judged):
    belief, labels, _ = judged
    silent = belief.unjudged(labels)
    assert not silent[labels == 1].any()
    assert silent[100:600].sum() > 0
    assert not silent[:100].any()
    figures = {name: np.full(2, 0.9) for name in Selection.__dataclass_fields__ if name not in ("kept", "reasons")}
    kept = credible(Selection(kept=np.array([True, True]), reasons=["npv 0.9", "npv 0.9"], **figures), belief)
    assert kept.kept.tolist() == [True, False]
    assert "of its labels are believed" in kept.reasons[1]


def test_a_run_that_judges_labels_ends_serves_and_says_the_same_again(tmp_path, monkeypatch):
    """It serves the mean of all candidates, so that the regression passes through the files, too."""

    def all_of_them(*rest: Any, **level: Any) -> Choice:
        made = choose(*rest, **level)
        return replace(made, chosen=max(made.candidates, key=len))

    monkeypatch.setattr(served, "choose", all_of_them)
    posters, encoder = tiny.manifest(tmp_path, (120, 180)), tiny.saved_encoder(tmp_path / "encoder")
    made = replace(
        tiny.settings(),
        encoder=EncoderSettings(pretrained=str(encoder), cache=tmp_path / "cache", views=1),
        student=ModelSettings("feature_student", options={"widths": [8]}),
        specialist=ModelSettings("feature_mlp"),
        doubt=DoubtSettings(used=True, discoveries=2),
    )
    scores = []
    for name in ("one", "two"):
        task = moderation.moderation_task(posters, made)
        run = recipes.run("moderation", task, made, tmp_path / name, quiet=True)
        assert (run.folder / "stages" / "doubt").is_dir()
        discoveries = [each.name for each in (run.folder / "stages").glob("discovery-*-again-*")]
        assert len(discoveries) == 1
        scores.append(pd.read_parquet(run.folder / "examples.parquet")["score"].to_numpy())
    assert np.array_equal(*scores)
    listed = pd.read_parquet(run.folder / "examples.parquet")
    for label, defects in ((0, -1), (1, 1)):  # suspicion follows the sum of what the model and the other images say
        both = sum(np.log(p / (1 - p)) for p in (listed["score"], listed["score_others"]))[listed["label"] == label]
        ordered = listed.loc[(defects * both).sort_values(kind="stable").index, "suspicion"]
        assert ordered.nunique() > 50
        assert np.allclose(ordered, ordered.cummin(), atol=1e-9)
    reasons = pd.read_csv(run.folder / "relabel.csv")["reason"]
    assert reasons.str.contains(r", the labels of similar images (?:too|say \w+) \(\d+%\)").all()
    table, problems = recipes.predict(run.folder, posters, tmp_path / "scores.parquet")
    assert problems.counts() == {}
    members = load_committee(run.folder / "model")[0].spec.members
    assert [spec.name for spec in members][:3] == ["feature_student", "feature_student", "feature_kernel"]
    assert table["score"].to_numpy() == pytest.approx(listed["score"].to_numpy(), abs=1e-5)
    assert "score_regression" in listed
    told = load_file(run.folder / "stages" / "belief" / "told.safetensors")["scores"]
    assert len(told.unique()) > 50


def test_labels_without_a_say_have_one_where_the_others_are_of_one_class():
    labels = torch.tensor([0, 0, 1, 1, -1])
    few = SimpleNamespace(rows=lambda *splits: torch.arange(5), task=SimpleNamespace(labels=labels))
    doubted = torch.tensor([True, False, False, True, False])
    assert held_out(few, doubted=doubted).tolist() == [1, 2]
    assert held_out(few, doubted=labels == 0).tolist() == [0, 1, 2, 3]
