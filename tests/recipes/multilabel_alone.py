"""`tutelage multilabel` on a task so small that it takes a second: a program that can be started several times."""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from tutelage import recipes
from tutelage.generations import IteratedSettings
from tutelage.recipes import multilabel as recipe
from tutelage.recipes.multilabel import evaluation, grids_task
from tutelage.training import Budget, checkpoint


def task() -> recipe.MultilabelTask:
    """Grids of which every fourth training image has no label."""
    made = grids_task(0, train=160, val=60, test=60)
    bare = made.images.rows("train")[::4]
    made.given_NC[bare] = False
    split, label = (made.images.table[name].to_numpy(copy=True) for name in ("split", "label"))
    split[bare], label[bare] = "unlabelled", -1
    made.images = type(made.images)(made.images.images, made.images.table.assign(split=split, label=label))
    return made


def settings() -> recipe.MultilabelSettings:
    return replace(
        recipe.pocket(),
        budget=Budget(steps=12),
        iterated=IteratedSettings(3, 2, rho=0.1),
        model=replace(recipe.pocket().model, options={"width": 8, "depth": 1}),
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    evaluation.RESAMPLES = 10
    checkpoint.due = lambda *_: True  # type: ignore[assignment]
    print(recipes.run("multilabel", task(), settings(), Path(sys.argv[1]), quiet=True).folder)
