"""How one model is trained: `fit`, the only training loop, and what it stands on."""

from tutelage.training.batches import Augmentation, Mixed, Repeated, Sampler, Shuffled
from tutelage.training.checkpoint import DamagedCheckpoint
from tutelage.training.fit import fit
from tutelage.training.fitted import Fitted
from tutelage.training.interrupt import Interrupted
from tutelage.training.log import Log
from tutelage.training.optimization import Budget, Optimization
from tutelage.training.plan import Hardware, Plan
from tutelage.training.predict import predict
from tutelage.training.rehearsal import rehearse
from tutelage.training.stages import Stage, Stages

__all__ = [
    "Augmentation",
    "Budget",
    "DamagedCheckpoint",
    "Fitted",
    "Hardware",
    "Interrupted",
    "Log",
    "Mixed",
    "Optimization",
    "Plan",
    "Repeated",
    "Sampler",
    "Shuffled",
    "Stage",
    "Stages",
    "fit",
    "predict",
    "rehearse",
]
