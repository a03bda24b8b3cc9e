"""What a person checks after a run: one list, a sample of the test with known probabilities, and figures by the answers."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.special import expit

from tutelage import cli
from tutelage.metrics import auroc, doubts, npv_at_fpr, threshold_at_fpr
from tutelage.metrics.moderation import above_gap
from tutelage.metrics.wrong_test_labels import checked_labels, expected_point
from tutelage.production.audits import draw_check
from tutelage.production.decisions import DecisionLog
from tutelage.production.judgement import lost, thresholds
from tutelage.production.review import CHECK, draw_test, take_answers, write_page
from tutelage.production.sampling import inclusion_probabilities, pivotal
from tutelage.production.tables import items
from tutelage.production.verdicts import Desk
from tutelage.recipes.moderation.answers import FOLDER, Answers
from tutelage.recipes.moderation.corrected import corrected_figures, lessons
from tutelage.recipes.moderation.judged import JudgedTest, defects_counted, threshold_by
from tutelage.recipes.moderation.recipe import closing, threshold_of

sys.path.append(str(Path(__file__).parents[1] / "reports"))
import fake_run

NAMES = np.array(["defective", "acceptable"])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run whose truth nobody has told it, with a picture for the first of its images."""
    folder = fake_run.fake_run(tmp_path / "run")
    examples = pd.read_parquet(folder / "examples.parquet")
    examples["truth"] = examples["true_label"]
    examples = examples.drop(columns=["true_label", "true_subtask"])
    (tmp_path / "ads").mkdir()
    first = examples["suspicion"].idxmax()
    Image.new("RGB", (40, 20), "red").save(tmp_path / "ads" / "first.png")
    examples.loc[first, "image"] = "ads/first.png"
    examples.to_parquet(folder / "examples.parquet")
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["data"]["label_noise"] = None
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "config.yaml").write_text(f"manifest: {tmp_path / 'ads.csv'}\n")
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text(json.dumps({"thresholds": {"0.01": 0.5}, "fpr": 0.01}))
    return folder


def truth_of(run: Path) -> pd.Series:
    examples = pd.read_parquet(run / "examples.parquet").set_index("id")
    return pd.Series(NAMES[examples["truth"].to_numpy()], index=examples.index)


def filled(run: Path, share: float = 1.0) -> Path:
    asked = pd.read_csv(run / FOLDER / CHECK, dtype=str, keep_default_na=False)
    assert (asked["label"] == "").all()
    asked["label"] = truth_of(run).loc[asked["id"]].to_numpy()
    asked.loc[asked.index >= share * len(asked), "label"] = ""
    asked.to_csv(run / "answers.csv", index=False)
    return run / "answers.csv"


def filled_by_all(run: Path) -> Path:
    """Answers about all that was drawn and all that was not."""
    truth = truth_of(run)
    pd.DataFrame({"id": truth.index, "label": truth.to_numpy()}).to_csv(run / "answers.csv", index=False)
    return run / "answers.csv"


def cut(test: pd.DataFrame, fpr: float) -> float:
    """The threshold by the truth."""
    scores, truth = test["score"].to_numpy(), test["truth"].to_numpy()
    return above_gap(threshold_at_fpr(scores, truth, fpr), scores, truth == 1)


def test_each_image_counts_on_the_average_as_what_it_is_whatever_was_expected():
    rng = np.random.default_rng(0)
    true, expected = rng.integers(0, 2, 30).astype(float), rng.random(30)
    pi = inclusion_probabilities(rng.random(30) + 0.05, 12)
    total, drawn_often = np.zeros(30), 2000
    for _ in range(drawn_often):
        inside = np.isin(np.arange(30), pivotal(pi, rng))
        seen = np.where(inside, true, np.nan)
        total += checked_labels(expected, seen, inside, pi)
    error = 4 * np.abs(true - expected) * np.sqrt((1 / pi - 1) / drawn_often)
    assert (np.abs(total / drawn_often - true) <= error + 1e-9).all()
    certain = checked_labels(expected, true, np.ones(30, bool), np.ones(30))
    assert (certain == true).all()
    with pytest.raises(ValueError, match=r"probability\[0\]=0 must be in"):
        checked_labels(expected, true, np.ones(30, bool), np.zeros(30))


def test_counts_outside_0_and_1_lean_to_blocking_more():
    point = expected_point([0.1, 0.2, 0.3, 0.4], [2.0, -1.0, 0.0, 1.0], 0.0)
    assert point.threshold == 0.4  # above .1 the counts sum to 0, but a defect lies at .4
    assert point.npv == 0.5
    assert point.recall == 0.0
    assert expected_point([0.1, 0.2], [1.0, 0.0], 0.0).recall == 1.0


def test_threshold_and_npv_by_a_sample_hold_where_the_model_has_learned_the_mistake():
    """A kind of acceptable image is called defective by labels and model alike, which no held-out label can show."""
    rng = np.random.default_rng(1)
    z = rng.normal(1.0, 3.0, 3000)
    kind = rng.random(3000) < 0.1
    truth = np.where(kind, 1, rng.random(3000) < expit(1.5 * z)).astype(np.int64)
    z = np.where(kind, -2.5, z)
    labels = np.where(kind | (rng.random(3000) < 0.1), 1 - truth, truth)
    scores = expit(1.5 * z)
    suspicion = np.where(labels == 1, 1 - scores, scores)
    pi = inclusion_probabilities(np.sqrt(np.maximum(suspicion, 0.01)), 400)
    found = []
    for seed in range(8):
        inside = np.isin(np.arange(3000), pivotal(pi, np.random.default_rng(seed)))
        answers = Answers(np.where(inside, truth, -1), pi, inside)
        figures = corrected_figures({"model": scores, "fine_tuned": scores}, labels, (0.1, 0.1), (0.05,), 0, answers)
        assert figures is not None
        assert figures["checked"]["answered"] == 400
        found.append((figures["model"]["npv_at_fpr"]["0.05"], figures["checked"]["wrong_of_defective"]))
    blocked = scores <= threshold_at_fpr(scores, truth, 0.05)
    npv = (truth[blocked] == 0).mean()
    means = np.array([each["value"] for each, _ in found])
    by_rates = corrected_figures({"model": scores, "fine_tuned": scores}, labels, (0.1, 0.1), (0.05,), 0, None)
    assert by_rates is not None
    assert abs(means.mean() - npv) < 0.04 < abs(by_rates["model"]["npv_at_fpr"]["0.05"]["value"] - npv)
    assert sum(each["low"] <= npv <= each["high"] for each, _ in found) >= 6
    wrong = (truth != labels)[labels == 0].mean()
    assert np.mean([share for _, share in found]) == pytest.approx(wrong, abs=0.05)


def test_what_was_not_answered_is_taken_to_be_like_what_was(run):
    draw_test(run, 60)
    said = take_answers(run, filled(run, share=0.5))
    assert "30 of 60 drawn test images are checked" in said
    assert "that those drawn and not answered are like those answered" in said
    said = take_answers(run, filled(run))
    assert "60 of 60 drawn test images are checked" in said
    assert "not answered" not in said


def test_a_few_answers_leave_the_threshold_as_it_is_and_say_how_many_more_it_takes(run):
    draw_test(run, 200)
    said = take_answers(run, filled(run, share=0.06))
    metrics = json.loads((run / "metrics.json").read_text())
    test = pd.read_parquet(run / "examples.parquet").query("split == 'test'")
    scores, labels = test["score"].to_numpy(), test["label"].to_numpy()
    errors = metrics["labels"]["false_acceptable"], metrics["labels"]["false_defective"]
    by_labels = threshold_by(scores, defects_counted(scores, labels, errors, None), 0.01)
    assert metrics["thresholds"]["0.01"] == by_labels == threshold_of(run, 0.01)
    few = metrics["corrected"]["too_few"]["0.01"]
    assert few["worth"] < few["needed"]
    assert f"about {few['more']:,} more answers are needed): the threshold stays {by_labels:.4f}" in said
    assert f"by the answers it would be {few['threshold']:.4f}" in said
    assert "by 12 answers of people" not in said
    take_answers(run, filled_by_all(run))
    assert "0.01" not in json.loads((run / "metrics.json").read_text())["corrected"]["too_few"]


def test_an_export_tells_the_figures_of_the_report_and_the_loss_by_8_bits_by_the_same_estimate():
    rng = np.random.default_rng(0)
    truth = (rng.random(800) < 0.6).astype(np.int64)
    labels = np.where(rng.random(800) < 0.15, 1 - truth, truth)
    z = 1.5 * (np.where(truth == 1, 2.0, -2.0) + rng.normal(0, 1.5, 800))
    scores, logits = expit(z), np.stack([np.zeros(800), z], axis=1)
    everything = Answers(truth, np.ones(800), np.ones(800, bool))
    for answers, by in (
        (None, "the labels, corrected for their estimated error rates"),
        (everything, "800 answers of people"),
    ):
        both = {"model": scores, "fine_tuned": scores}
        found = corrected_figures(both, labels, (0.15, 0.15), (0.01, 0.05), 3, answers)
        assert found is not None
        test = JudgedTest.of(pd.DataFrame({"score": scores, "label": labels}), (0.15, 0.15), answers)
        at = found["model"]["threshold"]
        card = thresholds(logits, test, lambda rate, at=at: at[f"{rate:g}"], 0.05, None, seed=3)
        lower = lost({"answer": {"kind": "decision"}}, logits, logits, labels, test, seed=3)
        for rate in ("0.01", "0.05"):
            figure = found["model"]["npv_at_fpr"][rate]
            assert {**figure, "by": by} == pytest.approx(card["thresholds"][rate]["npv"])
            assert figure == pytest.approx(lower[f"npv at {rate}"]["int8"])
            assert lower[f"npv at {rate}"]["by"] == by
            assert card["thresholds"][rate]["run"]["value"] == pytest.approx(at[rate], abs=1e-6)


def test_where_auroc_says_the_opposite_the_correction_is_said_to_mislead():
    rng = np.random.default_rng(0)
    truth = (rng.random(3000) < 0.7).astype(np.int64)
    labels = np.where(rng.random(3000) < 0.1, 1 - truth, truth)
    z = np.where(truth == 1, 2.5, -2.5) + rng.normal(0, 1.5, 3000)
    scores = {"model": expit(z / 2), "fine_tuned": expit(3 * (z + rng.normal(0, 0.7, 3000)))}  # timid, and too sure
    found = corrected_figures(scores, labels, (0.1, 0.1), (0.05,), 0, None)
    assert found is not None
    (told,) = lessons(found, 0.05)
    assert told.startswith(
        "by NPV at 5% FPR, corrected for the labels' estimated errors, plain fine-tuning does better"
    )
    scores["fine_tuned"] = expit((z + rng.normal(0, 0.7, 3000)) / 4)
    assert lessons(corrected_figures(scores, labels, (0.1, 0.1), (0.05,), 0, None), 0.05) == []


def test_a_draw_stays_and_is_blind(run):
    drawn = draw_test(run, 60)
    again = draw_test(run, 60, seed=5)
    assert drawn is not None
    assert again is not None
    assert again.equals(drawn)
    assert drawn["probability"].between(0, 1).all()
    asked = pd.read_csv(run / FOLDER / CHECK)
    assert set(asked) == {"id", "image", "headline", "label"}
    assert asked["label"].isna().all()
    with pytest.raises(
        ValueError, match=r"check=50: 60 test images were drawn before, .* give check=60, or remove .*review"
    ):
        draw_test(run, 50)
    test = pd.read_parquet(run / "examples.parquet").query("split == 'test'").set_index("id")
    often = test.loc[drawn["id"], "suspicion"].mean()
    assert often > test["suspicion"].mean()


def test_answers_change_figures_threshold_report_and_predict(run):
    draw_test(run, 10_000)  # everything
    before = json.loads((run / "metrics.json").read_text())
    said = take_answers(run, filled(run))
    metrics = json.loads((run / "metrics.json").read_text())
    test = pd.read_parquet(run / "examples.parquet").query("split == 'test'")
    exact = cut(test, 0.01)
    assert metrics["thresholds"]["0.01"] == exact
    assert json.loads((run / "model" / "config.json").read_text())["thresholds"]["0.01"] == exact
    assert threshold_of(run, 0.03) == cut(test, 0.03)
    checked = metrics["corrected"]["checked"]
    assert checked["wrong"] == (test["truth"] != test["label"]).sum()
    assert f"{len(test)} of {len(test)} drawn test images are checked, {checked['wrong']} labels were wrong" in said
    assert metrics["model"] == before["model"]  # by the labels as they are
    html = (run / "report.html").read_text()
    assert "nothing of the other labels, since the draw" in html
    assert "by people’s answers about" in html
    told, scores, truth = metrics["corrected"], test["score"].to_numpy(), test["truth"].to_numpy()
    assert told["model"]["npv_at_fpr"]["0.01"]["value"] == npv_at_fpr(scores, truth, 0.01)
    assert told["model"]["auroc"]["value"] == pytest.approx(auroc(scores, truth))
    assert told["floor"]["0.01"] == before["floor"]["0.01"]  # the run was judged by the truth, which the answers are
    assert told["candidates"]["fine_tuned"]["auroc"] == pytest.approx(auroc(test["score_fine_tuned"], truth))
    assert told["candidates"]["fine_tuned+student"]["npv_at_fpr"]["0.05"] == npv_at_fpr(scores, truth, 0.05)
    plain = npv_at_fpr(test["score_fine_tuned"], truth, 0.01)
    assert told["difference"]["npv_at_fpr"]["0.01"]["value"] == pytest.approx(npv_at_fpr(scores, truth, 0.01) - plain)
    assert checked["false_acceptable"] == pytest.approx((test["label"] == 1)[truth == 0].mean())
    by_answers = f"{told['model']['npv_at_fpr']['0.01']['value']:.3f} ["
    assert f"NPV at 1% FPR, by {len(test)} answers of people: {by_answers}" in said
    lines = closing(metrics)  # what tutelage moderate says when it is run again
    assert f"NPV at 1% FPR, by {len(test)} answers of people: {by_answers}" in lines[-2]
    assert lines[-1].startswith("NPV at 1% FPR by the original labels, which does not decide: ")
    assert f"{100 * told['model']['npv_at_fpr']['0.01']['value']:.0f} of 100 <small>" in html
    passed = int(((truth == 0) & (scores > exact)).sum())
    assert f"{passed} of the {(truth == 0).sum()} test images that people called defective score above it" in html


def test_answers_that_cannot_be_taken(run, tmp_path):
    (tmp_path / "a.csv").write_text("id,label\nx,defective\n")
    with pytest.raises(ValueError, match=r"no test image of .* was drawn; run tutelage review"):
        take_answers(run, tmp_path / "a.csv")
    draw_test(run, 20)
    with pytest.raises(ValueError, match="has no answer about a test image"):
        take_answers(run, tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("id,label\nx,bad\n")
    with pytest.raises(ValueError, match="has the label 'bad'; write acceptable, defective, or nothing"):
        take_answers(run, tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("id,verdict\nx,bad\n")
    with pytest.raises(ValueError, match="has no column label; it has id, verdict"):
        take_answers(run, tmp_path / "a.csv")


def test_moderators_answer_on_the_page_of_audits(run, tmp_path, capsys):
    drawn = draw_test(run, 20)
    assert drawn is not None
    with DecisionLog(str(tmp_path / "log.sqlite")) as log:
        assert draw_check(log.database, run).verdicts == 20
        desk = Desk(log.database)
        truth = truth_of(run)
        while item := desk.next("ann"):
            assert "label" not in vars(item)  # blind, too
            desk.give(item.id, "ann", truth[item.ad_id])
        with log.database.read() as connection:
            assert {row.ad_id for row in connection.execute(items.select())} == set(drawn["id"])
    cli.main(["audit", "report", str(tmp_path / "log.sqlite"), "--out", str(tmp_path / "audit")])
    assert "20 labels that were judged again" in capsys.readouterr().out
    assert "20 of 20 drawn test images are checked" in take_answers(run, tmp_path / "audit" / "labels.csv")


def test_the_page_is_one_file_with_pictures_labels_and_reasons(run, capsys):
    cli.main(["review", str(run), "--check", "40"])
    said = capsys.readouterr().out
    assert "40 test images to check are listed in" in said
    html = (run / FOLDER / "review.html").read_text()
    listed = pd.read_csv(run / "relabel.csv")
    assert f"<b>{len(listed):,}</b> labels" in html
    assert html.count("<figure") == min(len(listed), 200)
    assert html.index("data:image/jpeg;base64,") < html.index("data:image/png;base64,")  # the first from its file
    assert not re.findall(r'(?:src|href)="(?!#|data:)', html)
    assert listed["reason"][0][1:] in html
    page, doubted = write_page(run)
    assert (page.read_text(), doubted) == (html, len(listed))
    cli.main(["review", str(run), "--answers", str(filled(run))])
    assert "40 of 40 drawn test images are checked" in capsys.readouterr().out
    assert "40 are checked so far" in (run / FOLDER / "review.html").read_text()


def test_texts_are_a_table_and_cells_are_no_formulas(tmp_path, capsys):
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    given = np.array([1, 1, 0])
    found = doubts(given, p)
    names = np.array(["ham", "spam"], dtype=object)
    pd.DataFrame(
        {
            "id": ["1", "2", "3"],
            "text": ["=HYPERLINK(1)", "<b>b</b>", "win <script>"],
            "split": "train",
            "label": names[given],
            "majority": "ham",
            "labels_alone": "ham",
            "votes": [2, 0, 1],
            **found,
            "suspected": names[found["suspected"]],
        }
    ).to_parquet(tmp_path / "examples.parquet")
    metrics = {"pipeline": {"recipe": "denoise", "title": "texts"}, "data": {"classes": ["ham", "spam"]}}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    cli.main(["review", str(tmp_path)])
    assert "2 labels are in doubt" in capsys.readouterr().out
    html = (tmp_path / FOLDER / "review.html").read_text()
    assert "win &lt;script&gt;" in html
    assert "<script" not in html
    listed = pd.read_csv(tmp_path / "relabel.csv")
    assert listed["text"].tolist() == ["'=HYPERLINK(1)", "win <script>"]
    assert listed["reason"][0].endswith(
        "; 2 rules vote, most of them for ham; learned from labels alone, it says so too"
    )
    with pytest.raises(SystemExit):
        cli.main(["review", str(tmp_path), "--answers", "a.csv"])
    assert "--answers='a.csv': a run of denoise decides by no threshold" in capsys.readouterr().err


def test_where_the_truth_is_known_nothing_is_drawn(tmp_path, capsys):
    folder = fake_run.fake_run(tmp_path / "run")
    cli.main(["review", str(folder)])
    assert "the test's true labels are known" in capsys.readouterr().out
    assert not (folder / FOLDER / "drawn.parquet").exists()
