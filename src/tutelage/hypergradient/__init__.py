"""The one derivative that every learned weighting needs, without double backward and without per-example gradients."""

from tutelage.hypergradient.derivatives import Derivatives, Strategy, directional_derivatives
from tutelage.hypergradient.last_layer_look_ahead import LastLayerLookAhead
from tutelage.hypergradient.look_ahead import look_ahead_direction, look_ahead_gradient
from tutelage.hypergradient.module_derivatives import module_derivatives
from tutelage.hypergradient.neumann import NeumannSeries, NeumannWarning, neumann_direction
from tutelage.hypergradient.optimizers import Optimizers, greatest_learning_rate, learning_rate
from tutelage.hypergradient.passes import ModuleWeights

__all__ = [
    "Derivatives",
    "LastLayerLookAhead",
    "ModuleWeights",
    "NeumannSeries",
    "NeumannWarning",
    "Optimizers",
    "Strategy",
    "directional_derivatives",
    "greatest_learning_rate",
    "learning_rate",
    "look_ahead_direction",
    "look_ahead_gradient",
    "module_derivatives",
    "neumann_direction",
]
