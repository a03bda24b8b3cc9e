"""Models: any timm name behind its own standardisation, and pocket relatives for images of a few pixels."""

from tutelage.models.autoint import AutoInt
from tutelage.models.classifier import (
    ImageClassifier,
    JointLogits,
    ModelSpec,
    Pixels,
    build,
    check_name,
    check_weights,
    joint_logits,
    load_model,
    save_model,
    with_encoder,
)
from tutelage.models.committee import NOT_HEARD, Committee, CommitteeSpec, load_committee, save_committee
from tutelage.models.ensemble import Ensemble, EnsembleSpec, ensemble_of, load_ensemble, save_ensemble
from tutelage.models.features import FEATURES
from tutelage.models.heads import expect_one_label, grow_head
from tutelage.models.matching import PartialWeights, load_matching
from tutelage.models.multi_head import (
    AUTOINT,
    MultiHead,
    MultiHeadSpec,
    build_multi_head,
    load_multi_head,
    save_multi_head,
)
from tutelage.models.options import check_options
from tutelage.models.rules import Cage, Reliability, RuleModel, RuleModelSpec
from tutelage.models.self_supervised import check_checkpoint, load_self_supervised
from tutelage.models.settings import ModelSettings
from tutelage.models.small import POCKET, SMALL
from tutelage.models.squared_norm import WithSquaredNorm
from tutelage.models.text import TextClassifier, TextClassifierSpec, text_classifier

__all__ = [
    "AUTOINT",
    "FEATURES",
    "NOT_HEARD",
    "POCKET",
    "SMALL",
    "AutoInt",
    "Cage",
    "Committee",
    "CommitteeSpec",
    "Ensemble",
    "EnsembleSpec",
    "ImageClassifier",
    "JointLogits",
    "ModelSettings",
    "ModelSpec",
    "MultiHead",
    "MultiHeadSpec",
    "PartialWeights",
    "Pixels",
    "Reliability",
    "RuleModel",
    "RuleModelSpec",
    "TextClassifier",
    "TextClassifierSpec",
    "WithSquaredNorm",
    "build",
    "build_multi_head",
    "check_checkpoint",
    "check_name",
    "check_options",
    "check_weights",
    "ensemble_of",
    "expect_one_label",
    "grow_head",
    "joint_logits",
    "load_committee",
    "load_ensemble",
    "load_matching",
    "load_model",
    "load_multi_head",
    "load_self_supervised",
    "save_committee",
    "save_ensemble",
    "save_model",
    "save_multi_head",
    "text_classifier",
    "with_encoder",
]
