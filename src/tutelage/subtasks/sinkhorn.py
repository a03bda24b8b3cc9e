"""Assignment of examples to clusters of given sizes by entropic optimal transport, in the log domain.

N examples, K clusters. The problem has only K unknowns that matter, one scale for each cluster, so examples may be
spread over processes: only sums over examples, K numbers at a time, are ever exchanged.
"""

import warnings
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from tutelage.checks import check_number
from tutelage.hardware import precise
from tutelage.subtasks.sinkhorn_solver import Solver, centred


class SinkhornWarning(UserWarning):
    """The sizes of the clusters were not reached within the tolerance."""


@dataclass(frozen=True)
class Sinkhorn:
    """A solved transport problem; rows are this process's examples.

    The plan is `exp(lam * log_probabilities_NK + log_scale_N[:, None] + log_scale_K)`: its rows sum to 1, its columns
    to `sizes_K` within `marginal_error`. It is computed on demand from the log-probabilities, which are kept by
    reference.

    Attributes:
        labels: (N,) the likeliest cluster of each example; the lowest of equal ones.
        log_scale_N: (N,) log of beta, the examples' scales.
        log_scale_K: (K,) log of alpha, the clusters' scales, of mean 0; the next round's `warm_start`.
        sizes_K: (K,) the sizes that were asked for; they sum to the number of examples.
        marginal_error: max over clusters of |column sum - size| / size.
        iterations: passes over the plan: sweeps, products with the Hessian, and evaluations of the dual.
        converged: whether `marginal_error` is within the tolerance.
        lam: the sharpness.
    """

    labels: Tensor
    log_scale_N: Tensor
    log_scale_K: Tensor
    sizes_K: Tensor
    marginal_error: float
    iterations: int
    converged: bool
    lam: float
    _log_probabilities_NK: Tensor = field(repr=False)

    def log_plan(self) -> Tensor:
        """Return the logarithm of the plan, (N, K), computed anew; finite, so fit for `round_to_minimum_size`."""
        x_NK, top_N = centred(self._log_probabilities_NK, self.log_scale_K.dtype)
        rest_N = self.log_scale_N + self.lam * top_N
        return x_NK.mul_(self.lam).add_(rest_N[:, None]).add_(self.log_scale_K)

    def plan(self) -> Tensor:
        """Return the plan, (N, K): how much of each example goes to each cluster; rows sum to 1."""
        return self.log_plan().exp_()


@torch.no_grad()
def sinkhorn(
    log_probabilities_NK: Tensor,
    lam: float,
    *,
    sizes: Tensor | None = None,
    tolerance: float = 1e-6,
    max_iterations: int = 10_000,
    warm_start: Tensor | None = None,
    relaxation: float = 1.8,
    newton_below: float = 0.1,
    dtype: torch.dtype | None = None,
    group: dist.ProcessGroup | None = None,
) -> Sinkhorn:
    r"""Assign examples to clusters of given sizes, as their log-probabilities suggest.

    .. math::
        Q^* = \arg\min_Q \langle Q, -\log p\rangle - \tfrac1\lambda H(Q)
        \quad\text{s.t.}\quad \textstyle\sum_y Q_{iy} = 1,\; \sum_i Q_{iy} = n_y
        \quad\Rightarrow\quad Q^*_{iy} = \alpha_y\, p_{iy}^\lambda\, \beta_i

    (Sub-Task Imputation eq. 6 and 7, with the sign of H, the transposes and the inverse corrected; n_y = N/K there.)
    Large lam is sharp. In its multiplicative form the iteration underflows at the paper's lam = 250 even in float64.
    Here it is solved in three steps:

    1. lam is annealed, doubling up to its value, with the scales carried along; a `warm_start` replaces this.
    2. At each lam, over-relaxed sweeps: a scale moves by omega times the logarithm of its mismatch, or by the plain
       step where omega would not lower the dual objective; then no sweep can diverge. Sweeps run on the plan scaled
       by vectors near 1, which are absorbed into log alpha and log beta long before anything under- or overflows.
    3. Below `newton_below`, Newton's method on the K scales, each step by conjugate gradients and guarded by a line
       search. Sweeps slow down as lam grows; Newton's steps do not.

    Args:
        log_probabilities_NK: (N, K) log p of any floating type; constants added to a row change nothing, and -inf
            (p = 0) is read as the least positive number. Not differentiated.
        lam: the sharpness lambda > 0; the paper tried 10, 50, 125, 250 and 1000.
        sizes: (K,) positive sizes, in any unit (scaled to sum to N); None is N/K each.
        tolerance: the `marginal_error` that is asked for.
        max_iterations: the most passes over the plan, give or take ten: that often the error is looked at.
        warm_start: (K,) `log_scale_K` of an earlier result at the same lam.
        relaxation: omega in [1, 2); 1 is plain Sinkhorn.
        newton_below: the marginal error at which Newton's method takes over; 0 never does.
        dtype: in which to compute, whatever the type of the input; by default float64, where the device has it.
        group: the processes whose rows, taken together, are the examples (`torch.distributed.group.WORLD` for all);
            every process calls, and K numbers are exchanged an iteration. None: this process holds all rows.

    Returns:
        The labels, the scales, what was reached, and the plan on demand.

    Raises:
        TypeError: log_probabilities_NK is not floating point.
        ValueError: wrong shapes, NaN or +inf entries, a row without a finite entry, fewer examples than clusters, or
            settings outside their ranges.

    Warns:
        SinkhornWarning: the tolerance is not met; the result says so too.

    Source: Cuturi 2013 (Sinkhorn); Schmitzer 2019 (absorption, annealing); Thibault et al. 2021 (over-relaxation).
    """
    check_number("lam", lam, "(0, inf)")
    check_number("tolerance", tolerance, "(0, inf)")
    check_number("max_iterations", max_iterations, "[1, inf)", int)
    check_number("relaxation", relaxation, "[1, 2)")
    check_number("newton_below", newton_below, "[0, inf]")
    examples = _check_rows(log_probabilities_NK, group)
    clusters = log_probabilities_NK.shape[1]
    dtype = precise(log_probabilities_NK.device) if dtype is None else dtype
    sizes_K = _sizes(sizes, clusters, examples, dtype).to(log_probabilities_NK.device, dtype)
    if warm_start is not None:
        if warm_start.shape != (clusters,) or not bool(warm_start.isfinite().all()):
            raise ValueError(f"warm_start must be ({clusters},) and finite; it is {warm_start}")
        warm_start = warm_start.to(sizes_K)
    x_NK, top_N = centred(log_probabilities_NK, dtype)
    solver = Solver(x_NK, sizes_K, relaxation, max_iterations, group)
    scale_K = solver.solve(lam, tolerance, newton_below, warm_start)
    log_row_N, plan_NK = solver.rows(lam, scale_K)
    error = solver.error(solver.total(plan_NK.sum(0)))
    converged = error <= tolerance
    if not converged:
        warnings.warn(
            f"sinkhorn: the clusters' sizes are off by up to {error:.1e} of a size after {solver.passes} passes, and "
            f"tolerance={tolerance:g}; raise max_iterations={max_iterations} or tolerance, or lower lam={lam:g}",
            SinkhornWarning,
            stacklevel=3,  # past the no_grad decorator
        )
    return Sinkhorn(
        labels=plan_NK.argmax(1),
        log_scale_N=-log_row_N - lam * top_N,
        log_scale_K=scale_K,
        sizes_K=sizes_K,
        marginal_error=error,
        iterations=solver.passes,
        converged=converged,
        lam=lam,
        _log_probabilities_NK=log_probabilities_NK.detach(),
    )


def _check_rows(log_probabilities_NK: Tensor, group: dist.ProcessGroup | None) -> int:
    """The number of examples in all processes; every process raises if one of them has a bad row."""
    if not log_probabilities_NK.is_floating_point():
        raise TypeError(f"log_probabilities_NK must be floating point; it is {log_probabilities_NK.dtype}")
    if log_probabilities_NK.ndim != 2 or not log_probabilities_NK.shape[1]:
        raise ValueError(f"log_probabilities_NK must be (N, K), K > 0; it is {tuple(log_probabilities_NK.shape)}")
    undefined = (log_probabilities_NK.isnan() | log_probabilities_NK.isposinf()).any(1)
    empty = log_probabilities_NK.isneginf().all(1)
    counts = torch.stack([torch.ones_like(empty).sum(), undefined.sum(), empty.sum()])
    if group is not None:
        dist.all_reduce(counts, group=group)
    rows, bad, nowhere = counts.tolist()
    if bad or nowhere:
        raise ValueError(
            f"log_probabilities_NK: of {rows} rows {bad} hold NaN or +inf, and {nowhere} hold only -inf; "
            "has the model diverged?"
        )
    if rows < log_probabilities_NK.shape[1]:
        raise ValueError(f"{rows} examples cannot fill {log_probabilities_NK.shape[1]} clusters; ask for fewer")
    return rows


def _sizes(sizes: Tensor | None, clusters: int, rows: int, dtype: torch.dtype) -> Tensor:
    if sizes is None:
        return torch.full((clusters,), rows / clusters, dtype=dtype)
    if sizes.shape != (clusters,) or not bool(((sizes > 0) & sizes.isfinite()).all()):
        raise ValueError(f"sizes must be ({clusters},), positive and finite; it is {sizes}")
    sizes = sizes.to(dtype)
    return sizes * (rows / sizes.sum())
