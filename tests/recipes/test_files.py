"""From files on disk, through the command line: train, give the settings back, score new images, report again."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pandas as pd
import pytest
import tiny
import torch
import yaml
from PIL import Image

from tutelage import cli, recipes
from tutelage.data import Columns, digit_posters, image_table, read_image
from tutelage.data.read_once import read_once
from tutelage.files import write_table
from tutelage.metrics import doubts
from tutelage.models import load_committee
from tutelage.recipes import auxiliary, distill, multilabel
from tutelage.recipes.moderation import moderation_task
from tutelage.recipes.moderation.doubts import doubts as relabel_table
from tutelage.recipes.moderation.evaluation import SCORE
from tutelage.subtasks import acceptability
from tutelage.training.stages import plain

JPEG = hostile.encoded(hostile.photograph(), "JPEG")
REFUSED = {
    "empty.png": (b"", "empty"),
    "truncated.jpg": (JPEG[: len(JPEG) // 2], "truncated"),
    "text.png": (b"this is no image" * 9, "format"),
    "animated.png": (hostile.animated("PNG"), "animated"),
    "thread.png": (hostile.encoded(Image.new("RGB", (1, 60_000)), "PNG"), "too_small"),
    "bomb.png": (hostile.bomb(), "too_many_pixels"),
}
TURNED = Image.Exif()
TURNED[0x0112] = 6  # orientation
DEEP = Image.fromarray(np.arange(1024, dtype=np.uint16).reshape(32, 32) * 60)
READ = {
    "cmyk.png": hostile.encoded(hostile.photograph(1).convert("CMYK"), "JPEG"),
    "deep.png": hostile.encoded(DEEP, "PNG"),
    "palette.gif": hostile.palette_with_transparency(),
    "turned.jpg": hostile.encoded(hostile.photograph(2), "JPEG", exif=TURNED),
}
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def ads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 160 posters, six files that no one can read, four that need care, and the manifests of both."""
    folder = tmp_path_factory.mktemp("ads")
    (folder / "images").mkdir()
    rows = [(f"images/{name}", label) for name, label in tiny.written(folder / "images")]
    for name, content in [*((name, content) for name, (content, _) in REFUSED.items()), *READ.items()]:
        (folder / "images" / name).write_bytes(content)
        rows.append((f"images/{name}", "acceptable"))
    rows += [("images/nowhere.png", "defective"), ("../../etc/passwd", "defective"), ("images/cmyk.png", "perhaps")]
    (folder / "images" / "twice.png").write_bytes((folder / rows[0][0]).read_bytes())
    rows.append(("images/twice.png", rows[0][1]))
    pd.DataFrame(rows, columns=["image", "label"]).to_csv(folder / "ads.csv", index=False)
    new = [row[0] for row in rows[:5]] + ["images/bomb.png", "images/empty.png", "images/deep.png"]
    pd.DataFrame({"picture": new}).to_csv(folder / "new.csv", index=False)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(plain(asdict(tiny.settings()))))
    return folder


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*words: object) -> tuple[int, str, str]:
        try:
            cli.main([str(word) for word in words])
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        found = capsys.readouterr()
        return code, found.out, found.err

    return run


@pytest.fixture(scope="module")
def run(ads: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("files") / "run"
    cli.main(["moderate", str(ads / "ads.csv"), "--out", str(out), "--config", str(ads / "tiny.yaml"), "--seed", "5"])
    return out


def test_what_could_not_be_read_is_listed_and_counted(run):
    listed = pd.read_csv(run / "problems.csv").set_index("id")["reason"].to_dict()
    assert listed == {
        **{f"images/{name}": reason for name, (_, reason) in REFUSED.items()},
        "images/nowhere.png": "missing",
        "../../etc/passwd": "outside_root",
        "images/cmyk.png": "unknown_label",
        "images/twice.png": "near_duplicate",
    }
    counts = json.loads((run / "metrics.json").read_text())["data"]["left_out"]
    assert counts == pd.Series(listed).value_counts().to_dict()


def test_what_needed_care_took_part(run, ads):
    examples = pd.read_parquet(run / "examples.parquet").set_index("id")
    assert {f"images/{name}" for name in READ} <= set(examples.index)
    assert examples["score"].between(0, 1).all()
    assert (examples["image"] == examples.index).all()
    groups = pd.read_csv(run / "duplicates.csv")
    assert {"images/twice.png"} < set(groups["id"])


def test_config_yaml_can_be_given_back(run, ads, command):
    """To the same command, which then finds everything done and writes the same file."""
    before = {name: (run / name).read_bytes() for name in ("config.yaml", "metrics.json")}
    told = yaml.safe_load(before["config.yaml"])
    assert (told["seed"], told["manifest"]) == (5, str(ads / "ads.csv"))
    lines = len((run / "log.jsonl").read_text().splitlines())
    code, _, err = command("moderate", "--config", run / "config.yaml", "--out", run)
    assert code == 0, err
    assert {name: (run / name).read_bytes() for name in before} == before
    events = [json.loads(line)["event"] for line in (run / "log.jsonl").read_text().splitlines()[lines:]]
    assert set(events) == {"stage kept"}


def test_predict(run, ads, command, tmp_path):
    out = tmp_path / "deep" / "scores.parquet"
    code, said, _ = command("predict", run, ads / "new.csv", "--columns.image", "picture", "--out", out)
    assert code == 0
    table = pd.read_parquet(out)
    assert table["id"].tolist() == [*(f"images/{row}.png" for row in range(5)), "images/deep.png"]
    facts = json.loads((run / "model" / "config.json").read_text())
    expected = np.where(table["score"] > facts["thresholds"]["0.01"], "acceptable", "defective")
    assert table["decision"].tolist() == expected.tolist()
    assert (table["threshold"] == facts["thresholds"]["0.01"]).all()
    assert pd.read_csv(out.with_suffix(".csv"))["decision"].tolist() == expected.tolist()
    examples = pd.read_parquet(run / "examples.parquet").set_index("id")
    assert np.allclose(table["score"], examples.loc[table["id"], "score"], atol=1e-4)
    left_out = pd.read_csv(out.parent / "scores-problems.csv")
    assert dict(zip(left_out["id"], left_out["reason"], strict=True)) == {
        "images/bomb.png": "too_many_pixels",
        "images/empty.png": "empty",
    }
    assert said.startswith("6 images scored, ")
    assert "2 left out: " in said


def test_a_decision_at_another_rate(run, ads, tmp_path):
    at = {}
    for rate in (0.01, 0.05):
        out = tmp_path / "scores.csv"
        at[rate], _ = recipes.predict(run, ads / "new.csv", out, fpr=rate, columns=Columns(image="picture"))
        assert pd.read_csv(out)["decision"].tolist() == at[rate]["decision"].tolist()
    examples = pd.read_parquet(run / "examples.parquet")
    test = examples[(examples["split"] == "test") & (examples["label"] == 0)]
    for rate in (0.2, 0.5):
        table, _ = recipes.predict(
            run, ads / "new.csv", tmp_path / "other.csv", fpr=rate, columns=Columns(image="picture")
        )
        assert (test[SCORE] > table["threshold"][0]).mean() <= rate
    assert at[0.01]["score"].equals(at[0.05]["score"])
    assert (at[0.01]["decision"] == "defective").sum() >= (at[0.05]["decision"] == "defective").sum()


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["--fpr", "1"], r"--fpr=1.0 must be a number in \(0, 1\)"),
        (["--out", "scores.xlsx"], r"out='scores.xlsx' must end in .parquet or .csv"),
        ([], r"new.csv has no column 'image' for 'image' \(map it by --columns.image\); it has: picture"),
        (["--columns.image", "pictures"], r"no column 'pictures' .*; did you mean 'picture'\?"),
    ],
)
def test_mistakes_of_predict(run, ads, command, words, answer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = command("predict", run, ads / "new.csv", *words)
    assert code == 2
    assert err.count("\n") == 1
    assert re.search(answer, err), err


def test_predict_takes_a_folder(run, ads, command, tmp_path):
    code, said, _ = command("predict", run, ads / "images", "--out", tmp_path / "scores.csv")
    assert code == 0
    table = pd.read_csv(tmp_path / "scores.csv")
    assert len(table) == 160 + len(READ) + 1
    assert f"{len(REFUSED)} left out" in said
    alone = pd.read_parquet(run / "examples.parquet").set_index("image")[SCORE]
    assert np.allclose(table["score"], alone.reindex("images/" + table["image"]), atol=1e-6)


def test_the_labels_in_doubt_are_a_list_that_a_person_can_open(run):
    listed = pd.read_csv(run / "relabel.csv")
    examples = pd.read_parquet(run / "examples.parquet").set_index("image")
    assert listed["image"].is_unique
    doubted = examples[examples["doubted"] & (examples["split"] != "left_out")]
    assert set(listed["image"]) == set(doubted.index)
    assert listed["suspicion"].is_monotonic_decreasing
    names = np.array(["defective", "acceptable"])
    assert (listed["label"] == names[examples.loc[listed["image"], "label"]]).all()
    assert (listed["label"] != listed["suspected"]).all()
    model = r"(the model says \w+ \(\d+%\)|the model finds \w+ \d+% probable, where \d+% is usual for the label \w+)"
    assert listed["reason"].str.match(model + r", plain fine-tuning (too|says \w+) \(\d+%\)$").all()
    assert pd.read_csv(run / "examples.csv")["id"].tolist() == pd.read_parquet(run / "examples.parquet")["id"].tolist()


def test_nothing_to_score_lists_why(run, ads, command, tmp_path):
    (ads / "bad.csv").write_text("image\nimages/empty.png\n")
    code, _, err = command("predict", run, ads / "bad.csv", "--out", tmp_path / "scores.csv")
    assert code == 2
    assert "only 0 images are left and 1 are needed; 1 left out: empty 1. See scores-problems.csv." in err
    assert pd.read_csv(tmp_path / "scores-problems.csv")["id"].tolist() == ["images/empty.png"]


def test_too_little_to_learn_from_lists_why(ads, command, tmp_path):
    few = pd.read_csv(ads / "ads.csv").iloc[150:]
    few.to_csv(ads / "few.csv", index=False)
    code, _, err = command(
        "moderate", ads / "few.csv", "--out", tmp_path / "run", "--scale", "pocket", "--config", ads / "tiny.yaml"
    )
    assert code == 2
    assert "labelled examples are left and 40 are needed" in err
    assert len(pd.read_csv(tmp_path / "run" / "problems.csv")) >= len(REFUSED)


def test_the_reason_names_who_contradicts_and_copies_with_both_labels(tmp_path):
    score = np.array([0.2, 0.9, 0.4, 0.5])
    examples = pd.DataFrame(
        {
            "id": ["a", "=b", "c", "d"],
            "image": ["a.png", "b.png", "", "d.png"],
            "label": [1, 0, 0, -1],
            "split": "train",
            "score": score,
            "score_fine_tuned": [0.3, 0.2, 0.3, 0.5],
            **doubts([1, 0, 0, -1], np.stack([1 - score, score], 1)),
        }
    )
    examples.to_parquet(tmp_path / "examples.parquet")
    (tmp_path / "metrics.json").write_text('{"data": {"classes": ["defective", "acceptable"]}}')
    pd.DataFrame({"id": ["=b", "b2"], "conflict": [True, True]}).to_csv(tmp_path / "duplicates.csv", index=False)
    listed = relabel_table(tmp_path)
    assert listed.index.tolist() == [1, 0]
    assert listed.to_dict("records") == [
        {
            "id": "=b", "image": "b.png", "split": "train", "label": "defective", "suspected": "acceptable", "suspicion": 0.9,
            "reason": "the model says acceptable (90%), plain fine-tuning says defective (80%); copies of the picture have "
            "both labels",
        },
        {
            "id": "a", "image": "a.png", "split": "train", "label": "acceptable", "suspected": "defective", "suspicion": 0.8,
            "reason": "the model says defective (80%), plain fine-tuning too (70%)",
        },
    ]  # fmt: skip
    write_table(tmp_path / "relabel.csv", listed)
    assert pd.read_csv(tmp_path / "relabel.csv")["id"].tolist() == ["'=b", "a"]  # no formula for a spreadsheet


def test_report_is_written_anew(run, command):
    before = (run / "report.html").read_text()
    (run / "report.html").unlink()
    code, said, _ = command("report", run)
    assert code == 0
    assert said == f"report: {run / 'report.html'}\n"
    assert (run / "report.html").read_text() == before


def test_a_folder_with_a_subfolder_for_each_label(ads, tmp_path):
    posters = digit_posters(2, train=(30, 40), validation=(2, 2), test=(2, 2), unlabelled=1)
    for row in posters.rows("train").tolist():
        place = tmp_path / "ads" / ["defective", "acceptable"][posters.labels[row]]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(posters.images[row].permute(1, 2, 0).numpy()).save(place / f"{row}.png")
    task = moderation_task(tmp_path / "ads", tiny.settings())
    assert task.title == "ads"
    assert len(task.images) == 70
    assert int((task.labels == 0).sum()) == int((posters.labels[posters.rows("train")] == 0).sum())
    assert set(task.table["split"]) == {"train", "teacher_val", "teacher_test", "student_val", "test"}


def test_the_stored_model_scores_one_image_alike(run, ads):
    model, _ = load_committee(run / "model")
    with torch.no_grad():
        alone = float(acceptability(model(read_image(ads / "images" / "0.png", 24)[None]))[0])
    examples = pd.read_parquet(run / "examples.parquet").set_index("id")
    assert alone == pytest.approx(examples.loc["images/0.png", "score"], abs=1e-4)


SIDES: dict[str, Any] = {"primary": {"name": "label"}, "sides": ({"name": "side"},)}
READERS: dict[str, tuple[Callable[..., Any], Any]] = {
    "auxiliary": (partial(auxiliary.auxiliary_task, **SIDES), auxiliary.pocket()),
    "distill": (distill.distill_task, replace(distill.pocket(), shares=distill.Shares(0.25, 0.25, 0.25))),
    "moderation": (moderation_task, tiny.settings()),
    "multilabel": (multilabel.multilabel_task, replace(multilabel.pocket(), val=0.25, test=0.25)),
}


@pytest.mark.parametrize("name", READERS)
def test_images_that_do_not_fit_in_memory_are_decoded_once(
    name: str, ads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, settings = READERS[name]
    monkeypatch.setattr(image_table, "read_once", lambda files, ids, memory, *others: read_once(files, ids, 0, *others))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    table = pd.read_csv(ads / "ads.csv").head(160).assign(side="left")
    table.to_csv(ads / f"{name}.csv", index=False)
    images = read(str(ads / f"{name}.csv") if name != "moderation" else ads / f"{name}.csv", settings=settings).images
    assert list((tmp_path / "tutelage" / "images").rglob("*.safetensors"))
    first = images.images.gather([0])
    monkeypatch.setattr("tutelage.data.table.decode", None)  # of which nothing is asked any more
    assert torch.equal(images.images.gather([0]), first)
