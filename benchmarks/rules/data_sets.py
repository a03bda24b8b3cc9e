"""The data sets of AMAL's Table 2 from a folder: SMS and YouTube spam in WRENCH's form, IMDB as features and votes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from tutelage.data.text import Features, FeatureSettings
from tutelage.data.votes import Votes, read_wrench
from tutelage.recipes.denoise.task import RuleTask
from tutelage.training import seeds

NAMES = {"sms": "SMS", "imdb": "IMDB", "youtube": "YouTube"}
CLASSES = {"sms": ["ham", "spam"], "imdb": ["class 0", "class 1"], "youtube": ["ham", "spam"]}


@dataclass(frozen=True)
class Pool:
    """A data set whose labels are all known, from which every seed draws its few labelled texts.

    Attributes:
        name: sms, imdb or youtube.
        table: id, label, split, and text where there is one.
        votes: of the rules, (N, R).
        features: (N, D).
        labelled: how many texts of each class are labelled.
        seen: whether a test example, text or vector, also stands in the training part, (N,).
    """

    name: str
    table: pd.DataFrame
    votes: Votes
    features: Any
    labelled: list[int]
    seen: NDArray[np.bool_]

    def draw(self, seed: int, *, with_val: bool = False) -> RuleTask:
        """Return the task of a seed: as many labels of each class as published, drawn anew from the training part.

        Args:
            seed: of the draw.
            with_val: label the validation part for training too, as well as holding it out: what those labels are worth as
                mere labels.
        """
        table = self.table.copy()
        label = np.full(len(table), -1)
        train = (table["split"] == "train").to_numpy()
        for number, count in enumerate(self.labelled):
            rows = torch.from_numpy(np.flatnonzero(train & (table["label"] == number).to_numpy()))
            order = torch.randperm(len(rows), generator=seeds.generator(seed, "labelled", self.name, number))
            label[rows[order[:count]].numpy()] = number
        table["label"] = np.where(train, label, table["label"])
        features, votes = self.features, self.votes
        if with_val:
            copied = table[table["split"] == "val"].assign(split="train")
            rows = np.r_[: len(table), copied.index.to_numpy()]
            table = pd.concat([table, copied], ignore_index=True)
            features, votes = features[rows], votes.rows(rows)
        return RuleTask(f"{NAMES[self.name]}, seed {seed}", table, CLASSES[self.name], features, votes)


def read_pool(folder: Path, name: str, settings: FeatureSettings) -> Pool:
    """Read a data set.

    Args:
        folder: the one that holds ``sms/``, ``imdb/`` and ``youtube/``.
        name: which.
        settings: the features of texts; IMDB has features of its own.

    Raises:
        FileNotFoundError: it is not there.
    """
    if name == "imdb":
        return _imdb(folder / name / "imdb_genre.npz")
    table, votes = read_wrench(folder / name)
    listed = json.loads((folder / name / "labeled_ids.json").read_text(encoding="utf-8"))["labeled_ids"]
    labels = table.set_index("id")["label"].loc[[f"train-{id}" for id in listed]]
    texts = table["text"].tolist()
    train = (table["split"] == "train").to_numpy()
    features = Features.fit([text for text, inside in zip(texts, train, strict=True) if inside], settings)(texts)
    return Pool(name, table, votes, features, np.bincount(labels, minlength=2).tolist(), _seen(texts, table["split"]))


def _imdb(path: Path) -> Pool:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    stored = np.load(path, allow_pickle=False)
    parts = {"labeled": "train", "unlabeled": "train", "valid": "val", "test": "test"}
    split = [of for part, of in parts.items() for _ in stored[f"{part}_y"]]
    x, lf, y = (np.concatenate([stored[f"{part}_{what}"] for part in parts]) for what in ("x", "lf", "y"))
    table = pd.DataFrame({"id": [str(row) for row in range(len(y))], "label": y.astype(np.int64), "split": split})
    votes = Votes(lf.astype(np.int16), tuple(f"rule_{column}" for column in range(lf.shape[1])))
    seen = _seen([row.tobytes() for row in x], table["split"])
    return Pool("imdb", table, votes, x.astype(np.float32), np.bincount(stored["labeled_y"]).tolist(), seen)


def _seen(examples: Sequence[Any], split: pd.Series) -> NDArray[np.bool_]:
    train = {example for example, of in zip(examples, split, strict=True) if of == "train"}
    return np.array([of == "test" and example in train for example, of in zip(examples, split, strict=True)])
