"""The folder of a moderation run as `tutelage moderate` leaves it, made in a moment: real images, drawn scores."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from safetensors.torch import save_file

from tutelage.data import Problems
from tutelage.data.posters import digit_posters
from tutelage.metrics import (
    auroc,
    average_precision,
    bootstrap,
    doubts,
    lift_at_fpr,
    local_precision,
    normalised_mutual_information,
    npv_at_fpr,
    npv_floor,
    paired_bootstrap,
    purity,
    recall_at_fpr,
    threshold_at_fpr,
)

RATES = ("0.01", "0.05")
SIZES = {"train": (160, 600), "validation": (200, 500), "test": (160, 640), "unlabelled": 60}


def fake_run(
    folder: Path, *, seed: int = 0, subtasks: int = 12, gain: float = 0.9, sizes: dict | None = None, **text: str
) -> Path:
    """Write a run's folder.

    Args:
        gain: by how much the student separates the classes better than plain fine-tuning does.
        text: id, headline, title, reason: put in the place of the first image's and the first sub-task's.
    """
    rng = np.random.default_rng(seed)
    posters = digit_posters(seed, **(sizes or SIZES))
    table = posters.table
    truth, label, split = table["true_label"].to_numpy(), table["label"].to_numpy(), table["split"].to_numpy()

    def scores(separation: float) -> np.ndarray:
        log_odds = rng.normal(separation * (2 * truth - 1) + 0.35 * np.where(label < 0, 0, 2 * label - 1), 1.0)
        return 1 / (1 + np.exp(-2 * log_odds))

    fine_tuned, student = scores(1.0), scores(1.0 + gain)
    assigned = (split == "train") & (label == 0)
    part = table["true_subtask"].to_numpy()
    guess = np.where(rng.random(len(table)) < 0.8, part + 1, rng.integers(0, 6, len(table)))
    subtask = np.where(assigned, (2 * guess + rng.integers(0, 2, len(table))) % subtasks, -1)
    examples = pd.DataFrame(
        {
            "id": table["id"],
            "image": "",
            "label": label,
            "split": split,
            "subtask": subtask,
            "subtask_confidence": np.where(assigned, rng.beta(5, 2, len(table)), np.nan),
            "score": student,
            "score_fine_tuned": fine_tuned,
            **doubts(label, np.stack([1 - student, student], 1)),
            "headline": [f"Digits for everyone, offer {i % 97}" for i in range(len(table))],
            "true_label": truth,
            "true_subtask": part,
        }
    )
    verdicts = _verdicts(examples, rng, subtasks, text.get("reason"))
    kept = verdicts["kept"].to_numpy()
    examples["subtask_kept"] = pd.array([bool(kept[k]) if k >= 0 else pd.NA for k in subtask], dtype="boolean")
    most_doubted = examples["suspicion"].idxmax()
    examples.loc[most_doubted, "id"] = text.get("id", examples.loc[most_doubted, "id"])
    examples.loc[most_doubted, "headline"] = text.get("headline", "Sevens in all sizes")

    problems = Problems()
    for i, reason in enumerate(["unreadable"] * 3 + ["near_duplicate"] * 5 + ["unknown_label"]):
        problems.add(text.get("id", f"ad-{i}"), reason, "the file ends after 512 bytes" if i < 3 else "see the list")
    duplicates = pd.DataFrame(
        [
            (group, f"ad-{3 * group + k}", reason, k == 0, 0, group == 2)
            for group, reason in enumerate(("headline", "image", "headline+image"))
            for k in range(2 + (group == 1))
        ],
        columns=["group", "id", "reason", "kept", "label", "conflict"],
    )
    test = split == "test"
    metrics = {
        "pipeline": {
            "recipe": "moderation",
            "title": text.get("title", "digit posters, uniform noise"),
            "seed": seed,
            "fpr": 0.01,
        },
        "data": {
            "classes": ["defective", "acceptable"],
            "counts": {
                str(name): {
                    kind: int(((split == name) & (label == of)).sum())
                    for kind, of in (("defective", 0), ("acceptable", 1), ("unlabelled", -1))
                }
                for name in ("train", "teacher_val", "teacher_test", "student_val", "test", "unlabelled")
            },
            "left_out": problems.counts(),
            "duplicates": len(duplicates),
            "label_noise": float((truth != label)[split == "train"].mean()),
        },
        "floor": {r: npv_floor(int((truth[test] == 0).sum()), int((truth[test] == 1).sum()), float(r)) for r in RATES},
        "model": _judged(student[test], truth[test]),
        "fine_tuned": _judged(fine_tuned[test], truth[test]),
        "difference": {
            "npv_at_fpr": {
                rate: _plain(
                    paired_bootstrap(
                        partial(npv_at_fpr, fpr=float(rate)),
                        student[test],
                        fine_tuned[test],
                        truth[test],
                        resamples=200,
                    )
                )
                for rate in RATES
            }
        },
        "candidates": {
            name: {
                "npv_at_fpr": {r: npv_at_fpr(found[test], truth[test], float(r)) for r in RATES},
                "auroc": auroc(found[test], truth[test]),
            }
            for name, found in (("fine_tuned", fine_tuned), ("fine_tuned+student", student))
        },
        "choice": {
            "chosen": "fine_tuned+student",
            "why": "no other candidate explains held-out labels better",
            "judged_on": int((split == "student_val").sum()),
            "candidates": {
                "fine_tuned": {"held_out_auroc": 0.7, "gain": 0.0, "standard_error": 0.0},
                "fine_tuned+student": {"held_out_auroc": 0.75, "gain": 0.0123, "standard_error": 0.0045},
            },
        },
        "labels": {
            "false_acceptable": 0.2,
            "false_defective": 0.2,
            "held_out": 700,
            "sure": 400,
            "contradicted": 60,
            "at_most": 0.19,
            "too_few": True,
        },
        "calibration": {"error": 0.0321, "error_uncalibrated": 0.1234},
        "corrected": None,
        "alarms": [],
        "token_cosine": {"student": 0.4321, "fine_tuned": 0.5678},
        "subtasks": {
            "count": subtasks,
            "kept": int(kept.sum()),
            "competence": "precision",
            "threshold": 0.3,
            "nmi": normalised_mutual_information(part[assigned & (part >= 0)], subtask[assigned & (part >= 0)]),
            "purity": purity(part[assigned & (part >= 0)], subtask[assigned & (part >= 0)]),
        },
    }
    metrics["thresholds"] = metrics["model"]["threshold"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2))
    examples.to_parquet(folder / "examples.parquet", index=False)
    verdicts.to_parquet(folder / "subtasks.parquet", index=False)
    inside = examples[examples["subtask"] >= 0].sort_values("subtask_confidence", ascending=False)
    shown = sorted({*inside.groupby("subtask").head(12).index, *examples.nlargest(48, "suspicion").index})
    save_file(
        {"rows": torch.tensor(shown), "images": posters.images.gather(shown).contiguous()},
        folder / "gallery.safetensors",
    )
    problems.write(folder)
    duplicates.to_csv(folder / "duplicates.csv", index=False)
    (folder / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in _events(rng)))
    (folder / "config.yaml").write_text(yaml.safe_dump(_CONFIG, sort_keys=False))
    return folder


def _plain(found) -> dict[str, float]:
    return {"value": found.value, "low": found.low, "high": found.high}


def _judged(scores: np.ndarray, labels: np.ndarray) -> dict:
    def interval(metric) -> dict[str, float]:
        return _plain(bootstrap(metric, scores, labels, resamples=200))

    named = (("npv_at_fpr", npv_at_fpr), ("lift_at_fpr", lift_at_fpr), ("recall_at_fpr", recall_at_fpr))
    return {
        **{name: {rate: interval(partial(metric, fpr=float(rate))) for rate in RATES} for name, metric in named},
        "auroc": interval(auroc),
        "average_precision": interval(partial(average_precision, positive=0)),
        "threshold": {rate: threshold_at_fpr(scores, labels, float(rate)) for rate in RATES},
    }


def _verdicts(examples: pd.DataFrame, rng: np.random.Generator, count: int, reason: str | None) -> pd.DataFrame:
    """The specialists' figures, from drawn scores on teacher-test; the last one's training has failed."""
    on = examples[examples["split"] == "teacher_test"]
    labels, part = on["true_label"].to_numpy(), on["true_subtask"].to_numpy()
    rows = []
    for k in range(count):
        members = examples[examples["subtask"] == k]
        skill = 3.0 * float((members["true_label"] == 0).mean()) if len(members) else 0.0
        scores = rng.normal(-skill * (part == (k // 2 - 1)), 1.0)
        precision = bootstrap(local_precision, scores, labels, resamples=100)
        keep = precision.value >= 0.3
        rows.append(
            {
                "subtask": k,
                "size": len(members),
                "confidence": float(members["subtask_confidence"].mean()),
                "npv": npv_at_fpr(scores, labels, 0.01),
                "auroc": auroc(scores, labels),
                "local_precision": precision.value,
                "competence": precision.value,
                "competence_low": precision.low,
                "competence_high": precision.high,
                "kept": keep,
                "reason": f"local precision {precision.value:.3f} {'reaches' if keep else 'is below'} 0.300",
            }
        )
    figures = ("npv", "auroc", "local_precision", "competence", "competence_low", "competence_high")
    rows[-1] |= dict.fromkeys(figures, np.nan) | {
        "kept": False,
        "reason": "its training failed: RuntimeError: no defect",
    }
    rows[0]["reason"] = reason or rows[0]["reason"]
    return pd.DataFrame(rows)


def _events(rng: np.random.Generator) -> list[dict]:
    """A log: discovery, four specialists apart, and the two models; the student was interrupted and resumed."""
    events: list[dict] = []

    def told(event: str, **values: object) -> None:
        events.append({"time": 1.79e9 + len(events), "event": event, **values})

    def trained(name: str, steps: range, signals: dict[str, float], validated: bool = True) -> None:
        for step in steps:
            noise = rng.normal(0, 0.015, len(signals) + 1)
            losses = {
                signal: last + 0.7 * float(np.exp(-step / 90)) + noise[i]
                for i, (signal, last) in enumerate(signals.items())
            }
            val = {"val": 0.2 + 0.35 * (1 - float(np.exp(-step / 120))) + noise[-1]} if validated else {}
            told("evaluation", name=name, step=step, epoch=step // 30, **losses, **val)

    told("stage started", stage="discovery-12-20")
    trained("encoder pocket_resnet", range(100, 601, 100), {"label None": 0.1}, validated=False)
    trained("discovery", range(5, 101, 5), {"self-label": 0.4}, validated=False)
    told("stage started", stage="specialists-12-20")
    for k in range(4):
        trained(f"specialist-{k}", range(30, 241, 30), {"membership": 0.05 * k})
    told("stage started", stage="student")
    trained("student", range(30, 151, 30), {"label cls": 0.35, "distillation dist": 0.2})
    told("resumed", name="student", step=120)
    trained("student", range(150, 301, 30), {"label cls": 0.35, "distillation dist": 0.2})
    told("stage started", stage="fine-tuned")
    trained("fine-tuned", range(30, 301, 30), {"label cls": 0.3, "label dist": 0.32})
    told("stage done", stage="fine-tuned")
    return events


_CONFIG = {
    "task": "digit posters, uniform noise",
    "seed": 0,
    "fpr": 0.01,
    "image_size": 24,
    "augmentation": "shift",
    "student": {"name": "pocket_deit", "pretrained": None, "dropout": 0.0, "options": {}},
    "specialist": {"name": "pocket_resnet", "pretrained": None, "dropout": 0.0, "options": {}},
    "training": {"optimizer": "adamw", "lr": 0.001, "betas": [0.9, 0.999], "schedule": "cosine", "batch_size": 128},
    "budget": {"steps": 300, "epochs": None},
    "discovery": {"subtasks": 12, "lam": 25.0, "sinkhorn": {"tolerance": 1e-3, "anneal": True}},
    "selection": {"rule": "precision", "threshold": 1.5, "flagged": 0.02},
}
