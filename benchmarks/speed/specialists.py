"""Specialists on one shared trunk beside one network each: processor time, and how well they judge, in one run.

    python -m benchmarks.speed.specialists

Digit posters, uniform noise, 8 sub-tasks by k-means, 3 passes over the data for every network. Writes
benchmarks/results/specialists.md.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks.moderation.baselines import k_means
from benchmarks.results_table import hardware, markdown_table
from tutelage.data.augment import augmentation
from tutelage.metrics import auroc
from tutelage.recipes.moderation import Pipeline, pocket, posters_task
from tutelage.subtasks import SpecialistSettings, train_specialists
from tutelage.training import Log, Plan

SUBTASKS, EPOCHS, SEED = 8, 3, 0


def main() -> None:
    torch.set_num_threads(1)
    task, settings = posters_task(SEED), pocket()
    settings = replace(settings, discovery=replace(settings.discovery, subtasks=SUBTASKS))
    with TemporaryDirectory() as folder:
        pipeline = Pipeline(task, settings, Path(folder), Log(None, quiet=True))
        subtask = k_means(pipeline)
        truth = task.judged_by()
        test = pipeline.rows("test")
        rows = []
        for sharing in ("trunk", "separate"):
            started = time.process_time()
            trained = train_specialists(
                lambda outputs: pipeline.new(settings.specialist, outputs),
                task.images.subset,
                subtask,
                task.labels,
                pipeline.rows("train"),
                task.images.subset(pipeline.rows("teacher_val")),
                SpecialistSettings(sharing=sharing, epochs=EPOCHS),
                Plan(
                    settings.budget,
                    settings.specialist_training,
                    augment=augmentation(settings.augmentation),
                    seed=SEED,
                ),
                count=SUBTASKS,
            )
            seconds = time.process_time() - started
            log_odds = trained.logits(task.images.subset(test)).double().numpy()
            areas = [auroc(log_odds[:, k], truth[test].numpy()) for k in range(SUBTASKS)]
            rows.append((sharing, seconds, float(np.mean(areas)), float(np.max(areas))))
    base = rows[0][1]
    table = markdown_table(
        ["specialists", "processor seconds", "times the trunk", "mean AUROC", "best AUROC"],
        [[name, f"{s:.0f}", f"{s / base:.1f}", f"{mean:.3f}", f"{best:.3f}"] for name, s, mean, best in rows],
    )
    heading = (
        "# Specialists: one trunk, or one network each\n\n"
        f"- Date: {datetime.now(UTC).date().isoformat()}\n- Hardware: {hardware()}, one thread\n"
        f"- Digit posters, uniform noise, {SUBTASKS} sub-tasks, {EPOCHS} epochs for each network; AUROC of each specialist "
        "against all defects of the test part, true labels\n\n"
    )
    Path("benchmarks/results/specialists.md").write_text(heading + table + "\n")
    print(heading + table)


if __name__ == "__main__":
    main()
