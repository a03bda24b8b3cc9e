"""Data: image tables from files, near-duplicates, splits, label noise, and data sets with an index.

Names that need an extra (`vision` for images, `tables` for manifests) are imported when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tutelage.data.endless import endless
from tutelage.data.fingerprint import fingerprint
from tutelage.data.indexed import Batched, Indexed, Rows, TensorData, WithColumns, batch_of
from tutelage.data.noise import NoisyLabels, class_conditional_noise, symmetric_noise
from tutelage.data.problems import Problem, Problems
from tutelage.data.rotation import Turned

if TYPE_CHECKING:
    from tutelage.data.augment import augmentation
    from tutelage.data.cars import stanford_cars
    from tutelage.data.cifar import read_cifar
    from tutelage.data.cub import cub_200
    from tutelage.data.digits import handwritten_digits
    from tutelage.data.domains import leave_one_domain_out
    from tutelage.data.drawn import stratified_split
    from tutelage.data.duplicates import (
        Duplicates,
        drop_duplicates,
        find_duplicates,
        perceptual_hash,
        perceptual_hashes,
    )
    from tutelage.data.given_features import GivenFeatures, read_given_features
    from tutelage.data.grids import digit_grids
    from tutelage.data.images import read_image
    from tutelage.data.label_columns import LabelColumns, read_label_columns
    from tutelage.data.manifest import LABELS, Columns, read_image_folder, read_manifest
    from tutelage.data.nyuv2 import Rooms, nyuv2_rooms
    from tutelage.data.pets import oxford_pets
    from tutelage.data.posters import digit_posters
    from tutelage.data.products import product_attributes
    from tutelage.data.ratings import Ratings, movielens, ratings_csv
    from tutelage.data.real_labels import read_real_labels, real_truth
    from tutelage.data.rules import Rule, apply_rules, load_rules, rule
    from tutelage.data.sampling import Rebalanced, fraction
    from tutelage.data.selection import facility_location
    from tutelage.data.splits import SplitSettings, split_table, temporal_split
    from tutelage.data.table import SPLITS, ImageArray, ImageFiles, ImageTable
    from tutelage.data.text import FeatureRows, Features, FeatureSettings
    from tutelage.data.votes import (
        ABSTAIN,
        Votes,
        analyse_rules,
        disagreement,
        majority_vote,
        most_disagreed,
        read_votes,
        read_wrench,
    )
    from tutelage.decoding import Limits, UnreadableImage

_FILES = {
    "augment": ("augmentation",),
    "cars": ("stanford_cars",),
    "cifar": ("read_cifar",),
    "cub": ("cub_200",),
    "digits": ("handwritten_digits",),
    "domains": ("leave_one_domain_out",),
    "drawn": ("stratified_split",),
    "duplicates": ("Duplicates", "drop_duplicates", "find_duplicates", "perceptual_hash", "perceptual_hashes"),
    "given_features": ("GivenFeatures", "read_given_features"),
    "grids": ("digit_grids",),
    "images": ("read_image",),
    "label_columns": ("LabelColumns", "read_label_columns"),
    "manifest": ("LABELS", "Columns", "read_image_folder", "read_manifest"),
    "nyuv2": ("Rooms", "nyuv2_rooms"),
    "pets": ("oxford_pets",),
    "posters": ("digit_posters",),
    "products": ("product_attributes",),
    "ratings": ("Ratings", "movielens", "ratings_csv"),
    "real_labels": ("read_real_labels", "real_truth"),
    "rules": ("Rule", "apply_rules", "load_rules", "rule"),
    "sampling": ("Rebalanced", "fraction"),
    "selection": ("facility_location",),
    "splits": ("SplitSettings", "split_table", "temporal_split"),
    "text": ("FeatureRows", "FeatureSettings", "Features"),
    "table": ("SPLITS", "ImageArray", "ImageFiles", "ImageTable", "Limits", "UnreadableImage"),
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
    "ABSTAIN",
    "LABELS",
    "SPLITS",
    "Batched",
    "Columns",
    "Duplicates",
    "FeatureRows",
    "FeatureSettings",
    "Features",
    "GivenFeatures",
    "ImageArray",
    "ImageFiles",
    "ImageTable",
    "Indexed",
    "LabelColumns",
    "Limits",
    "NoisyLabels",
    "Problem",
    "Problems",
    "Ratings",
    "Rebalanced",
    "Rooms",
    "Rows",
    "Rule",
    "SplitSettings",
    "TensorData",
    "Turned",
    "UnreadableImage",
    "Votes",
    "WithColumns",
    "analyse_rules",
    "apply_rules",
    "augmentation",
    "batch_of",
    "class_conditional_noise",
    "cub_200",
    "digit_grids",
    "digit_posters",
    "disagreement",
    "drop_duplicates",
    "endless",
    "facility_location",
    "find_duplicates",
    "fingerprint",
    "fraction",
    "handwritten_digits",
    "leave_one_domain_out",
    "load_rules",
    "majority_vote",
    "most_disagreed",
    "movielens",
    "nyuv2_rooms",
    "oxford_pets",
    "perceptual_hash",
    "perceptual_hashes",
    "product_attributes",
    "ratings_csv",
    "read_cifar",
    "read_given_features",
    "read_image",
    "read_image_folder",
    "read_label_columns",
    "read_manifest",
    "read_real_labels",
    "read_votes",
    "read_wrench",
    "real_truth",
    "rule",
    "split_table",
    "stanford_cars",
    "stratified_split",
    "symmetric_noise",
    "temporal_split",
]


def __getattr__(name: str) -> Any:
    if name not in _FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FILE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
