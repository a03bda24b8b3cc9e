"""What a person checks after a run: the labels in doubt on one page, and a sample of the test, whose answers it takes back."""

from __future__ import annotations

import base64
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tutelage.checks import check_number
from tutelage.data.cells import read_cells
from tutelage.data.problems import Problems
from tutelage.decoding import Limits, UnreadableImage, locate, preview, read_bytes
from tutelage.files import literal, read_json, read_parquet, write_atomically, write_table
from tutelage.production.sampling import inclusion_probabilities, pivotal
from tutelage.recipes.finished import recipe_of, report, require_decides
from tutelage.recipes.moderation.answers import ANSWERS, DRAWN, FOLDER, VERDICTS, answers_of
from tutelage.recipes.moderation.corrected import corrected_figures, lessons
from tutelage.recipes.moderation.evaluation import ignorance
from tutelage.recipes.moderation.judged import JudgedTest
from tutelage.recipes.moderation.recipe import npv_lines
from tutelage.recipes.moderation.trust import alarms_of
from tutelage.recipes.relabel import FILE
from tutelage.reports.page import rendered
from tutelage.reports.plots import inlined
from tutelage.reports.run_folder import RunFolder

SHOWN = 200  # rows of the page
SIDE = 160  # pixels of a picture
CHECK = "check.csv"
LEAST = (
    0.01  # the least probability of being wrong by which images are drawn: a surprise among sure labels stays possible
)


def write_page(run: Path) -> tuple[Path, int]:
    """Write ``relabel.csv`` and ``review/review.html`` of a finished run; return the page and how many labels are in doubt.

    Raises:
        FileNotFoundError: no finished run.
        ValueError: a run of a recipe that has no labels to doubt.
    """
    recipe = recipe_of(run)
    if recipe.doubts is None:
        raise ValueError(f"{run} is a run of {recipe.name}, which says nothing of single labels")
    table = recipe.doubts(run)
    write_table(run / FILE, table)
    folder = RunFolder(run)
    head = table.head(SHOWN)
    shown = head.astype(object).where(head.notna(), None).to_dict("records")
    images = "image" in table or recipe.examples == "images"
    for row, picture in zip(shown, pictures(folder, head) if images else [None] * len(head), strict=True):
        row["picture"] = picture
    drawn = run / FOLDER / DRAWN
    values = {
        "title": folder.metrics["pipeline"]["title"],
        "recipe": recipe.name,
        "images": images,
        "shown": shown,
        "doubted": len(table),
        "missing": recipe.lacks,
        "list": FILE,
        "check": CHECK if drawn.is_file() else None,
        "drawn": len(read_parquet(drawn)) if drawn.is_file() else 0,
        "checked": (folder.metrics.get("corrected") or {}).get("checked"),
    }
    html = rendered("review.html", values)
    path = run / FOLDER / "review.html"
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, lambda temporary: temporary.write_text(html, encoding="utf-8"))
    return path, len(table)


def pictures(run: RunFolder, rows: pd.DataFrame) -> list[str | None]:
    """Return a picture for each row as a data URI: from the image's file where it is there, else from the run's gallery."""
    config = run.config or {}
    source = Path(str(config.get("manifest") or config.get("data") or "."))
    root = source if source.is_dir() else source.parent
    ids = read_parquet(run.folder / "examples.parquet", columns=["id"])["id"].astype(str).tolist()
    gallery = {ids[place]: picture for place, picture in run.gallery.items() if place < len(ids)}
    found: list[str | None] = []
    for path, id in zip(rows["image"] if "image" in rows else [""] * len(rows), rows["id"].astype(str), strict=True):
        try:
            if not path:
                raise UnreadableImage("missing", "no path")
            jpeg = preview(read_bytes(locate(root, str(path)), Limits()), SIDE)
            found.append(f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}")
        except UnreadableImage:
            found.append(inlined([gallery[id]]) if id in gallery else None)
    return found


def draw_test(run: Path, count: int, seed: int = 0) -> pd.DataFrame | None:
    r"""Draw the test images that a person should check; what was drawn once stays, since its probabilities count.

    .. math:: \pi_i \propto \sqrt{\max(q_i, 0.01)}

    with q the probability that the label is wrong: the allocation of Neyman for the number of wrong labels.
    ``review/check.csv`` lists the images in random order without their labels, so that whoever checks is not led by them.

    Args:
        run: folder of a finished moderation run.
        count: how many, fewer where the test has fewer.
        seed: of the draw.

    Returns:
        id, image and probability of each, or None where the test's true labels are known.

    Raises:
        ValueError: no number, a run of another recipe, or another number than was drawn before.
    """
    check_number("check", count, "[1, inf)", int)
    test = _test(run)
    if "true_label" in test:
        return None
    path = run / FOLDER / DRAWN
    size = min(count, len(test))
    if path.is_file():
        drawn = read_parquet(path)
        if len(drawn) != size or not set(drawn["id"]) <= set(test["id"]):
            raise ValueError(
                f"check={count}: {len(drawn)} test images were drawn before, and answers about them count by that draw; give "
                f"check={len(drawn)}, or remove {path.parent}, answers and all, to draw anew"
            )
        return drawn
    rng = np.random.default_rng(seed)
    probability = inclusion_probabilities(np.sqrt(np.maximum(test["suspicion"], LEAST)), size)
    places = rng.permutation(pivotal(probability, rng))
    drawn = test.iloc[places].assign(probability=probability[places])
    path.parent.mkdir(exist_ok=True)
    asked = drawn[[name for name in ("id", "image", "headline") if name in drawn]].assign(label="")
    write_table(path.parent / CHECK, asked)
    kept = drawn[["id", "image", "probability"]].reset_index(drop=True)
    write_table(path, kept)
    return kept


def take_answers(run: Path, file: Path) -> str:
    """Take answers about test images, and write the run's figures, thresholds and report by them; say what has changed.

    Args:
        run: folder of a finished moderation run of which test images were drawn.
        file: CSV or Parquet file with columns id and label: ``review/check.csv`` filled in, or ``labels.csv`` of
            `tutelage audit report`. A label is acceptable, defective, or empty or unsure for no answer.

    Raises:
        FileNotFoundError: no such file or run.
        ValueError: no draw, a column that is missing, other labels, or no answer about a test image.
    """
    test = _test(run)
    folder = run / FOLDER
    if not (folder / DRAWN).is_file():
        raise ValueError(f"answers={str(file)!r}: no test image of {run} was drawn; run tutelage review {run} first")
    table = read_cells(file, Problems()).map(literal)
    if missing := {"id", "label"} - set(table):
        raise ValueError(f"{file} has no column {min(missing)}; it has {', '.join(map(str, table))}")
    said = table["label"].str.lower()
    if other := sorted(set(said) - {*VERDICTS, "unsure", ""}):
        raise ValueError(f"{file} has the label {other[0]!r}; write acceptable, defective, or nothing")
    given = table.assign(label=said)[said.isin(list(VERDICTS))].drop_duplicates("id", keep="last")[["id", "label"]]
    of_test = given[given["id"].isin(set(test["id"].astype(str)))]
    if of_test.empty:
        raise ValueError(f"{file} has no answer about a test image of {run}")
    before = folder / ANSWERS
    if before.is_file():
        kept = pd.read_csv(before, dtype=str, keep_default_na=False).map(literal)
        of_test = pd.concat([kept[~kept["id"].isin(of_test["id"])], of_test], ignore_index=True)
    write_table(before, of_test)
    metrics = _rejudged(run)
    found, fpr = metrics["corrected"], f"{metrics['pipeline']['fpr']:g}"
    checked = found["checked"]
    lines = [
        f"{len(of_test)} of {checked['drawn']} drawn test images are checked, {checked['wrong']} labels were wrong; of all "
        f"test labels 'defective' about {checked['wrong_of_defective']:.1%} are wrong, of 'acceptable' "
        f"{checked['wrong_of_acceptable']:.1%}",
        *npv_lines(metrics, fpr),
        f"tutelage predict decides by the threshold {metrics['thresholds'][fpr]:.4f} from now on",
        f"assumed: {found['assumed']}",
        *(f"ALARM: {alarm}" for alarm in metrics["alarms"]),
    ]
    if others := len(given) - int(given["id"].isin(set(test["id"].astype(str))).sum()):
        lines.insert(1, f"{others} answers are about other images: correct these labels in your table, and train again")
    return "\n".join(lines)


def _test(run: Path) -> pd.DataFrame:
    require_decides(run)
    examples = read_parquet(run / "examples.parquet")
    return examples[(examples["split"] == "test") & (examples["label"] >= 0)]


def _rejudged(run: Path) -> dict[str, Any]:
    """Write metrics.json, the model's thresholds and the report by the answers; return the metrics."""
    metrics, examples = read_json(run / "metrics.json"), read_parquet(run / "examples.parquet")
    test = examples[examples["split"] == "test"]
    errors = metrics["labels"]["false_acceptable"], metrics["labels"]["false_defective"]
    rates = tuple(sorted(map(float, metrics["floor"])))
    scores = {"model": test["score"].to_numpy(float), "fine_tuned": test["score_fine_tuned"].to_numpy(float)}
    answers = answers_of(run, test["id"].astype(str).to_numpy())
    labels, seed = test["label"].to_numpy(np.int64), metrics["pipeline"]["seed"]
    kept = {name: f"score_{name}" for name in metrics["candidates"]}
    candidates = {name: test[column].to_numpy(float) for name, column in kept.items() if column in test}
    candidates[metrics["choice"]["chosen"]] = scores["model"]
    found = corrected_figures(scores, labels, errors, rates, seed, answers, candidates)
    assert found is not None
    thresholds = found["model"]["threshold"]
    given, split = examples["label"].to_numpy(np.int64), examples["split"].to_numpy()
    metrics |= {"corrected": found, "thresholds": thresholds}
    own = examples["score"].to_numpy(float)
    told = alarms_of(own, given, split, errors, thresholds, JudgedTest.of(test, errors, answers))
    metrics["alarms"] = [*told, *lessons(found, metrics["pipeline"]["fpr"]), *ignorance(metrics["model"]["auroc"])]
    config = run / "model" / "config.json"
    for path, content in (
        (config, {**read_json(config), "thresholds": thresholds}),
        (run / "metrics.json", metrics),
    ):
        write_atomically(path, partial(_written, json.dumps(content, indent=2) + "\n"))
    report(run)
    return metrics


def _written(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8")
