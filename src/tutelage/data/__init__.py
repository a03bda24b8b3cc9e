"""Data: image tables from files, near-duplicates, splits, label noise, and data sets with an index.

Names that need an extra (`vision` for images, `tables` for manifests) are imported when first used.
"""

from importlib import import_module
from typing import Any

from tutelage.data.endless import endless
from tutelage.data.fingerprint import fingerprint
from tutelage.data.indexed import Batched, Indexed, Rows, TensorData, WithColumns, batch_of
from tutelage.data.noise import NoisyLabels, class_conditional_noise, symmetric_noise
from tutelage.data.problems import Problem, Problems
from tutelage.data.rotation import Turned

_FILES = {
    "augment": ("augmentation",),
    "cifar": ("read_cifar",),
    "cub": ("cub_200",),
    "digits": ("handwritten_digits",),
    "domains": ("leave_one_domain_out",),
    "duplicates": ("Duplicates", "drop_duplicates", "find_duplicates", "perceptual_hash", "perceptual_hashes"),
    "grids": ("digit_grids",),
    "images": ("Limits", "UnreadableImage", "read_image"),
    "label_columns": ("LabelColumns", "read_label_columns"),
    "manifest": ("LABELS", "Columns", "read_image_folder", "read_manifest"),
    "nyuv2": ("Rooms", "nyuv2_rooms"),
    "pets": ("oxford_pets",),
    "posters": ("digit_posters",),
    "products": ("product_attributes",),
    "ratings": ("Ratings", "movielens", "ratings_csv"),
    "real_labels": ("read_real_labels",),
    "rules": ("Rule", "apply_rules", "load_rules", "rule"),
    "sampling": ("Rebalanced", "fraction"),
    "selection": ("facility_location",),
    "splits": ("SplitSettings", "split_table", "stratified_split", "temporal_split"),
    "text": ("FeatureRows", "FeatureSettings", "Features", "read_features"),
    "table": ("SPLITS", "ImageArray", "ImageFiles", "ImageTable"),
    "votes": (
        "ABSTAIN",
        "Votes",
        "analyse_rules",
        "disagreement",
        "majority_vote",
        "most_disagreed",
        "read_votes",
        "read_wrench",
    ),
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names}

__all__ = [
    "Batched",
    "Indexed",
    "NoisyLabels",
    "Problem",
    "Problems",
    "Rows",
    "TensorData",
    "Turned",
    "WithColumns",
    "batch_of",
    "class_conditional_noise",
    "endless",
    "fingerprint",
    "symmetric_noise",
    *_FILE_OF,
]


def __getattr__(name: str) -> Any:
    if name not in _FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FILE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
