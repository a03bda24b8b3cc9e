"""Examples that count more or less than once, such as those of a sample that represent others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from tutelage.data import WithColumns
from tutelage.signals import Scaled, Signal

COUNT = "example_weight"


def with_example_weights(
    examples: Any, signals: Sequence[Signal], weight_N: Tensor | None, rows: Tensor
) -> tuple[Any, list[Signal]]:
    r"""Return a data set and signals with which each example counts as often as its weight says.

    .. math:: \frac1n \sum_{i} \frac{w_i}{\bar w}\,\ell_i, \qquad \bar w = \frac1n \sum_{i} w_i

    An example of weight 2 is trained on as if it were there twice, and one of weight 0 as if it were not there; the unit of the
    weights does not matter, and neither the learning rate nor the other settings depend on it.

    Args:
        examples: the data set of ``rows``.
        signals: what is learned.
        weight_N: of every row of the table, from 0; None returns what was given.
        rows: the n rows that are trained on.

    Raises:
        ValueError: the weight of all rows is 0.
    """
    if weight_N is None:
        return examples, list(signals)
    mean = weight_N[rows].double().mean()
    if not mean > 0:
        raise ValueError(f"weight is 0 for all of {len(rows)} training examples; nothing could be learned")
    columns = {COUNT: (weight_N.double() / mean).float()}
    return WithColumns(examples, **columns), [Scaled(signal, COUNT) for signal in signals]
