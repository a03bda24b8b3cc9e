"""Models: any timm name behind its own standardisation, and pocket relatives for images of a few pixels."""

from tutelage.models.classifier import ImageClassifier, ModelSpec, Pixels, build, joint_logits
from tutelage.models.matching import PartialWeights, load_matching
from tutelage.models.pocket import POCKET
from tutelage.models.weights import load_model, save_model

__all__ = [
    "POCKET",
    "ImageClassifier",
    "ModelSpec",
    "PartialWeights",
    "Pixels",
    "build",
    "joint_logits",
    "load_matching",
    "load_model",
    "save_model",
]
