"""From labels to an audited A/B test, on digit posters: the life of a moderation model, in one script.

    python examples/production.py

Two models are trained and exported: the incumbent, which has seen a third of the labels and lets two defects in five pass,
and the challenger, whose threshold guarantees that at most one in five does. They are served as variants; a year's first
twenty weeks of ads are scored; moderators, who here are simulated and sometimes wrong, judge a sample of what passed; and
the last lines are the paper's Table 3, how far the challenger reduced the share of impressions that went to defects.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import uvicorn
from PIL import Image

from tutelage import recipes
from tutelage.data import digit_posters
from tutelage.models import ModelSettings
from tutelage.production.audit_report import closing, table3, write_audit_report
from tutelage.production.audits import draw
from tutelage.production.decisions import Decision, DecisionLog, week_of
from tutelage.production.export import export
from tutelage.production.score import score
from tutelage.production.serving.app import application
from tutelage.production.serving.service import Service
from tutelage.production.serving.settings import ServiceSettings
from tutelage.production.variants import assign
from tutelage.production.verdicts import Desk
from tutelage.recipes.moderation import pocket, posters_task
from tutelage.subtasks import DiscoverySettings, SelectionSettings, SpecialistSettings
from tutelage.training import Budget

TOKEN = "sixteen-letters-at-least"
DEPLOYED = 4  # weeks after which the challenger begins


def main(steps: int = 100, folder: Path | None = None) -> float:
    """Run all of it in a folder, a temporary one by default, and return the challenger's WFPR."""
    if folder is None:
        with TemporaryDirectory() as temporary:
            return main(steps, Path(temporary))
    share = min(1.0, steps / 100)
    models = {
        "incumbent": trained(folder / "incumbent", max(steps // 2, 2), share / 3, 0.4),
        "challenger": trained(folder / "challenger", steps, share, 0.2, confidence=0.9),
    }
    ads = posters(folder / "ads", int(150 + 300 * share))
    log_path = folder / "decisions.sqlite"
    asked(models, folder / "ads", ads, log_path)
    scores = {name: scored(model, folder / "ads", folder / f"{name}.parquet") for name, model in models.items()}
    with DecisionLog(log_path) as log:
        defects = months(log, ads, scores, int(60 + 60 * share))
        print(draw(log.database, int(320 + 680 * share)).summary())
        judged(log, defects)
        found = write_audit_report(log.database, folder / "audit", "incumbent")
    print("\n".join([table3(found), *closing(found), f"report: {folder / 'audit' / 'report.html'}"]))
    return next(row["wfpr"] for row in found["variants"] if row["variant"] == "challenger")


def trained(out: Path, steps: int, share: float, fpr: float, confidence: float | None = None) -> Path:
    """Train small models on a share of the posters, and export with a threshold, guaranteed where there is a confidence."""
    examples: dict[str, Any] = {
        "train": (int(40 + 190 * share), int(80 + 970 * share)),
        "validation": (int(60 + 115 * share), int(120 + 600 * share)),
        "test": (60, 120),
        "unlabelled": int(50 + 1000 * share),
    }
    task = posters_task(0, **examples)
    task.pretraining = None
    settings = replace(
        pocket(),
        student=ModelSettings("pocket_deit", options={"embed_dim": 16, "depth": 1, "num_heads": 2}),
        specialist=ModelSettings("pocket_resnet", options={"widths": [4, 8]}),
        budget=Budget(steps=steps),
        discovery=DiscoverySettings(subtasks=4, lam=25.0, epochs=2),
        specialists=SpecialistSettings(sharing="trunk", epochs=1),
        selection=SelectionSettings(rule="top", threshold=0.5, flagged=0.5, window=4, significance=1.0),
    )
    run = recipes.run("moderation", task, settings, out / "run", quiet=True)
    card = export(run.folder, out / "model", task, fpr=fpr, confidence=confidence)
    bound = card["answer"]["thresholds"][f"{fpr:g}"]["guaranteed"]["bound"] if confidence else fpr
    how = f"of all, with confidence {confidence}" if confidence else "of the test part"
    print(f"{out.name}: at most {bound:.3f} of the defects pass, {how}")
    return out / "model"


def posters(folder: Path, count: int) -> pd.DataFrame:
    """Write new ads as files, one in five with a defect, and return the table of them, with the truth."""
    drawn = digit_posters(seed=1, test=(count // 5, count - count // 5), train=(1, 1), validation=(5, 5), unlabelled=0)
    rows = drawn.rows("test")
    folder.mkdir()
    table = drawn.table.iloc[rows.numpy()][["id", "true_label"]].reset_index(drop=True)
    table["image"] = [f"{name}.png" for name in table["id"]]
    for image, pixels in zip(table["image"], drawn.batch(rows.tolist())["input"].numpy(), strict=True):
        Image.fromarray(pixels.transpose(1, 2, 0)).resize((192, 192), Image.Resampling.NEAREST).save(folder / image)
    table[["id", "image"]].to_csv(folder / "ads.csv", index=False)
    return table


def asked(models: dict[str, Path], folder: Path, ads: pd.DataFrame, log: Path) -> None:
    """Serve both variants and ask about some ads by HTTP, each of them twice: the decision is one and the same."""
    service = Service(models, dict.fromkeys(models, 1.0), ServiceSettings())
    service.log = DecisionLog(log)
    server = uvicorn.Server(uvicorn.Config(application(service, TOKEN), port=0, log_level="error", lifespan="on"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    for name, image in zip(ads["id"][:5], ads["image"][:5], strict=True):
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "image/png", "X-Ad-Id": name}
        answers = []
        for _ in range(2):
            body = (folder / image).read_bytes()
            request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", body, headers)
            with urllib.request.urlopen(request, timeout=60) as answer:
                answers.append(json.load(answer))
        assert answers[0]["decision"] == answers[1]["decision"]
        print(f"{name}: {answers[0]['decision']} by {answers[0]['variant']}, score {answers[0]['score']:.2f}")
    server.should_exit = True
    thread.join(60)


def scored(model: Path, folder: Path, out: Path) -> pd.DataFrame:
    """Score all ads by an exported model, as `tutelage score` does."""
    score(model, folder / "ads.csv", out, processes=1)
    return pd.read_parquet(out).set_index("id")


def months(log: DecisionLog, ads: pd.DataFrame, scores: dict[str, pd.DataFrame], each: int) -> dict[str, bool]:
    """Let twenty weeks of ads be decided, the first four by the incumbent alone; return which ads have a defect."""
    generator = np.random.default_rng(0)
    decisions, shown, defects = [], [], {}
    for k in range(DEPLOYED + 16):
        day = date(2026, 1, 5) + timedelta(weeks=k)
        weights = {"incumbent": 1.0, "challenger": 1.0 if k >= DEPLOYED else 0.0}
        for place, row in enumerate(generator.choice(len(ads), each)):
            ad = ads.iloc[row]
            name = f"{week_of(day)}-{place}"
            variant = assign(name, weights)
            said = scores[variant].loc[ad["id"]]
            moment = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
            version = said["model_version"]
            decisions.append(
                Decision(
                    name,
                    version,
                    float(said["score"]),
                    said["decision"],
                    variant,
                    image=ad["image"],
                    headline=f"Poster {ad['id']}",
                    decided_at=moment,
                )
            )
            shown.append((name, week_of(day), float(generator.lognormal(6, 1))))
            defects[name] = ad["true_label"] == 0
    log.record_all(decisions)
    log.add_impressions(shown)
    return defects


def judged(log: DecisionLog, defects: dict[str, bool]) -> None:
    """Two moderators take turns until nothing is left; each is wrong once in fifty."""
    generator = np.random.default_rng(1)
    desk = Desk(log.database)
    waiting = ["Ann", "Ben"]
    while waiting:
        for moderator in list(waiting):
            item = desk.next(moderator)
            if item is None:
                waiting.remove(moderator)
                continue
            defective = defects[item.ad_id] != (generator.random() < 0.02)
            desk.give(item.id, moderator, "defective" if defective else "acceptable")


if __name__ == "__main__":
    main()
