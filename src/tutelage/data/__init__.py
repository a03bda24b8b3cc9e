"""Data: image tables from files, near-duplicates, splits, label noise, and data sets with an index.

Names that need an extra (`vision` for images, `tables` for manifests) are imported when first used.
"""

from importlib import import_module
from typing import Any

from tutelage.data.columns import WithColumns
from tutelage.data.indexed import Indexed, TensorData
from tutelage.data.noise import NoisyLabels, class_conditional_noise, symmetric_noise
from tutelage.data.problems import Problem, Problems

_FILES = {
    "augment": ("augmentation",),
    "duplicates": ("Duplicates", "drop_duplicates", "find_duplicates", "perceptual_hash", "perceptual_hashes"),
    "images": ("Limits", "UnreadableImage", "read_image"),
    "manifest": ("LABELS", "Columns", "read_image_folder", "read_manifest"),
    "posters": ("digit_posters",),
    "products": ("article_types", "product_photographs"),
    "splits": ("SplitSettings", "split_table", "stratified_split", "temporal_split"),
    "table": ("SPLITS", "ImageArray", "ImageFiles", "ImageTable", "Subset"),
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names}

__all__ = [
    "Indexed",
    "NoisyLabels",
    "Problem",
    "Problems",
    "TensorData",
    "WithColumns",
    "class_conditional_noise",
    "symmetric_noise",
    *_FILE_OF,
]


def __getattr__(name: str) -> Any:
    if name not in _FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FILE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
