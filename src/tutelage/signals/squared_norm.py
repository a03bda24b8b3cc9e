"""The L2 regulariser as a source of supervision like any other."""

from __future__ import annotations

from torch import Tensor

from tutelage.signals.base import Batch, Outputs, Signal, by_head


class SquaredNorm(Signal):
    r"""The squared length of the model's parameters, :math:`\ell = \|\theta\|^2`: L2 regularisation as an auxiliary loss.

    The model tells it as one of its outputs, see `tutelage.models.WithSquaredNorm`, so that whoever asks the model at other
    parameters than its own gets theirs. It is one number for a batch (``separable`` is False): no example has a share in it.

    Args:
        head: the output that holds it, (B,), the same number for each example.

    Source: Chen et al., *Module-Aware Optimization for Auxiliary Learning*, NeurIPS 2022, section 4.1.
    """

    separable = False

    def __init__(self, *, head: str = "squared_norm", name: str = "l2") -> None:
        super().__init__(name, head)

    def forward(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the loss, a scalar.

        Raises:
            ValueError: the model does not tell its length.
        """
        found = by_head(outputs)
        if isinstance(found, Tensor) or self.head not in found:
            raise ValueError(
                f"signal {self.name!r} reads the output {self.head!r}, which the model does not return; wrap it: "
                "tutelage.models.WithSquaredNorm(model), whose other outputs the signals then read by head"
            )
        return self.own_output(found).mean()
