"""What the further tasks of the moderation table are made of, and the row whose weights are averaged."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from benchmarks.moderation import baselines, table, tasks
from torch import nn

from tutelage.data.table import ImageArray, ImageTable
from tutelage.models import load_model
from tutelage.recipes.moderation.pipeline import Pipeline
from tutelage.training import Log

CLASSES = ["apple", *tasks.DANGEROUS, "bottle"]


def pictures(count: int, **facts: object) -> ImageTable:
    pixels = torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageTable(ImageArray(pixels), pd.DataFrame({"id": [f"id-{k}" for k in range(count)], **facts}))


def test_people_s_labels_are_those_that_a_person_gave(monkeypatch):
    rng = np.random.default_rng(0)
    truth, people = rng.integers(12, size=500), rng.integers(12, size=500)
    split = np.where(np.arange(500) < 400, "unassigned", "test")
    whole = pictures(500, label=truth, noisy_label=np.where(split == "test", -1, people), split=split)
    monkeypatch.setattr(tasks, "read_cifar", lambda *given, **how: (whole, {"label": CLASSES}))
    monkeypatch.setattr(tasks, "PEOPLE_PARTS", {"train": 200, "validation": 100, "unlabelled": 50})
    task = tasks.people_task(Path("nowhere"), 3)
    facts = task.table.set_index("id")
    assert facts["split"].value_counts().to_dict() == {
        "train": 200, "test": 100, "unlabelled": 50, "student_val": 60, "teacher_val": 20, "teacher_test": 20}  # fmt: skip
    place = {f"id-{k}": k for k in range(500)}
    for id, row in facts.iterrows():
        at = place[str(id)]
        forbidden = CLASSES[truth[at]] in tasks.DANGEROUS
        assert row["true_label"] == 1 - forbidden
        assert row["true_subtask"] == (tasks.DANGEROUS.index(CLASSES[truth[at]]) if forbidden else -1)
        named = int(CLASSES[people[at]] not in tasks.DANGEROUS)
        assert row["label"] == {"test": row["true_label"], "unlabelled": -1}.get(row["split"], named)
    first = task.table["id"].iloc[0]
    assert torch.equal(task.images.images.gather([0]), whole.images.gather([place[first]]))
    again = tasks.people_task(Path("nowhere"), 4).table
    assert set(again["id"][again["split"] == "train"]) != set(facts.index[facts["split"] == "train"])


def test_every_seed_forbids_other_kinds_and_people_labelled_them(monkeypatch):
    truth, people = np.arange(400) % 10, (np.arange(400) + np.arange(400) // 100) % 10
    split = np.where(np.arange(400) < 300, "unassigned", "test")
    whole = pictures(400, label=truth, worse_label=people, split=split)
    names = {"label": [f"kind {k}" for k in range(10)]}
    monkeypatch.setattr(tasks, "read_cifar", lambda *given, **how: (whole, names))
    monkeypatch.setattr(tasks, "DRAWN_PARTS", {"train": 200, "validation": 50, "unlabelled": 50})
    policies = set()
    for seed in range(3):
        facts = tasks.drawn_task(Path("nowhere"), seed).table
        rows = facts["id"].str.removeprefix("id-").astype(int).to_numpy()
        policy = frozenset(truth[rows[facts["true_label"] == 0]].tolist())
        assert len(policy) == facts.loc[facts["true_label"] == 0, "true_subtask"].nunique() == 4
        learned = facts["split"].isin(["train", "teacher_val", "teacher_test", "student_val"]).to_numpy()
        assert facts["label"].to_numpy()[learned].tolist() == [int(k not in policy) for k in people[rows[learned]]]
        policies.add(policy)
    assert len(policies) > 1


def test_two_breeds_are_forbidden_and_a_copy_is_no_test(monkeypatch):
    found = pictures(60, label=np.arange(60) % 3, split="unassigned")
    pixels = found.images.gather(range(60))
    pixels[1:] = torch.where(
        (torch.arange(1, 60) % 20 == 0)[:, None, None, None], pixels[:1], pixels[1:]
    )  # three copies
    monkeypatch.setattr(tasks, "oxford_pets", lambda *given: ImageTable(ImageArray(pixels), found.table))
    monkeypatch.setattr(tasks, "DOGS_AND_CATS", {"train": 20, "validation": 10, "test": 30})
    left_out = 0
    for seed in range(4):
        task = tasks.pets_task(Path("nowhere"), seed)
        facts = task.table
        assert facts["true_subtask"].value_counts().to_dict() == {-1: 20, 0: 20, 1: 20}
        wrong = (facts["label"] != facts["true_label"]) & (facts["split"] == "train")
        assert wrong.sum() == 4  # a fifth
        copies = facts[facts["id"].isin(["id-0", "id-20", "id-40"])]
        if set(copies["split"]) & {"train", "teacher_val", "teacher_test", "student_val"}:
            assert "test" not in set(copies["split"])
            left_out += (copies["split"] == "left_out").sum()
    assert left_out > 0


def test_the_laptop_tasks_that_are_asked_for(tmp_path, monkeypatch):
    asked = []

    def made(name: str, data: Path, seed: int, size: int):
        asked.append((name, seed))
        return tiny.task()

    encoder = tmp_path / "encoder"
    listed = [
        tasks.TaskOf(each.name, partial(made, each.title), lambda data, runs: encoder, each.noise)
        for each in tasks.LAPTOP_TASKS
    ]
    monkeypatch.setattr(table, "LAPTOP_TASKS", listed)
    monkeypatch.setattr(table, "input_size", lambda settings: 24)
    given = partial(table._tasks, "laptop", table.rows_settings("laptop"), tmp_path, tmp_path, 300)
    assert [own.encoder.pretrained for _, own in given(set())] == [str(encoder)] * len(listed)
    assert len(asked) == len({name for name, _ in asked}) == len(tasks.LAPTOP_TASKS) == 11
    for wanted, names in (
        ({tasks.PEOPLE}, [tasks.PEOPLE]),
        ({tasks.OTHERS}, [f"{tasks.OTHERS}, uniform noise", f"{tasks.OTHERS}, structured noise"]),
        ({f"{tasks.ALL}, structured noise"}, [f"{tasks.ALL}, structured noise"]),
        ({"structured noise"}, [f"{name}, structured noise" for name in (tasks.PRODUCTS, tasks.OTHERS, tasks.ALL)]),
    ):
        asked.clear()
        assert len(list(given(wanted))) == len(names)
        assert [name for name, _ in asked] == names
    with pytest.raises(ValueError, match="this table is of real data"):
        list(table._tasks("laptop", table.rows_settings("laptop"), None, tmp_path, 300, set()))


def test_the_average_of_weights_by_hand():
    network = nn.Linear(1, 1, bias=False)
    average = nn.init.constant_(network.weight, 2.0).item()
    following = baselines.Following(network, 0.15)  # type: ignore[arg-type]
    ones, weights = torch.ones(1, 1), [4.0, 1.0, 7.0]
    for place, weight in enumerate(weights):
        nn.init.constant_(network.weight, weight)
        assert following.train()(ones).item() == weight
        decay = min(0.15, (1 + place) / (10 + place))  # 0.1, 0.15, 0.15
        average = decay * average + (1 - decay) * weight
        assert following.eval()(ones).item() == pytest.approx(average)
    assert network.weight.item() == 7.0
    following.settle()
    assert network.weight.item() == pytest.approx(average)


@pytest.mark.trains
def test_what_is_kept_is_the_average(tmp_path):
    run = Pipeline(tiny.task(), tiny.settings(), tmp_path, Log(None, quiet=True))
    scores = baselines.weights_averaged(run)
    model, _ = load_model(tmp_path / "stages" / "fine-tuned-average" / "model")
    with torch.no_grad():
        out = model(run.task.images.images.gather(range(5)))
    assert torch.allclose(((out["cls"] + out["dist"]) / 2).softmax(1)[:, 1], scores[:5].float(), atol=1e-6)
    plain = run.fine_tuned(run.settings.student).scores
    assert not torch.equal(scores, plain)
