"""A frozen encoder in front of a run: features are computed once, models learn from them, and the trained one sees images."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import torch
from safetensors.torch import load_file
from torch import Tensor

from tutelage.checks import check
from tutelage.data.encoded import EncodedTable, ImageFeatures
from tutelage.data.fingerprint import fingerprint
from tutelage.data.given_features import GivenFeatures, read_given_features
from tutelage.data.stored_rows import Rows, RowStore
from tutelage.data.table import ImageTable
from tutelage.distributed import barrier
from tutelage.files import read_json
from tutelage.models import (
    FEATURES,
    ImageClassifier,
    ModelSpec,
    build,
    check_name,
    check_options,
    load_matching,
    with_encoder,
)
from tutelage.models.matching import body, listed
from tutelage.recipes.feature_maker import FeatureMaker, say
from tutelage.training.rehearsal import about, outline

MEMORY = 2 << 30  # bytes of features up to which a run holds them in memory
SECONDS = 5  # in which the hub must answer whether it has an encoder


@dataclass(frozen=True)
class EncoderSettings:
    """A frozen encoder, whose features every model of the run learns from instead of pixels.

    Args:
        name: Name of a timm model; null for no encoder, unless pretrained is a model folder, and where features are given.
        pretrained: Its weights: timm, the path of a safetensors file, or a model folder (with config.json and
            model.safetensors), which determines the model.
        options: Further arguments of the model, as plain values.
        views: Number of augmented views of each image, in addition to the image itself.
        batch_size: Images in one forward pass of the encoder.
        cache: Folder in which features are kept for further runs; null is tutelage/features in the user's cache folder.
        features: File of features computed elsewhere, instead of an encoder: .parquet or .csv with a column id, or .npy with a
            row for each row of the data, in their order. The model then also reads features instead of images.
    """

    name: str | None = None
    pretrained: str = "timm"
    options: dict[str, Any] = field(default_factory=dict)
    views: int = 2
    batch_size: int = 64
    cache: Path | None = None
    features: Path | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        check(self, "encoder", views="[0, 64]", batch_size="[1, 65536]")
        if self.features is not None:
            object.__setattr__(
                self, "name", None
            )  # a preset's encoder, which is not used: a run's config.yaml is to be true
        check_options(str(self.name), self.options)

    @property
    def used(self) -> bool:
        """Whether there is an encoder, or what it would make."""
        return self.name is not None or self.pretrained != "timm" or self.features is not None

    def spec(self, image_size: int) -> ModelSpec:
        """Return the encoder's spec, for images of this size where the encoder's folder names no other.

        Raises:
            FileNotFoundError: ``pretrained`` is neither timm, nor a file, nor a folder with a model.
            ValueError: the folder's model is no encoder, a file comes without the model's name, or the name is not known.
        """
        path = Path(self.pretrained)
        if self.pretrained != "timm" and not path.exists():
            raise FileNotFoundError(
                f"encoder.pretrained={self.pretrained!r}: there is no such file or folder; give timm, a safetensors file or a "
                "model folder"
            )
        if not path.is_dir() or self.pretrained == "timm":
            if self.name is None:
                raise ValueError(
                    f"encoder.pretrained={self.pretrained!r} is a file of weights; name its model by encoder.name"
                )
            try:
                check_name(self.name)
            except ValueError as error:
                raise ValueError(f"encoder.name={self.name!r}: {error}") from error
            return ModelSpec(self.name, 0, image_size, 0.0, self.options)
        config = path / "config.json"
        if not config.is_file():
            raise FileNotFoundError(
                f"encoder.pretrained={self.pretrained!r}: the folder holds no config.json of a model"
            )
        told = read_json(config).get("model")
        if not isinstance(told, dict) or told.get("name") in FEATURES:
            raise ValueError(
                f"encoder.pretrained={self.pretrained!r}: the folder holds no model that can be an encoder"
            )
        return replace(ModelSpec(**told), num_classes=0, dropout=0.0)

    def num_features(self, image_size: int) -> int:
        """Return how many numbers the encoder makes of an image, by its outline, for which no weights are read.

        Raises:
            FileNotFoundError, ValueError: as `spec`; or images of this size or these options do not work.
        """
        spec = self.spec(image_size)
        with about(f"encoder.name={spec.name!r}, image_size={spec.image_size}, encoder.options={spec.options}"):
            image = torch.zeros(1, 3, spec.image_size, spec.image_size, dtype=torch.uint8)
            _, found = outline(lambda: build(spec), image, ask=lambda encoder, input: encoder.features(input))
        assert isinstance(found, Tensor)
        return found.shape[1]

    def open(self, image_size: int) -> ImageClassifier:
        """Return the encoder, frozen and in eval mode.

        Raises:
            FileNotFoundError, ValueError: as `spec` and `build`, with what could be done instead.
        """
        spec, path = self.spec(image_size), Path(self.pretrained)
        if self.pretrained != "timm":
            encoder = build(spec)
            left = load_matching(
                encoder, load_file(path / "model.safetensors" if path.is_dir() else path), self.pretrained
            )
            if missing := body(encoder, left):
                raise ValueError(
                    f"encoder.pretrained={self.pretrained!r} lacks weights of {spec.name!r}, and nothing would train them: "
                    f"{listed(missing)}; give the model's own file, or a model folder, which says what it holds"
                )
        else:
            try:
                encoder = build(spec, self.pretrained)
            except FileNotFoundError as error:
                raise FileNotFoundError(f"encoder.{error}; {ELSEWHERE}, or --scale pocket") from error
        return encoder.requires_grad_(False).eval()


def check_unfreeze(settings: Any) -> None:
    """Refuse to unfreeze where there is no encoder.

    Raises:
        ValueError: there is none.
    """
    if settings.unfreeze and (not settings.encoder.used or settings.encoder.features is not None):
        raise ValueError(
            f"unfreeze={settings.unfreeze!r} trains the last block of the run's encoder, and there is none; name one by "
            "encoder.name or encoder.pretrained, or leave unfreeze out"
        )


LAPTOP_ENCODER = EncoderSettings("vit_small_patch14_dinov2.lvd142m")
"""The encoder of the laptop scale: 22 million weights under the Apache licence, among the best of its size at linear probes."""
ELSEWHERE = "take --encoder.pretrained FILE (its weights, fetched elsewhere) or FOLDER (any trained model's)"


def unobtainable(encoder: EncoderSettings) -> str:
    """Return why timm's weights of an encoder cannot be had, nothing where they are on the disk or the hub has them."""
    if encoder.pretrained != "timm":
        return ""
    import huggingface_hub

    repository, file = f"timm/{encoder.name}", "model.safetensors"
    if isinstance(huggingface_hub.try_to_load_from_cache(repository, file), str):
        return ""
    url = huggingface_hub.hf_hub_url(repository, file)
    if not huggingface_hub.constants.HF_HUB_OFFLINE and _answers(url):
        return ""
    return f"the weights of {encoder.name} are not on this disk and {urlsplit(url).hostname} does not answer"


def _answers(url: str) -> bool:
    """Return whether an address answers in time; the time also bounds how long its name is looked up."""
    found: list[int] = []

    def ask() -> None:
        with suppress(OSError), urlopen(Request(url, method="HEAD"), timeout=SECONDS) as response:
            found.append(response.status)

    asking = Thread(target=ask, daemon=True)
    asking.start()
    asking.join(SECONDS)
    return bool(found)


def given_features(settings: Any) -> GivenFeatures | None:
    """Return the features that a run is given, None where it computes its own or learns from pixels.

    Raises:
        FileNotFoundError, ValueError: see `read_given_features`.
    """
    path = settings.encoder.features
    return None if path is None else read_given_features(path)


class _Zeros:
    """Features that are all 0, none of which is kept."""

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def __getitem__(self, rows: Tensor) -> Tensor:
        return torch.zeros(len(rows), *self.shape)


def with_features(task: Any, settings: Any, make: Callable[[ImageTable, Any], ImageTable]) -> Any:
    """Return a task whose images `encoded` or `outlined` has made features of, or as it is without an encoder or images."""
    if not settings.encoder.used or task.images is None:
        return task
    return replace(task, images=make(task.images, settings))


def outlined(images: ImageTable, settings: Any) -> ImageTable:
    """Return the table that `encoded` returns, with 0 for every feature: all that a rehearsal needs to know of them.

    Raises:
        FileNotFoundError, ValueError: there is no such encoder, or it cannot look at these images.
    """
    encoder = settings.encoder
    if encoder.features is not None:
        return _given(images, encoder.features)
    zeros = _Zeros(1 + encoder.views, encoder.num_features(settings.image_size))
    return EncodedTable(images.images, images.table, ImageFeatures(zeros, "", torch.arange(1)))


def encoded(images: ImageTable, settings: Any) -> ImageTable:
    """Return the table with the features of its images as input, or as it is where the settings name no encoder.

    What is not in the cache yet is computed, a file at a time; a computation that was killed goes on where it was.

    Args:
        images: with their splits; features are standardised over those of the training.
        settings: of a recipe, with ``encoder``, ``augmentation`` and ``image_size``.

    Raises:
        FileNotFoundError, ValueError: the encoder cannot be opened, with what could be done instead.
    """
    if not settings.encoder.used:
        return images
    if settings.encoder.features is not None:
        return _given(images, settings.encoder.features)
    encoder = settings.encoder.open(settings.image_size)
    keys = [int(images.images.key(row), 16) - (1 << 63) for row in range(len(images))]
    maker = FeatureMaker(images, keys, encoder, settings.encoder, settings.augmentation)
    store = RowStore(maker.folder, "features")
    barrier()  # with every process seeing the same store
    missing = store.missing(keys)
    if store.damaged:
        say(f"{len(store.damaged)} damaged files of features in {store.folder} were removed; they are made again")
    if missing:
        maker.fill(store, missing)
        barrier()
        store.read()
    stored = store.rows(keys)
    everything = torch.arange(len(images))
    small = len(images) * stored[everything[:1]].nbytes <= MEMORY
    key = fingerprint(store.folder.name, keys)
    return _standardised(images, stored[everything] if small else stored, key, encoder)


def _given(images: ImageTable, path: Path) -> ImageTable:
    """Return the table with the features that it was read with, standardised."""
    if not isinstance(images, EncodedTable):
        raise ValueError(
            f"encoder.features={str(path)!r} belongs to a table or folder of your own, and these data are built in"
        )
    return _standardised(images, images.features.rows, images.features.key, None)


def _standardised(images: ImageTable, rows: Rows, key: str, encoder: ImageClassifier | None) -> ImageTable:
    training = images.rows("train")
    over = torch.arange(len(images)) if len(training) == 0 else training
    return EncodedTable(images.images, images.table, ImageFeatures(rows, key, over, encoder))


def whole(model: ImageClassifier, images: ImageTable) -> ImageClassifier:
    """Return a trained model as one that sees images, behind the encoder, or features as they were given."""
    if not isinstance(images, EncodedTable):
        return model
    features = images.features
    assert features.encoder is None or isinstance(features.encoder, ImageClassifier)
    return with_encoder(model, features.encoder, features.mean, features.std)
