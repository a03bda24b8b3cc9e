"""Rules and few labels from end to end: from the command line, interrupted, scored anew; AMAL's derivatives through both."""

import itertools
import json
import os
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from tutelage import cli, recipes
from tutelage.data import TensorData, Votes
from tutelage.data.text_table import TextColumns
from tutelage.data.votes import unipolar
from tutelage.hypergradient import look_ahead_gradient
from tutelage.metrics import confusion_interval
from tutelage.models import RuleModel, RuleModelSpec
from tutelage.recipes.denoise import (
    METHODS,
    DenoiseSettings,
    RuleTask,
    evaluation,
    pocket,
    text_task,
)
from tutelage.recipes.denoise.candidates import ALONE, METHOD, VOTES, WEIGHTED, chosen, settings_of, sign_test
from tutelage.recipes.denoise.lesson import evened, lesson_of, spear_terms
from tutelage.recipes.denoise.methods import Refit, divided_val, prevalence, train
from tutelage.recipes.denoise.settings import LOSSES
from tutelage.recipes.denoise.tables import rules_table
from tutelage.signals import Objective
from tutelage.training import Budget, Interrupted, Optimization, predict

RULES = """
from tutelage.data import ABSTAIN, rule

@rule
def begs(x):
    return "spam" if "subscribe" in x.text else ABSTAIN

@rule
def praises(x):
    return "ham" if "love" in x.text else ABSTAIN

@rule
def both(x):
    return ABSTAIN if "song" not in x.text else "ham" if len(x.text) % 2 else "spam"

@rule
def breaks(x):
    return "spam" if 1 / x.text.count(" ") > 0.4 else ABSTAIN
"""
WORDS = {"spam": ["subscribe", "channel", "click", "free"], "ham": ["love", "voice", "singer", "great"]}


@pytest.fixture(scope="module", autouse=True)
def _in_a_hurry():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setattr(evaluation, "confusion_interval", partial(confusion_interval, resamples=20))
        patch.setattr("tutelage.training.checkpoint.due", lambda *_: True)
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 160 comments, 60 of them labelled, and a file of rules."""
    folder = tmp_path_factory.mktemp("comments")
    draw = np.random.default_rng(0)
    rows = []
    for number in range(160):
        label = ("ham", "spam")[number % 2]
        text = " ".join(draw.choice([*WORDS[label], "song", "this", "the"], size=draw.integers(3, 6)))
        while any(row["text"] == text for row in rows):  # no two are equal
            text += " the"
        rows.append(
            {"id": f"c{number}", "text": "alone" if number == 9 else text, "label": label if number < 60 else ""}
        )
    pd.DataFrame(rows).to_csv(folder / "comments.csv", index=False)
    (folder / "rules.py").write_text(RULES)
    return folder


def settings(**changes) -> DenoiseSettings:
    tiny = replace(
        pocket(),
        weighting="amal",
        budget=Budget(steps=8),
        training=Optimization(lr=0.05, weight_decay=0.0, batch_size=16),
        suggest=5,
    )
    return replace(tiny, **changes)


@pytest.fixture(scope="module")
def task(files: Path) -> RuleTask:
    return text_task(files / "comments.csv", settings(), rules=files / "rules.py", quiet=True)


@pytest.fixture(scope="module")
def denoised(task: RuleTask, tmp_path_factory: pytest.TempPathFactory) -> recipes.Run:
    return recipes.run("denoise", task, settings(), tmp_path_factory.mktemp("run"), quiet=True)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*words: object) -> tuple[int, str, str]:
        try:
            cli.main([str(word) for word in words])
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        found = capsys.readouterr()
        return code, found.out, found.err

    return run


def test_the_task(task):
    assert task.classes == ["ham", "spam"]
    assert task.failures == {"breaks": 1}
    assert [tuple(problem)[:2] for problem in task.problems] == [("c9", "rule_failed")]
    counts = task.table[task.table["label"] >= 0].groupby(["split", "label"]).size()
    assert counts.to_dict() == {
        ("test", 0): 9,
        ("test", 1): 9,
        ("train", 0): 12,
        ("train", 1): 12,
        ("val", 0): 9,
        ("val", 1): 9,
    }
    labelled, unlabelled, val = task.parts()
    assert (len(labelled), len(val)) == (24, 18)
    assert task.votes.covered[unlabelled.numpy()].all()
    columns = unipolar(task.votes)
    names = [task.votes.names[rule] for rule in columns.rule]
    assert names == ["begs", "praises", "both", "both", "breaks"]
    assert columns.rule_class.tolist() == [1, 0, 0, 1, 1]
    assert (columns.fired.sum(1) == (task.votes.values >= 0).sum(1)).all()


def test_what_a_run_leaves_behind(task, denoised):
    run = denoised.folder
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["pipeline"] == {
        "recipe": "denoise",
        "title": "comments",
        "seed": 0,
        "method": "spear",
        "weighting": "amal",
    }
    assert set(metrics["test"]) == {
        "model",
        "method",
        "votes",
        "weighted_votes",
        "all_labels",
        "majority",
        "label_model",
    }
    assert metrics["labels_used"] == dict.fromkeys(metrics["test"], 42) | {"majority": 0}
    assert metrics["tested_on"] == 18
    scores = {name: each["macro_f1"]["value"] for name, each in metrics["test"].items()}
    assert scores[metrics["best"]] == max(scores.values())
    assert metrics["data"]["rules"] == 4
    assert metrics["data"]["silent_rules"] == []
    for figures in metrics["test"].values():
        assert 0 <= figures["macro_f1"]["low"] <= figures["macro_f1"]["high"] <= 1
    examples = pd.read_parquet(run / "examples.parquet")
    assert len(examples) == 160
    assert examples["probability"].between(0.5, 1).all()
    test = examples[(examples["split"] == "test") & (examples["label"] != "")]
    accuracy = (test["predicted"] == test["label"]).mean()
    assert metrics["test"]["model"]["accuracy"]["value"] == pytest.approx(accuracy)
    for name, gain in metrics["difference"].items():
        theirs = metrics["test"][name]["accuracy"]["value"]
        assert gain["accuracy"]["value"] == pytest.approx(accuracy - theirs), name
    rules = pd.read_parquet(run / "rules.parquet").set_index("rule")
    assert rules.loc["both", "classes"] == "ham, spam"
    assert rules["failures"].to_dict() == {"begs": 0, "praises": 0, "both": 0, "breaks": 1}
    trust = pd.read_parquet(run / "trust.parquet")
    assert len(trust) == (task.votes.values >= 0).sum()
    spam = trust[trust["vote"] == "spam"].merge(examples, on="id")
    stages = {
        "method": "spear-amal-refit",
        "votes": "weak-labels-equal-refit",
        "weighted_votes": "weighted-votes-equal-refit",
        "all_labels": "only-labels-equal-refit",
    }
    members = [RuleModel.load(run / "stages" / stages[name])[0] for name in metrics["choice"]["members"]]
    told = [predict(member, task.data(unipolar(task.votes)))[0]["classifier"].softmax(1)[:, 1] for member in members]
    own = dict(zip(task.table["id"], torch.stack(told).mean(0).tolist(), strict=True))
    np.testing.assert_allclose(spam["trust"], spam["id"].map(own), rtol=1e-5)
    weights = pd.read_parquet(run / "weights.parquet")
    assert weights.columns.tolist() == [
        *("index", "id", "label", "entropy", "follow_label_model", "label_model_labels", "label_model_evidence"),
        *("agreement", "quality_guides", "visits"),
    ]
    assert (weights["quality_guides"] == 1).all()  # of no example, so its weight is not learned
    for term in ("label", "entropy", "label_model_labels", "label_model_evidence", "agreement"):
        assert (weights[term] != 1).any(), term
    listed = pd.read_csv(run / "relabel.csv", keep_default_na=False)
    doubted = examples[examples["doubted"]].sort_values("suspicion", ascending=False, kind="stable")
    assert listed["id"].astype(str).tolist() == doubted["id"].astype(str).tolist()
    assert (listed["label"] != listed["suspected"]).all()
    following = pd.read_csv(run / "label_next.csv")
    assert len(following) == 5
    labelled = set(examples[examples["label"] != ""]["id"])
    assert not set(following["id"]) & labelled
    assert (run / "problems.csv").read_text().count("\n") == 2
    assert not list(run.rglob("*.pkl"))


def test_the_refit_has_the_validation_labels_and_the_weights_that_were_learned(task):
    """Without rules and with every label known, it is a training of as many steps on training and validation labels."""
    own = settings(method="only_labels", weighting="equal")
    first = train(task, own)
    refit = train(task, own, refit=Refit(first.steps, Path()))
    table = task.table.assign(split=task.table["split"].mask(task.table["split"] == "val", "train"))
    few, _, val = task.parts()
    order = torch.cat([few, val])
    assert lesson_of(task, own, all_labels=True).rows.tolist() == order.tolist()
    assert (table["label"].to_numpy()[order] >= 0).all()
    assert refit.steps == first.steps
    assert np.isnan(refit.validation)
    assert not torch.equal(refit.outputs["classifier"], first.outputs["classifier"])


def test_learned_weights_are_kept_in_the_refit(task, tmp_path):
    first = train(task, settings())
    first.weighting.save(tmp_path / "weighting.safetensors")
    refit = train(task, settings(), refit=Refit(6, tmp_path / "weighting.safetensors"))
    before, after = (each.weighting.state_dict() for each in (first, refit))
    assert all(torch.equal(before[name], after[name]) for name in before if "visit" not in name)
    assert (first.weighting.weights != 1).any()


def test_the_headline_names_a_better_row_and_rules_that_never_voted(task, denoised, tmp_path):
    """Ruined weights: the majority of the rules is above the model, and the terminal and the report say so."""
    votes = Votes(
        np.column_stack([task.votes.values, np.full(len(task.table), -1, np.int16)]), (*task.votes.names, "never"),
        None if task.votes.scores is None else np.pad(task.votes.scores, ((0, 0), (0, 1)), constant_values=np.nan),
    )  # fmt: skip
    ruined = settings(budget=Budget(steps=1), training=Optimization(lr=1e-30, weight_decay=0.0, batch_size=16))
    run = recipes.run("denoise", replace(task, votes=votes), ruined, tmp_path, quiet=True)
    assert run.metrics["data"]["rules"] == 4
    assert run.metrics["data"]["silent_rules"] == ["never"]
    assert run.metrics["best"] in ("majority", "label_model")
    assert "macro F1 of 18 test texts: " in repr(run)
    assert "the best on this test is another: " in repr(run)
    html = run.report.read_text()
    assert "Rules that never voted and have no effect: never." in html
    assert "With 4 rules" in html
    said = "the majority vote of the rules is above it" if run.metrics["best"] == "majority" else "another row"
    assert said in html


def test_rules_that_are_always_wrong_are_not_served(files, tmp_path):
    contrary = tmp_path / "rules.py"
    wrong = RULES.replace('"spam" if "subscribe"', '"ham" if "subscribe"')
    contrary.write_text(wrong.replace('"ham" if "love"', '"spam" if "love"'))
    own = settings(weighting="equal", budget=Budget(steps=40))
    task = text_task(files / "comments.csv", own, rules=contrary, quiet=True)
    run = recipes.run("denoise", task, own, tmp_path / "run", quiet=True)
    choice = run.metrics["choice"]
    assert (choice["plain"], choice["asked"], choice["chosen"]) == ("all_labels", "method", "all_labels")
    assert choice["judged_on"] == 18  # the whole validation part, since no weights are learned on it
    said = "Served: one of the labels without rules, not the method on labels and rules, since the rules' majority, right on "
    assert said in repr(run)
    assert "labelled texts, is worse than chance; by macro F1 on the validation part (18 examples)" in repr(run)
    table, _ = recipes.predict(run.folder, files / "comments.csv", tmp_path / "answers.csv")
    told = pd.read_parquet(run.folder / "examples.parquet")
    assert table["label"].tolist() == told["predicted"].tolist()


def test_what_no_label_tells_apart_is_served_together_and_labels_alone_have_a_prior(task):
    own = replace(settings(), weighting=None)
    planned = settings_of(task, own)
    assert list(planned) == [METHOD, VOTES, WEIGHTED, ALONE]
    assert {name: each.weighed_by for name, each in planned.items()} == dict.fromkeys(planned, "equal")  # 18 texts
    assert planned[ALONE].training.weight_decay == 1 / 42
    assert planned[VOTES].training == own.training
    named = replace(own, weighting_options={"lr": 0.3})
    assert settings_of(task, named)[METHOD].weighed_by == "amal"  # whose options were named
    assert list(settings_of(task, settings(method="only_labels", weighting=None))) == [ALONE]
    assert list(settings_of(task, settings(method="weak_labels", weighting="equal"))) == [VOTES, WEIGHTED, ALONE]
    first = {name: train(task, each, even=True) for name, each in planned.items()}
    right = (task.labels.clip(0)[:, None] == torch.arange(2)).float()
    val = task.parts()[2]

    def told(wrong: int):
        logits = 9 * right
        logits[val[:wrong]] *= -1
        return {"classifier": logits}

    for wrong, members in (
        (3, (METHOD, VOTES, WEIGHTED, ALONE)),
        (4, (METHOD, VOTES, WEIGHTED)),
    ):  # 1/8 and 1/16 by chance
        answers = dict(zip(first, (told(0), told(0), told(0), told(wrong)), strict=True))
        found = chosen(task, own, {name: replace(each, outputs=answers[name]) for name, each in first.items()})
        assert (found.members, found.chosen, found.judged_on) == (members, "mean", 18)


def test_without_any_label_the_rules_alone_teach(files, command, tmp_path):
    table = pd.read_csv(files / "comments.csv").assign(label="")
    table.to_csv(tmp_path / "comments.csv", index=False)
    words = ["denoise", tmp_path / "comments.csv", "--rules", files / "rules.py", "--classes", '["ham", "spam"]']
    small = ["--budget.steps", 30, "--training.lr", 0.05, "--training.batch_size", 16]
    code, _, err = command(*words, "--out", tmp_path / "spear", *small)
    assert (code, "learn from the rules alone by --method='cage'" in err) == (2, True)
    code, _, err = command(*words, "--out", tmp_path / "run", *small, "--method", "cage")
    assert code == 0, err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["test"], metrics["difference"], metrics["best"], metrics["tested_on"]) == ({}, {}, None, 0)
    assert metrics["choice"]["members"] == ["method", "votes"]
    assert "nothing shows how good it is" in (tmp_path / "run" / "report.html").read_text()
    assert command("predict", tmp_path / "run", files / "comments.csv", "--out", tmp_path / "p.csv")[0] == 0
    given = pd.read_csv(files / "comments.csv").dropna()
    told = pd.read_csv(tmp_path / "p.csv").set_index("id").loc[given["id"], "label"].to_numpy()
    assert (told == given["label"].to_numpy()).mean() > 0.7
    assert command("export", tmp_path / "run", "--out", tmp_path / "served")[0] == 0


def test_trust_in_a_rule_is_what_labels_say_and_where_there_are_few_what_the_model_says(task):
    texts = len(task.table)
    trust = pd.DataFrame(
        {"id": task.table["id"], "rule": "begs", "trust": 0.6, "right": pd.array([None] * texts, "boolean")}
    )
    votes = np.full((texts, 3), -1, np.int16)
    votes[:, 0] = np.where(task.labels >= 0, task.labels.numpy(), 1)  # always right
    votes[:, 1] = np.where(task.labels >= 0, 1 - task.labels.numpy(), 1)  # always wrong
    votes[task.labels.numpy() < 0, 2] = 1  # never where a label tells
    names = ("right", "wrong", "unknown")
    trust = pd.concat([trust.assign(rule=name) for name in names])
    table = rules_table(replace(task, votes=Votes(votes, names), failures={}), trust).set_index("rule")
    known = int((task.labels >= 0).sum())
    assert table["trust"].to_dict() == pytest.approx(
        {"right": (known + 1.2) / (known + 2), "wrong": 1.2 / (known + 2), "unknown": 0.6}
    )


def test_the_sign_test_is_the_binomial_one():
    stats = pytest.importorskip("scipy.stats")
    for b, c in ((0, 0), (4, 0), (3, 0), (7, 2), (2, 7)):
        ours = np.array([True] * b + [False] * c + [True])
        theirs = np.array([False] * b + [True] * c + [True])
        expected = stats.binomtest(b, b + c, alternative="greater").pvalue if b + c else 1
        assert sign_test(ours, theirs) == pytest.approx(expected)


def test_classes_are_shown_equally_often_and_ties_teach_no_class(task):
    rows = evened(torch.arange(10, 17), torch.tensor([0, 0, 0, 0, 1, 1, -1]))
    assert rows.tolist() == [16, 10, 11, 12, 13, 14, 15, 14, 15]
    lesson = lesson_of(task, settings(method="weak_labels", weighting="equal"), even=True)
    unlabelled = lesson.rows[task.labels[lesson.rows] < 0]
    assert not task.tied()[unlabelled].any()
    counts = torch.bincount(torch.from_numpy(task.majority())[unlabelled]).tolist()
    assert counts[0] == counts[1]


def test_names_of_classes_that_differ_in_case_are_one_class(files, tmp_path):
    table = pd.read_csv(files / "comments.csv", dtype=str, keep_default_na=False)
    table.loc[[0, 2], "label"] = "HAM"
    table.to_csv(tmp_path / "comments.csv", index=False)
    (tmp_path / "rules.py").write_text(RULES.replace('"ham"', '"Ham"'))
    found = text_task(tmp_path / "comments.csv", settings(), rules=tmp_path / "rules.py", quiet=True)
    assert found.classes == ["ham", "spam"]
    assert "warning: spellings: 'HAM' (2) and 'ham' (28) differ in case alone: they are one class, 'ham'" in (
        found.problems.warnings()
    )
    same = text_task(files / "comments.csv", settings(), rules=files / "rules.py", quiet=True)
    assert (found.votes.values == same.votes.values).all()
    assert found.labels.equal(same.labels)


def test_the_report_is_one_file_and_says_what_metrics_say(denoised):
    html = denoised.report.read_text()
    value = denoised.metrics["test"]["model"]["macro_f1"]["value"]
    assert f"<b>{value:.3f}</b>" in html
    assert not re.findall(r'(?:src|href)="(?!#|data:)', html)
    assert "<script" not in html
    for word in ("begs", "What to label next", "Where rules contradict each other"):
        assert word in html


ROWS = [
    *((method, None) for method in METHODS),
    ("spear", "equal"),
    ("spear", "joint"),
    ("weak_labels", "meta_weight_net"),
]


@pytest.mark.parametrize(("method", "weighting"), ROWS)
def test_every_method_interrupted_and_resumed_ends_in_the_same_bits(method, weighting, task, tmp_path):
    own = settings(method=method, weighting=weighting, budget=Budget(steps=6))
    straight = train(task, own)
    assert len(straight.signals) == LOSSES[method][0]
    assert straight.weighting.name == own.weighed_by == (weighting or LOSSES[method][1])
    fit = sys.modules["tutelage.training.loop"].Loop
    step = fit.train_step

    def interrupted(self, batch, steps):
        if self.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        step(self, batch, steps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "train_step", interrupted)
        with pytest.raises(Interrupted, match="stopped at step 4 of 6"):
            train(task, own, out=tmp_path)
    resumed = train(task, own, out=tmp_path)
    for head, value in straight.outputs.items():
        assert torch.equal(value, resumed.outputs[head]), head
    for name, value in straight.weighting.state_dict().items():
        assert torch.equal(value, resumed.weighting.state_dict()[name]), name


def test_a_finished_run_is_not_trained_again_and_a_killed_one_ends_in_the_same_figures(task, denoised, tmp_path):
    fit = sys.modules["tutelage.training.loop"].Loop
    step = fit.train_step

    def interrupted(self, batch, steps):
        if self.plan.name == "only_labels-equal" and self.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        step(self, batch, steps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "train_step", interrupted)
        with pytest.raises(Interrupted):
            recipes.run("denoise", task, settings(), tmp_path, quiet=True)
    recipes.run("denoise", task, settings(), tmp_path, quiet=True)
    for name in ("metrics.json", "examples.parquet", "trust.parquet", "weights.parquet", "label_next.csv"):
        assert (tmp_path / name).read_bytes() == (denoised.folder / name).read_bytes(), name
    kept = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [event["stage"] for event in kept if event["event"] == "stage kept"] == [
        "spear-amal",
        "weak-labels-equal",
        "weighted-votes-equal",
    ]
    done = [event["stage"] for event in kept if event["event"] == "stage done"]
    first = ["spear-amal", "weak-labels-equal", "weighted-votes-equal", "only-labels-equal"]
    assert done == [*first, *(f"{name}-refit" for name in first)]


def test_from_the_command_line_and_back(files, command, tmp_path):
    out = tmp_path / "run"
    small = ["--budget.steps", 4, "--training.batch_size", 16, "--method", "imply_loss"]
    code, said, err = command("denoise", files / "comments.csv", "--rules", files / "rules.py", "--out", out, *small)
    assert (code, said.startswith("report: ")) == (0, True), err
    told = yaml.safe_load((out / "config.yaml").read_text())
    assert (told["rules"], told["method"]) == (str(files / "rules.py"), "imply_loss")
    again = tmp_path / "again"
    assert command("denoise", "--config", out / "config.yaml", "--out", again)[0] == 0
    assert (again / "metrics.json").read_bytes() == (out / "metrics.json").read_bytes()

    scores = tmp_path / "scores.csv"
    code, said, _ = command("predict", out, files / "comments.csv", "--out", scores)
    assert code == 0
    assert said.startswith("160 texts labelled: ")
    table, examples = pd.read_csv(scores), pd.read_parquet(out / "examples.parquet")
    assert table["label"].tolist() == examples["predicted"].tolist()
    np.testing.assert_allclose(table["probability"], examples["probability"], rtol=1e-5)
    assert "reliability" not in examples
    (out / "report.html").unlink()
    assert command("report", out)[0] == 0
    assert (out / "report.html").exists()
    told["columns"]["text"] = "body"  # as if the run's file had called it so
    (out / "config.yaml").write_text(yaml.safe_dump(told))
    renamed = tmp_path / "new.csv"
    pd.DataFrame({"body": ["subscribe to my channel"], "name": ["n1"]}).to_csv(renamed, index=False)
    assert command("predict", out, renamed, "--columns.id", "name", "--out", scores)[0] == 0
    assert pd.read_csv(scores)["id"].tolist() == ["n1"]
    code, _, err = command("predict", out, files / "comments.csv", "--fpr", 0.01)
    assert (code, "leave fpr out" in err) == (2, True)


def test_votes_and_features_that_are_given(files, task, command, tmp_path):
    task.votes.write(tmp_path / "votes.parquet", task.table["id"].tolist())
    np.save(tmp_path / "vectors.npy", task.features.toarray())
    own = text_task(
        files / "comments.csv", settings(), votes=tmp_path / "votes.parquet", vectors=tmp_path / "vectors.npy"
    )
    assert (own.votes.values == task.votes.values).all()
    found, expected = (train(one, settings(budget=Budget(steps=3))) for one in (own, task))
    torch.testing.assert_close(found.outputs["classifier"], expected.outputs["classifier"])
    (tmp_path / "gap.csv").write_text((files / "comments.csv").read_text() + "c160,,\n")
    with pytest.raises(ValueError, match="holds 160 rows and the data 161; without ids they must be as many"):
        text_task(tmp_path / "gap.csv", settings(), rules=files / "rules.py", vectors=tmp_path / "vectors.npy")
    recipes.run("denoise", own, settings(budget=Budget(steps=1)), tmp_path / "run", quiet=True)
    code, _, err = command("predict", tmp_path / "run", files / "comments.csv", "--out", tmp_path / "s.csv")
    assert (code, "learned from given features" in err) == (2, True)
    code, _, err = command("export", tmp_path / "run", "--out", tmp_path / "exported")
    assert (code, "an exported model of texts makes its own: nothing is exported" in err) == (2, True)


def test_copies_of_a_text_count_once_and_votes_in_order_stay_theirs(files, task, command, tmp_path):
    texts = pd.read_csv(files / "comments.csv", dtype=str, keep_default_na=False)
    again = texts.assign(id="again " + texts["id"], text=" " + texts["text"])
    again.loc[0, "label"] = next(name for name in task.classes if name != texts["label"][0])
    texts.loc[0, "label"] = texts["label"][0] or next(name for name in task.classes if name != again["label"][0])
    both = pd.concat([again.iloc[100:], texts, again.iloc[:100]])
    both.to_csv(tmp_path / "both.csv", index=False)
    own = text_task(tmp_path / "both.csv", settings(), rules=files / "rules.py")
    assert not own.table["text"].duplicated().any()
    assert own.problems.counts() == {"duplicate_text": len(both) - texts["text"].nunique()}
    pd.DataFrame({"rule": [task.classes[number % 2] for number in range(len(both))]}).to_csv(
        tmp_path / "v.csv", index=False
    )
    voted = text_task(tmp_path / "both.csv", settings(), votes=tmp_path / "v.csv")
    place = {id: row for row, id in enumerate(both["id"])}
    assert voted.votes.values[:, 0].tolist() == [place[id] % 2 for id in voted.table["id"]]
    (tmp_path / "v.csv").write_text("rule\n0\n")
    with pytest.raises(ValueError, match=f"has 1 rows and no column 'id', but there are {len(both)} examples"):
        text_task(tmp_path / "both.csv", settings(), votes=tmp_path / "v.csv")
    recipes.run("denoise", own, settings(budget=Budget(steps=1)), tmp_path / "run", quiet=True)
    listed = pd.read_csv(tmp_path / "run" / "duplicates.csv", keep_default_na=False)
    assert set(listed["label"]) == {"", *task.classes}
    assert set(listed.loc[listed["conflict"], "label"]) == set(task.classes)


@pytest.mark.parametrize("form", ["numbers.parquet", "lists.parquet", "vectors.csv", "vectors.npy"])
def test_features_belong_to_their_texts_by_id_whatever_their_order(form, files, command, tmp_path):
    texts = pd.read_csv(files / "comments.csv", dtype=str, keep_default_na=False)
    texts.loc[3, "text"] = ""  # is left out; features without ids keep their places
    texts.insert(0, "number", range(7, 7 + len(texts)))
    texts.drop(columns="id").to_csv(tmp_path / "texts.csv", index=False)
    vectors = np.random.default_rng(0).normal(size=(len(texts), 4)).astype(np.float32)
    path = tmp_path / form
    if form.endswith(".npy"):
        np.save(path, vectors)
    else:
        lists = pd.DataFrame({"id": texts["number"], "embedding": list(vectors)})
        numbers = pd.DataFrame(vectors, columns=list("abcd")).assign(id=texts["number"])
        shuffled = (lists if form.startswith("lists") else numbers).sample(frac=1, random_state=1).iloc[:-2]
        shuffled.to_csv(path, index=False) if form.endswith("csv") else shuffled.to_parquet(path)
    columns = TextColumns(id="number")
    task = text_task(tmp_path / "texts.csv", settings(), rules=files / "rules.py", vectors=path, columns=columns)
    assert np.allclose(task.features, vectors[task.table["id"].astype(int) - 7])
    assert task.problems.counts() == {"empty_text": 1} | ({} if form.endswith(".npy") else {"no_features": 2})
    if form != "lists.parquet":
        return
    recipes.run("denoise", task, settings(budget=Budget(steps=1)), tmp_path / "run", quiet=True)
    told = {"--vectors": path, "--columns.id": "number", "--out": tmp_path / "s.csv"}
    code, _, _ = command("predict", tmp_path / "run", tmp_path / "texts.csv", *itertools.chain(*told.items()))
    assert code == 0
    scores = pd.read_csv(tmp_path / "s.csv", dtype=str)
    assert scores["id"].tolist() == task.table["id"].tolist()


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("denoise none.csv --out r --rules rules.py", "there is no file none.csv"),
        ("denoise comments.csv --out r", "give either rules, a Python file, or votes"),
        ("denoise comments.csv --out r --rules nowhere.py", "there is no file of rules"),
        ("denoise comments.csv --out r --rules rules.py --columns.text body", "has no column 'body' for 'text'"),
        (
            "denoise comments.csv --out r --rules rules.py --parts.val 0.9 --parts.test 0.2",
            "are shares that leave some",
        ),
        (
            "denoise comments.csv --out r --rules rules.py --labelled_share 0",
            "labelled_share=0.0 must be a number in (0, 1)",
        ),
        ("denoise comments.csv --out r --rules rules.py --weighting_options.lr 0", "lr=0 must be a number above 0"),
        (
            "denoise comments.csv --out r --rules rules.py --rule_model.quality 1",
            "quality=1.0 must be a number in (0, 1)",
        ),
        ('denoise comments.csv --out r --rules rules.py --classes ["ham"]', "the labels name one class"),
    ],
)
def test_mistakes_are_answered_in_one_line(words, answer, files, command, monkeypatch):
    monkeypatch.chdir(files)
    code, _, err = command(*words.split())
    assert code == 2
    assert answer in err.splitlines()[-1]


def spear(seed: int = 0) -> tuple[Objective, dict[str, torch.Tensor], dict[str, torch.Tensor], torch.optim.Optimizer]:
    """SPEAR's terms on a few random texts in float64, and held-out ones that judge both models."""
    torch.manual_seed(seed)
    model = RuleModel(RuleModelSpec(features=3, rule_class=(0, 1, 1), classes=2, kind="mlp", hidden=4)).double()
    with torch.no_grad():
        model.rules.theta += torch.randn(3, 2)
    fired = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 0]])
    input = torch.cat([torch.randn(5, 3, dtype=torch.float64), fired, torch.full((5, 3), 0.5)], 1)
    nobody = torch.full((5,), -1)
    batch = {"index": torch.arange(5), "input": input, "fired": fired, "label": torch.tensor([0, 1, -1, -1, -1])}
    held_out = {**batch, "label": torch.tensor([1, 0, 1, 0, 1]), "label_model_label": torch.tensor([1, 0, 1, 0, 1])}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return (
        Objective(model, spear_terms(pocket(), [0, 1, 1])),
        {**batch, "label_model_label": nobody},
        held_out,
        optimizer,
    )


def test_terms_of_the_label_model_alone_have_a_derivative_only_where_it_is_judged():
    objective, batch, held_out, optimizer = spear()
    alone = {**held_out, "label_model_label": torch.full((5,), -1)}
    by_name = dict(zip(objective.names, look_ahead_gradient(objective, batch, alone, optimizer).values.T, strict=True))
    for name in ("label_model_labels", "label_model_evidence", "quality_guides"):
        assert (by_name[name] == 0).all(), name
    for name in ("label", "entropy", "follow_label_model", "agreement"):
        assert (by_name[name] != 0).any(), name
    both = dict(zip(objective.names, look_ahead_gradient(objective, batch, held_out, optimizer).values.T, strict=True))
    for name in ("label_model_labels", "label_model_evidence"):
        assert (both[name] != 0).any(), name
    torch.testing.assert_close(both["entropy"], by_name["entropy"])  # which moves the classifier alone


def test_the_derivatives_are_those_of_double_backward():
    objective, batch, held_out, optimizer = spear(1)
    exact = look_ahead_gradient(objective, batch, held_out, optimizer, strategy="double_backward").values
    for strategy in ("forward_mode", "auto"):
        found = look_ahead_gradient(objective, batch, held_out, optimizer, strategy=strategy).values
        torch.testing.assert_close(found, exact, rtol=1e-9, atol=1e-14)


def test_amal_with_weights_that_cannot_move_is_spear(task):
    still = settings(weighting_options={"lr": 1e-30}, held_out=1.0)
    a, b = train(task, still), train(task, replace(still, weighting="equal", weighting_options={}))
    for head, value in b.outputs.items():
        assert torch.equal(a.outputs[head], value)


def test_validation_is_divided_by_class_or_serves_twice(task):
    _, _, val = task.parts()
    learn, choose = divided_val(task, val, settings())
    assert sorted([*learn.tolist(), *choose.tolist()]) == val.tolist()
    assert torch.bincount(task.labels[learn]).tolist() == [4, 4]
    twice = settings(held_out=1.0)
    assert all(torch.equal(part, val) for part in divided_val(task, val, twice))


def test_texts_that_no_rule_votes_on_are_not_needed_but_some_votes_are(files, task):
    silent = Votes(np.full((160, 1), -1, np.int16), ("never",))
    with pytest.raises(ValueError, match="no rule votes on any training text"):
        replace(task, votes=silent)
    foreign = Votes(np.full((160, 1), 2, np.int16), ("third",))
    with pytest.raises(ValueError, match="a rule votes for class 2"):
        replace(task, votes=foreign)


def test_continuous_rules_reach_the_label_model(task):
    votes = task.votes.values
    scores = np.full(votes.shape, np.nan, np.float32)
    scores[votes[:, 0] >= 0, 0] = 0.9
    scored = replace(task, votes=Votes(votes, task.votes.names, scores))
    columns = unipolar(scored.votes)
    assert columns.continuous.tolist() == [True, False, False, False, False]
    trained = train(scored, settings(weighting="equal", budget=Budget(steps=3)))
    assert not torch.equal(trained.model.rules.log_precision[0], torch.ones(2))
    assert torch.equal(trained.model.rules.log_precision[1], torch.ones(2))


def test_tensor_data_of_a_batch_is_what_the_signals_name(task):
    batch = task.data(unipolar(task.votes)).batch([0, 1])
    assert {"index", "input", "label", "weak_label", "label_model_label", "fired", "scores"} == set(batch)
    assert len(TensorData(**{name: value for name, value in batch.items() if name != "index"})) == 2


def unequal(files: Path, folder: Path, labels: dict[int, str]) -> Path:
    table = pd.read_csv(files / "comments.csv", keep_default_na=False)
    for row, label in labels.items():
        table.loc[row, "label"] = label
    table.to_csv(folder / "comments.csv", index=False)
    return folder / "comments.csv"


def test_a_class_of_one_text_is_learned_and_its_absence_elsewhere_is_said(files, tmp_path, capsys):
    path = unequal(files, tmp_path, {0: "rare"})
    task = text_task(path, settings(), rules=files / "rules.py", quiet=True)
    assert task.table["split"][0] == "train"
    assert task.absent() == {"val": ["rare"], "test": ["rare"]}
    run = recipes.run("denoise", task, settings(method="only_labels"), tmp_path / "run")
    assert run.metrics["data"]["classes"] == ["ham", "rare", "spam"]
    assert "the val part has no labelled text of rare (it has no part in the choice)" in "".join(capsys.readouterr())
    by_rule = text_task(
        files / "comments.csv", settings(), rules=files / "rules.py", classes=("ham", "spam", "other"), quiet=True
    )
    assert by_rule.absent()["train"] == ["other"]


def test_classifiers_that_saw_the_classes_equally_often_get_the_frequencies_back(files, tmp_path):
    path = unequal(files, tmp_path, {row: "" for row in range(0, 60, 2) if row > 12})  # 30 spam, 7 ham
    of = settings(method="only_labels", weighting="equal", budget=Budget(steps=60))
    task = text_task(path, of, rules=files / "rules.py", quiet=True)
    known = torch.cat([task.parts()[0], task.parts()[2]])
    assert prevalence(task, all_labels=True).tolist() == pytest.approx(
        ((torch.bincount(task.labels[known]) + 0.5) / (len(known) + 1)).tolist()
    )
    trained = train(task, of, even=True)
    shown_evenly = trained.probabilities / prevalence(task).numpy()
    assert trained.probabilities[:, 1].mean() > (shown_evenly / shown_evenly.sum(1, keepdims=True))[:, 1].mean() + 0.1


def test_votes_by_name_without_any_class_say_what_to_give(files, command, tmp_path):
    table = pd.read_csv(files / "comments.csv", keep_default_na=False)
    table.assign(label="").to_csv(tmp_path / "comments.csv", index=False)
    table[["id"]].assign(begs="spam").to_csv(tmp_path / "votes.csv", index=False)
    words = ["--votes", tmp_path / "votes.csv", "--out", tmp_path / "run"]
    code, _, told = command("denoise", tmp_path / "comments.csv", *words)
    assert code
    assert "no class has a name; name the classes in their order by classes (--classes '[ham, spam]')" in told


def test_the_headline_is_of_what_selects(task, tmp_path):
    of = settings(method="only_labels", select_by="accuracy")
    run = recipes.run("denoise", task, of, tmp_path, quiet=True)
    assert recipes.denoise.RECIPE.closing(run.metrics)[0].startswith("accuracy of 18 test texts: ")
    assert "rules the accuracy of the served model is" in (run.folder / "report.html").read_text()


def test_votes_count_as_far_as_labels_say_that_they_are_right(task):
    labels = task.labels.numpy()
    good = np.where(np.arange(len(labels)) % 10 == 0, 1 - labels, labels)  # 90 % right
    good = np.where(labels < 0, 1, good)
    bad = np.where(labels < 0, 0, np.where(np.arange(len(labels)) % 5 < 2, labels, 1 - labels))  # 40 %
    told = replace(task, votes=Votes(np.stack([good, bad, bad], 1).astype(np.int16), ("good", "bad", "worse")))
    found, likely = told.weighted_votes(torch.arange(60))
    assert (told.majority()[60:] == 0).all()  # two against one
    assert (found[60:] == 1).all()
    assert likely.all()
    lesson = lesson_of(told, settings(method="weighted_votes", weighting="equal"), even=True)
    rows = lesson.rows[task.labels[lesson.rows] < 0]
    assert (lesson.data.columns["weighted_label"][rows] == 1).all()
    assert list(settings_of(told, settings(method="weighted_votes", weighting="equal"))) == [WEIGHTED, VOTES, ALONE]
