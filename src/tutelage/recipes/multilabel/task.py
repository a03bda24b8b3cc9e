"""A task of label ambiguity: images with the labels that were given, and for some of them all that are true."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from tutelage.data.domains import leave_one_domain_out
from tutelage.data.drawn import divide
from tutelage.data.duplicates import drop_duplicates
from tutelage.data.fingerprint import fingerprint
from tutelage.data.grids import digit_grids
from tutelage.data.label_sets import read_label_sets
from tutelage.data.manifest import Columns
from tutelage.data.problems import Problems
from tutelage.data.real_labels import real_truth
from tutelage.data.table import ImageTable
from tutelage.models import check_checkpoint
from tutelage.recipes.encoding import given_features
from tutelage.recipes.input import input_size
from tutelage.recipes.multilabel.settings import MultilabelSettings

LEAST = 2  # examples of a class


@dataclass
class MultilabelTask:
    """What a run works on.

    Attributes:
        title: a name for people.
        images: the image table; ``label`` is the given label, or the first of several.
        classes: the classes' names.
        given_NC: which labels were given, bool; no row of an unlabelled image has one.
        truth_NC: all labels of the images, bool, where they are known; for evaluation, and for the choice on validation where
            the settings say so.
        problems: what was left out, and why.
        duplicates: the groups of near-duplicates that were found.
    """

    title: str
    images: ImageTable
    classes: list[str]
    given_NC: Tensor
    truth_NC: Tensor | None = None
    problems: Problems = field(default_factory=Problems)
    duplicates: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["group", "id", "reason"]))

    @property
    def several(self) -> bool:
        """Whether some image was given more than one label."""
        return bool((self.given_NC.sum(1) > 1).any())

    @property
    def labels(self) -> Tensor:
        """The given label of each image, (N,), the first of several; -1 where there is none."""
        return self.images.labels

    def rows(self, *splits: str) -> Tensor:
        """Return the rows of these splits, ascending."""
        return self.images.rows(*splits)

    def judged_by(self) -> Tensor:
        """Return the sets that the test is judged by, (N, C): all labels where they are known, the given ones elsewhere."""
        return self.given_NC if self.truth_NC is None else self.truth_NC

    def fingerprint(self) -> str:
        """Return a hash of what training sees: images, ids, labels and splits."""
        return fingerprint(self.images, self.given_NC, self.classes)


def grids_task(seed: int, mnist: Path | None = None, cell: int = 8, **sizes: int) -> MultilabelTask:
    """Return grids of digits: scikit-learn's, or MNIST's where its file is given. Sizes as in `digit_grids`."""
    images, truth_NC = digit_grids(seed, mnist=mnist, cell=cell, **sizes)
    classes = [str(digit) for digit in range(10)]
    title = "grids of digits" if mnist is None else "grids of MNIST digits"
    return MultilabelTask(title, images, classes, one_hot(images.labels, 10), truth_NC)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Return labels (N,) as bool (N, C); -1 has none."""
    return torch.nn.functional.one_hot(labels.clamp_min(0), classes).bool() & (labels >= 0)[:, None]


def multilabel_task(
    data: str,
    settings: MultilabelSettings,
    columns: Columns = Columns(),
    truth: str | None = None,
    real: Path | None = None,
    domain: str | None = None,
    leave_out: str | None = None,
    *,
    out: Path | None = None,
) -> MultilabelTask:
    """Read a manifest or a folder, drop duplicates, and split; or return grids of digits.

    A cell may name several labels, divided by ``|``. An empty one is an unlabelled image. All labels of an image, which some
    images have, are for evaluation only, and where ``settings.choose_by`` is truth for the choice on validation.

    Args:
        data: CSV or Parquet file with columns image and label, a folder with a subfolder for each class, or digits (built in):
            grids of scikit-learn's handwritten digits.
        settings: Image size, duplicate radius, shares and seed.
        columns: Names of the manifest's columns.
        truth: Name of the column of all labels of an image, separated by |; a cell may be empty if they are not known.
        real: File real.json of ReaL: all labels of ImageNet's validation images, identified by file name.
        domain: Name of the column of an image's domain, such as photo or sketch.
        leave_out: Domain to use as the test set (domain generalisation); the others are for training, except a share val of
            each class and domain for selection; the column split is not used.
        out: Folder in which problems.csv is written if the task cannot be worked on.

    Raises:
        FileNotFoundError, ValueError: see `read_manifest`; fewer than two classes, too few examples, or no such column.
    """
    if data == "digits":
        for name, value in (("truth", truth), ("real", real)):
            if value is not None:
                raise ValueError(f"{name}={str(value)!r}: grids of digits know all labels; leave {name} out")
        if domain is not None or leave_out is not None:
            raise ValueError("grids of digits have no domains; leave domain and leave_out out")
        if settings.image_size % 3:
            raise ValueError(f"image_size={settings.image_size}: a grid of digits needs a multiple of 3")
        return grids_task(settings.seed, cell=settings.image_size // 3)
    path = Path(data)
    if truth is not None and real is not None:
        raise ValueError(f"truth={truth!r} and real={str(real)!r} both name all labels of an image; give one of them")
    if (domain is None) != (leave_out is None):
        raise ValueError(
            f"domain={domain!r} and leave_out={leave_out!r} belong together: a column, and one of its values"
        )
    if truth is None and real is None and settings.choose_by == "truth":
        raise ValueError("choose_by='truth' needs all labels of the validation images; give truth or real")
    for checkpoint in filter(None, (settings.self_supervised, settings.distilled.self_supervised)):
        check_checkpoint(Path(checkpoint))
    found = read_label_sets(
        path,
        columns,
        truth,
        domain,
        size=input_size(settings),
        cache_bytes=settings.hardware.cache_bytes,
        features=given_features(settings),
    )
    if real is not None:
        found = replace(found, truth_NC=real_truth(real, found.images.table, found.classes))
    task = MultilabelTask(path.stem, found.images, found.classes, found.given_NC, found.truth_NC, found.problems)
    with task.problems.written_on_error(out):
        task.problems.require(int((task.labels >= 0).sum()), 3 * LEAST, "labelled examples")
        if len(task.classes) < 2:
            raise ValueError(f"{path}: the labels are {task.classes}; give at least two classes")
        if settings.radius >= 0:
            task.images, task.duplicates = drop_duplicates(task.images, task.problems, settings.radius)
        task.images = _split(
            task.images if leave_out is None else _without(task.images, leave_out, settings), settings, path
        )
    return task


def _without(images: ImageTable, domain: str, settings: MultilabelSettings) -> ImageTable:
    """Return images of which a domain is the test; its unlabelled images take no part.

    Raises:
        ValueError: no such domain.
    """
    table = images.table
    domains = table["domain"].astype(str)
    if domain not in set(domains):
        raise ValueError(f"leave_out={domain!r}: the domains are {', '.join(sorted(set(domains)))}")
    split = table["split"].to_numpy(object, copy=True)
    own = (table["label"] >= 0).to_numpy() & (split != "left_out")
    parts = leave_one_domain_out(
        domains[own].tolist(), table["label"][own].to_numpy(), val=settings.val, seed=settings.seed
    )
    split[own] = dict(parts)[domain]
    split[~own & (domains == domain).to_numpy()] = "left_out"
    return images.with_split(split)


def _split(images: ImageTable, settings: MultilabelSettings, path: Path) -> ImageTable:
    """Give every row without a split its own, class by class."""
    split = images.table["split"].to_numpy(object, copy=True)
    shares = {"train": 1 - settings.val - settings.test, "val": settings.val, "test": settings.test}
    divide(split, images.labels.numpy(), "unassigned", shares, settings.seed)
    for name in ("train", "val", "test"):
        if not (split == name).any():
            raise ValueError(f"{path}: split {name!r} has no example; give more data, or a larger share for it")
    return images.with_split(split)
