"""The implicit derivative: how the held-out loss at the end of training depends on the weights of training."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from math import comb
from typing import Literal
from weakref import WeakKeyDictionary

from torch import Tensor

from tutelage.batches import Batch, asked_of_some, map_tensors
from tutelage.hypergradient.field import Field, Product, Products
from tutelage.hypergradient.finite_difference import norm
from tutelage.hypergradient.passes import ModuleWeights
from tutelage.hypergradient.probe import Parameters, Probe, few_of, full_types, held_out_probe, uncompiled
from tutelage.signals import Objective

SHORTEST = 1e-3  # how far, at most, the step size is lowered
TOLERANCE = 0.1  # how far double backward may be from a difference before "auto" distrusts it
TINY = 1e-7  # how far parameters are moved for that difference
NEGLIGIBLE = 1e-6  # a term this much shorter than the first may grow: it is rounding
KEPT = 8  # terms that are held, so that a shorter step costs no product again
GROWTH = 2.0  # how many times as long as the first a term may become by small steps of negative curvature


class NeumannWarning(RuntimeWarning):
    """A Neumann series did not contract, and was damped or stopped."""


@dataclass(frozen=True)
class NeumannSeries:
    """What `neumann_direction` returns.

    Attributes:
        direction: p, by name.
        step_size: the step size that it was summed with; smaller than the given one where the series was damped.
        lengths: the length of each term that was summed: M + 1 of them, fewer where the series was stopped.
        strategy: how Hessians were multiplied, "double_backward" or "finite_difference".
        why: why that way.
        remarks: where it was damped or stopped.
    """

    direction: dict[str, Tensor]
    step_size: float
    lengths: list[float]
    strategy: Products
    why: str
    remarks: list[str]


@full_types()
def neumann_direction(
    objective: Objective,
    batch: Batch,
    held_out: Batch,
    step_size: float,
    neumann_steps: int = 3,
    weights_BK: Tensor | None = None,
    module_weights: ModuleWeights | None = None,
    strategy: Literal["auto"] | Products = "auto",
    trained: Collection[str] | None = None,
) -> NeumannSeries:
    r"""Return p, of which every weight's derivative through the trained parameters is a directional derivative.

    .. math:: p = \eta \sum_{\tau=0}^{M} \big((I - \eta J)^\top\big)^\tau \nabla L_V(\theta), \qquad
        J^\top v = \sum_k H_k (a_k * v)

    where J is the Jacobian of the weighted update direction `Field`, not symmetric with module weights. M products give M + 1
    terms, as Algorithm 1 of MAOAL has it (its eq. 9 has M), and equal M + 1 unrolled steps of plain gradient descent
    at a point that they do not leave. For M to infinity p tends to :math:`J^{-\top} \nabla L_V`, whatever the step size.

    The series is of use only while its terms stay bounded. On a minibatch some curvature is negative, and a term then grows a
    little: that is what the unrolled steps do too, and it is let be while a step changes a term by less than its length and
    no term is longer than twice the first. Where a term grows because the step size is beyond 2 over the curvature, the
    step size is halved until it does not, and the series begins again, from mixtures of the terms so far and without
    products. Where no step size helps, the series ends with the terms so far. Both come with a `NeumannWarning`; in any
    case :math:`\|p\| \le 2 \eta (M+1) \|\nabla L_V\|`.

    Args:
        objective: the model and its signals.
        batch: training examples; the Hessians are those of its losses.
        held_out: the examples whose loss is to fall; the primary signal alone is asked about them.
        step_size: eta > 0; the learning rate of training.
        neumann_steps: M >= 0, the Hessian-vector products; 0 is one step of look-ahead.
        weights_BK: u, or None for all ones.
        module_weights: a, or None for all ones.
        strategy: Hessian-vector products by "double_backward", by central differences of gradients
            ("finite_difference": no operator needs a second derivative), or "auto": the first where they agree.
        trained: the names of the parameters that training moves, beyond which p is 0; None for all that require a gradient.

    Raises:
        ValueError: a step size that is not positive, a negative ``neumann_steps``, no held-out example, or weights of another
            shape.

    Source: Chen et al., *Module-Aware Optimization for Auxiliary Learning*, NeurIPS 2022, eq. 8 and 9; Lorraine et al.,
    *Optimizing Millions of Hyperparameters by Implicit Differentiation*, AISTATS 2020, section 3.2.
    """
    if not step_size > 0:
        raise ValueError(f"step_size={step_size} must be positive")
    if neumann_steps < 0:
        raise ValueError(f"neumann_steps={neumann_steps} must not be negative")
    if strategy not in ("auto", "double_backward", "finite_difference"):
        raise ValueError(f"strategy={strategy!r} is not 'auto', 'double_backward' or 'finite_difference'")
    outside, inside = held_out_probe(objective, held_out), Probe(objective, batch)
    if trained is not None:
        for probe in (outside, inside):
            probe.trainable = [name for name in probe.trainable if name in trained]
    outer = Field(outside).at()
    field = Field(inside, weights_BK, module_weights)

    def series(product: Product) -> tuple[dict[str, Tensor], float, list[float], list[str]]:
        return _series(outer, product, step_size, neumann_steps)

    chosen, why = (strategy, "as asked") if strategy != "auto" else _choose(objective, batch, outer)
    direction, used, lengths, remarks = field.with_products(chosen, series)
    if remarks:
        warnings.warn("; ".join(remarks), NeumannWarning, stacklevel=2)
    return NeumannSeries(direction, used, lengths, chosen, why, remarks)


_choices: WeakKeyDictionary[Objective, dict[bool, tuple[Products, str]]] = WeakKeyDictionary()


def _choose(objective: Objective, batch: Batch, v: Parameters) -> tuple[Products, str]:
    """Return how to multiply by Hessians, and why; tried once for each objective and mode."""
    objective = uncompiled(objective)
    known = _choices.setdefault(objective, {})
    mode = objective.model.training
    if mode not in known:
        with asked_of_some(batch):
            known[mode] = _try(objective, few_of(batch), v)
    return known[mode]


def _try(objective: Objective, few: Batch, v: Parameters) -> tuple[Products, str]:
    """Compare double backward with a difference.

    It is silently wrong through an operator that can be differentiated only once: autograd then sees no second way to the
    parameters. Both are taken of a copy in float64, few examples and a tiny step, as a longer one crosses kinks of ReLU, where
    the two differ and neither is wrong.
    """
    try:
        trial = copy.deepcopy(objective).double()
        wide = map_tensors(few, lambda value: value.double() if value.is_floating_point() else value)
        field = Field(Probe(trial, wide), step=TINY)
        v = {name: value.double() for name, value in v.items()}
        expected = field.with_products("finite_difference", lambda product: product(v))
    except (RuntimeError, TypeError):  # a model that cannot be copied, or has no float64
        field = Field(Probe(objective, few))
        expected = field.with_products("finite_difference", lambda product: product(v))
    try:
        found = field.with_products("double_backward", lambda product: product(v))
    except RuntimeError as error:
        said = f"double_backward failed ({type(error).__name__}: {str(error).splitlines()[0][:120]})"
        return "finite_difference", said
    if norm(_sum(found, expected, -1.0)) <= TOLERANCE * norm(expected):
        return "double_backward", "double_backward agrees with a difference of gradients"
    return "finite_difference", "double_backward disagrees with a difference of gradients"


def _series(
    gradient: Parameters, product: Product, step_size: float, neumann_steps: int
) -> tuple[dict[str, Tensor], float, list[float], list[str]]:
    """Return eta * sum_tau ((I - eta J)^T)^tau gradient, the eta used, the lengths of the terms, and remarks."""
    eta = step_size
    remarks: list[str] = []
    kept = [dict(gradient)]  # the first terms, of which those for a shorter step are mixtures
    while True:
        v, total, lengths = kept[0], kept[0], [norm(gradient)]
        for loop in range(neumann_steps):
            if loop + 1 < len(kept):
                term = kept[loop + 1]
            else:
                term = _sum(v, product(v), -eta)
                if loop < KEPT:
                    kept.append(term)
            change, length = _sum(v, term, -1.0), norm(term)  # eta J^T v
            small = norm(change) <= lengths[-1] and length <= GROWTH * lengths[0]
            if not (small or length <= max(lengths[-1], NEGLIGIBLE * lengths[0])):
                break
            v, total, lengths = term, _sum(total, term, 1.0), [*lengths, length]
        else:
            break
        grew = f"term {len(lengths)} of the Neumann series is {length / lengths[-1]:.4g} times as long as the one before it"
        curvature = float(sum((v[name] * change[name]).sum() for name in v))
        longest = 2 * eta * curvature / norm(change) ** 2  # the longest step that does not lengthen v
        shorter = eta / 2
        while shorter > longest and shorter > step_size * SHORTEST:
            shorter /= 2
        if not step_size * SHORTEST < shorter <= longest:
            remarks.append(
                f"{grew}, and no step size from {step_size * SHORTEST:.3g} on helps: the series ends before it"
            )
            break
        remarks.append(
            f"{grew}: step_size={eta:.3g} is too long for the curvature, the series begins again with {shorter:.3g}"
        )
        kept, eta = _of_shorter_step(kept, shorter / eta), shorter
    return {name: eta * value for name, value in total.items()}, eta, [eta * length for length in lengths], remarks


def _of_shorter_step(terms: list[dict[str, Tensor]], share: float) -> list[dict[str, Tensor]]:
    """Return the first terms for a share of the step size, without a product.

    As :math:`I - sA = (1-s) I + s (I - A)`, the power tau of it is a mixture of the powers of :math:`I - A` up to tau, with the
    binomial distribution's weights.
    """
    mixed = []
    for power in range(len(terms)):
        found: dict[str, Tensor] = {}
        for j in range(power + 1):
            weight = comb(power, j) * share**j * (1 - share) ** (power - j)
            found = _sum(found, terms[j], weight)
        mixed.append(found)
    return mixed


def _sum(left: Parameters, right: Parameters, scale: float) -> dict[str, Tensor]:
    """Return left + scale * right, where a missing name is 0."""
    summed = dict(left)
    for name, value in right.items():
        summed[name] = summed[name] + scale * value if name in summed else scale * value
    return summed
