"""What a task's counts allow: as many sub-tasks as there are defects for, and windows that held-out examples fill."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from tutelage.recipes.moderation.found import Found
from tutelage.recipes.moderation.settings import ModerationSettings
from tutelage.recipes.moderation.task import ModerationTask
from tutelage.subtasks import Selection

PER_SUBTASK = 8  # defective training examples, on the average: fewer teach a specialist nothing
WINDOWS, LEAST = 4, 4  # into which the examples that judge specialists can be divided, and how many one has at least


def suited(task: ModerationTask, settings: ModerationSettings) -> tuple[ModerationSettings, list[str]]:
    """Return settings that ask for no more than the task's counts allow, and what was changed, in sentences.

    ``discovery.subtasks`` becomes at most an eighth of the defective training examples, and ``selection.window`` at most a
    quarter of the examples that specialists are judged on, down to 4. What is asked for and can be had stays as it is.
    """
    changed = []
    defects, asked = _defects(task), settings.discovery.subtasks
    if (subtasks := max(2, min(asked, defects // PER_SUBTASK))) < asked:
        settings = replace(settings, discovery=replace(settings.discovery, subtasks=subtasks))
        changed.append(
            f"{subtasks} sub-tasks are looked for instead of {asked}: there are {defects} defective examples"
        )
    judges, wide = len(_judges(task, settings)), settings.selection.window
    if (window := max(LEAST, min(wide, judges // WINDOWS))) < wide:
        settings = replace(settings, selection=replace(settings.selection, window=window))
        changed.append(
            f"operating points average over {window} examples instead of {wide}: specialists are judged on {judges}"
        )
    return settings, changed


def too_few(task: ModerationTask, settings: ModerationSettings) -> str:
    """Return why there are too few examples for sub-tasks, or nothing where there are enough."""
    defects = _defects(task)
    if defects < 2 * PER_SUBTASK:
        return f"{defects} defective training examples are too few for two sub-tasks of {PER_SUBTASK}"
    if len(_judges(task, settings)) == 0:
        return "there are too few validation examples to judge specialists by"
    return ""


def without_subtasks(task: ModerationTask, why: str) -> tuple[Found, Selection]:
    """Return what a run has found that looked for no sub-tasks: none, and no specialist."""
    rows, unlabelled, none = len(task.images), len(task.rows("unlabelled")), np.zeros(0)
    found = Found(
        torch.full((rows,), -1), torch.zeros(rows), torch.zeros(0), torch.zeros(unlabelled, 0), {"too_few": why}
    )
    measures = dict.fromkeys(("competence", "low", "high", "npv", "auroc", "local_precision", "p_value"), none)
    kept = none.astype(bool)
    return found, Selection(**measures, kept=kept, operating_point=none, reasons=[], threshold=np.nan)


def _defects(task: ModerationTask) -> int:
    return int((task.labels[task.rows("train")] == 0).sum())


def _judges(task: ModerationTask, settings: ModerationSettings) -> list[int]:
    both = settings.selection.judged_on == "both"
    rows = task.rows("teacher_val", "teacher_test") if both else task.rows("teacher_test")
    return rows[task.labels[rows] >= 0].tolist()
