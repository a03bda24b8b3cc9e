"""Features of images by a frozen encoder: computed batch by batch, while the views of the next batch are made."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from tutelage.data.augment import AugmentationName, augmentation
from tutelage.data.fingerprint import fingerprint
from tutelage.data.image_cache import user_cache
from tutelage.data.stored_rows import SEGMENT, RowStore
from tutelage.data.table import ImageTable
from tutelage.distributed import is_main_process, rank_world
from tutelage.models import ImageClassifier
from tutelage.training import seeds

if TYPE_CHECKING:
    from tutelage.recipes.encoding import EncoderSettings


class FeatureMaker:
    """Computes the features of images by their places."""

    def __init__(
        self,
        images: ImageTable,
        keys: Sequence[int],
        encoder: ImageClassifier,
        settings: EncoderSettings,
        augment: AugmentationName,
    ) -> None:
        self.images = images.images
        self.keys = keys
        self.encoder = encoder
        self.settings = settings
        self.augment = augmentation(augment)
        views = [settings.views, augment if settings.views else None]
        self.folder = (settings.cache or user_cache("features")) / fingerprint(
            encoder.spec, encoder.state_dict(), *views
        )

    def fill(self, store: RowStore, missing: Sequence[int]) -> None:
        """Compute what is missing, each process its share."""
        rank, world = rank_world()
        probe = missing[: min(8, self.settings.batch_size)]
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        device = accelerator or torch.device("cpu")
        self.encoder.to(device)
        self.features(probe[:1], device)  # the first pass is slow
        start = time.monotonic()
        self.features(probe, device)
        rate = len(probe) / (time.monotonic() - start)
        minutes = len(missing) / world / rate / 60
        say(
            f"features of {len(missing)} images by {self.encoder.spec.name}, {1 + self.settings.views} views each: about "
            f"{minutes:.0f} min at {rate:.1f} images/s. They are kept in {self.folder}"
            if minutes >= 1
            else f"features of {len(missing)} images by {self.encoder.spec.name}, kept in {self.folder}"
        )
        own = missing[rank::world]
        with (
            tqdm(total=len(own), desc="features", unit="image", disable=None) as bar,
            ThreadPoolExecutor(1, "views") as ahead,
        ):
            views = self.views_ahead(own, ahead)
            store.fill(self.keys, own, lambda places: self.features(places, device, views, bar.update))
        self.encoder.cpu()

    def batches(self, places: Sequence[int]) -> list[Sequence[int]]:
        """Return these places in the encoder's batches, none of which is in two files of the store."""
        parts = [places[start : start + SEGMENT] for start in range(0, len(places), SEGMENT)]
        size = self.settings.batch_size
        return [part[start : start + size] for part in parts for start in range(0, len(part), size)]

    def views_ahead(self, places: Sequence[int], ahead: ThreadPoolExecutor) -> Iterator[Tensor]:
        """Yield the views of each batch, while those of the next are made in another thread."""
        batches = self.batches(places)
        coming = ahead.submit(self.views, batches[0]) if batches else None
        for following in [*batches[1:], None]:
            if coming is not None:
                views = coming.result()
                coming = None if following is None else ahead.submit(self.views, following)
                yield views

    @torch.no_grad()
    def features(
        self,
        places: Sequence[int],
        device: torch.device,
        views: Iterator[Tensor] | None = None,
        told: Callable[[int], Any] = lambda count: None,
    ) -> Tensor:
        """Return the features of the images at these places, (n, V, D).

        Args:
            places: those of at most one file of the store.
            device: the encoder's.
            views: yields the views of each batch; they are made here by default.
            told: hears how many were computed.
        """
        batches = self.batches(places)
        parts = []
        for batch, made in zip(batches, map(self.views, batches) if views is None else views, strict=False):
            found = self.encoder.features(made.flatten(0, 1).to(device))
            parts.append(found.float().cpu().unflatten(0, made.shape[:2]))
            told(len(batch))
        return torch.cat(parts)

    def views(self, places: Sequence[int]) -> Tensor:
        """Return images and their augmented views, (n, V, 3, H, W); a view depends on the image and its number alone."""
        images = self.images.gather(places)
        views = [images]
        with seeds.fixed("views"):  # once for all, since to keep four generators costs more than many a view
            for number in range(self.settings.views):
                changed = []
                for image, place in zip(images, places, strict=True):
                    torch.default_generator.manual_seed(seeds.derive("view", number, self.keys[place]))
                    changed.append(image[None] if self.augment is None else self.augment(image[None]))
                views.append(torch.cat(changed))
        return torch.stack(views, dim=1)


def say(line: str) -> None:
    """Tell a person, once for all processes."""
    if is_main_process():
        print(line, file=sys.stderr)
