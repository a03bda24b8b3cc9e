"""How one model is trained: `fit`, the only training loop, and what it stands on."""

from tutelage.training.batches import Augmentation, Mixed, Order, Repeated, Shuffled
from tutelage.training.checkpoint import DamagedCheckpoint
from tutelage.training.fit import Fitted, Hardware, fit
from tutelage.training.interrupt import Interrupted
from tutelage.training.log import Log
from tutelage.training.optimization import Budget, Optimization
from tutelage.training.predict import predict
from tutelage.training.stages import Stages, fingerprint

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
    "Order",
    "Repeated",
    "Shuffled",
    "Stages",
    "fingerprint",
    "fit",
    "predict",
]
