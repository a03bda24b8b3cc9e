"""How far each signal counts, for each example and each module: one file per method."""

from tutelage.weighting.amal import AMAL, coreset_probabilities
from tutelage.weighting.auxilearn import AuxiLearn
from tutelage.weighting.base import ModuleWeights, Weighting
from tutelage.weighting.cleannet import CleanNet
from tutelage.weighting.cosine import GradientCosine
from tutelage.weighting.crust import CRUST
from tutelage.weighting.curriculumnet import CurriculumNet
from tutelage.weighting.dropped import DroppedTeachers
from tutelage.weighting.fixed import Equal, Fixed
from tutelage.weighting.hpo import Tuned, tune_weights
from tutelage.weighting.ieg import IEG
from tutelage.weighting.joint import Joint, JointGradient
from tutelage.weighting.maoal import MAOAL
from tutelage.weighting.mentornet import LearnedMentorNet, MentorNet
from tutelage.weighting.meta_optimizer import MetaOptimizer
from tutelage.weighting.meta_weight_net import MetaWeightNet
from tutelage.weighting.partition import Partition
from tutelage.weighting.registry import WEIGHTINGS, build
from tutelage.weighting.reweight import LearningToReweight
from tutelage.weighting.superloss import SuperLoss, super_loss
from tutelage.weighting.sweep import sweep
from tutelage.weighting.table import ExampleTable
from tutelage.weighting.uncertainty import Uncertainty

__all__ = [
    "AMAL",
    "CRUST",
    "IEG",
    "MAOAL",
    "WEIGHTINGS",
    "AuxiLearn",
    "CleanNet",
    "CurriculumNet",
    "DroppedTeachers",
    "Equal",
    "ExampleTable",
    "Fixed",
    "GradientCosine",
    "Joint",
    "JointGradient",
    "LearnedMentorNet",
    "LearningToReweight",
    "MentorNet",
    "MetaOptimizer",
    "MetaWeightNet",
    "ModuleWeights",
    "Partition",
    "SuperLoss",
    "Tuned",
    "Uncertainty",
    "Weighting",
    "build",
    "coreset_probabilities",
    "super_loss",
    "sweep",
    "tune_weights",
]
