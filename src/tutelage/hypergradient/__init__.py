"""The one derivative that every learned weighting needs, without double backward and without per-example gradients."""

from tutelage.hypergradient.derivatives import Derivatives, Strategy, directional_derivatives

__all__ = ["Derivatives", "Strategy", "directional_derivatives"]
