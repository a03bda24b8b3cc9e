"""What is done with a finished run is the business of the recipe that made it: one table for each thing that can be done."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tutelage.recipes import auxiliary, denoise, distill, moderation, multilabel
from tutelage.reports import (
    write_auxiliary_report,
    write_denoise_report,
    write_distill_report,
    write_multilabel_report,
    write_report,
)

Score = Callable[..., str]
"""``score(run, data, out, fpr=..., columns=...)`` writes the table ``out`` and returns a sentence about it."""

SCORES: dict[str, Score] = {
    "auxiliary": auxiliary.score_run,
    "denoise": denoise.score_run,
    "distill": distill.score_run,
    "moderation": moderation.score_run,
    "multilabel": multilabel.score_run,
}
REPORTS: dict[str, Callable[[Path], Path]] = {
    "auxiliary": write_auxiliary_report,
    "denoise": write_denoise_report,
    "distill": write_distill_report,
    "moderation": write_report,
    "multilabel": write_multilabel_report,
}


def recipe_of(run: Path) -> str:
    """Return which recipe made a run: ``pipeline.recipe`` of its metrics.json, moderation where that says nothing."""
    path = run / "metrics.json"
    facts = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return facts.get("pipeline", {}).get("recipe", "moderation")
