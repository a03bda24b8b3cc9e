"""The dual of entropic optimal transport with K clusters: annealed, over-relaxed Sinkhorn, finished by Newton's method.

The plan is Q_iy = exp(lam * x_iy + a_y + b_i). `sinkhorn` is the way in.
"""

import math

import torch
import torch.distributed as dist
from torch import Tensor

_BLOCK = 10  # sweeps between two looks at the error
_STAGE_ERROR, _STAGE_SWEEPS = 0.1, 200  # how far a stage of the annealing goes before the next one
_GENTLE = 4.0  # lam times the spread of log p at which Sinkhorn needs no annealing


class Solver:
    """One transport problem: the rows of this process, the sizes that all processes share, and a count of passes.

    Args:
        x_NK: (N, K) log-probabilities as `centred` leaves them.
        sizes_K: (K,) sizes of the clusters; they sum to the number of rows in all processes.
        relaxation, max_iterations, group: as in `sinkhorn`.
    """

    def __init__(
        self, x_NK: Tensor, sizes_K: Tensor, relaxation: float, max_iterations: int, group: dist.ProcessGroup | None
    ) -> None:
        self.x_NK, self.sizes_K, self.group = x_NK, sizes_K, group
        self.relaxation, self.least_ratio = relaxation, _least_ratio(relaxation)
        self.max_iterations, self.passes = max_iterations, 0
        # Sweeps run on a plan whose scales drift from 1 by about exp(drift) before they are absorbed. Entries below
        # exp(floor) are dropped: they are too small to matter whatever the drift, and slow as denormal numbers.
        self.drift, self.floor = -0.1 * log_tiny(x_NK.dtype), 0.8 * log_tiny(x_NK.dtype)

    def solve(self, lam: float, tolerance: float, newton_below: float, warm_start: Tensor | None) -> Tensor:
        """The clusters' log scales (K,), of mean 0, as good as the tolerance or the greatest number of passes."""
        scale_K = self.annealed(lam) if warm_start is None else warm_start
        if newton_below > tolerance:
            scale_K = self.newton(lam, self.sweeps(lam, scale_K, newton_below, _STAGE_SWEEPS), tolerance)
        else:
            scale_K = self.sweeps(lam, scale_K, tolerance, self.max_iterations)
        return scale_K - scale_K.mean()

    def annealed(self, lam: float) -> Tensor:
        """Scales to start from at lam: those of lam / 2, and so on from a lam at which Sinkhorn is quick."""
        scale_K = torch.zeros_like(self.sizes_K)
        spread = math.sqrt(float(self.total(self.x_NK.square().sum()) / self.sizes_K.sum()) / len(scale_K))
        doublings = math.ceil(math.log2(max(lam * spread / _GENTLE, 1.0)))
        for j in range(doublings, 0, -1):
            scale_K = 2 * self.sweeps(lam / 2**j, scale_K, _STAGE_ERROR, _STAGE_SWEEPS)
        return scale_K

    def total(self, part: Tensor) -> Tensor:
        """Sum over the processes."""
        if self.group is not None:
            part = part.clone()
            dist.all_reduce(part, group=self.group)
        return part

    def column_logsumexp(self, log_NK: Tensor) -> Tensor:
        """Logarithm of the sum over all examples, (K,)."""
        log_K = log_NK.logsumexp(0)
        if self.group is None:
            return log_K
        parts = [torch.empty_like(log_K) for _ in range(dist.get_world_size(self.group))]
        dist.all_gather(parts, log_K, group=self.group)
        return torch.stack(parts).logsumexp(0)

    def rows(self, lam: float, scale_K: Tensor) -> tuple[Tensor, Tensor]:
        """The rows' log-sums (N,) and the plan (N, K) that has these clusters' scales and rows of sum 1."""
        log_NK = torch.add(scale_K, self.x_NK, alpha=lam)
        top_N1 = log_NK.amax(1, keepdim=True)
        plan_NK = self.exp_(log_NK.sub_(top_N1))
        sum_N1 = plan_NK.sum(1, keepdim=True)
        return (top_N1 + sum_N1.log()).squeeze(1), plan_NK.div_(sum_N1)

    def exp_(self, log_NK: Tensor) -> Tensor:
        """Exponential in place, with 0 for what is too small to matter."""
        return torch.threshold_(log_NK, self.floor, -math.inf).exp_()

    def error(self, column_K: Tensor) -> float:
        """The marginal error of these column sums."""
        return float((column_K / self.sizes_K - 1).abs().max())

    def relaxed(self, ratio: Tensor) -> Tensor:
        """The factor for a scale whose sum is `ratio` times what it should be."""
        return torch.where(ratio >= self.least_ratio, ratio.pow(-self.relaxation), ratio.reciprocal())

    def sweeps(self, lam: float, scale_K: Tensor, tolerance: float, limit: int) -> Tensor:
        """Over-relaxed Sinkhorn until the error is within the tolerance, or for about `limit` passes."""
        limit = min(self.passes + limit, self.max_iterations)
        error = math.inf
        while error > tolerance and self.passes < limit:
            # A plain sweep in the log domain, which survives any scales, and the plan that it leads to.
            log_NK = torch.add(scale_K, self.x_NK, alpha=lam)
            log_NK -= log_NK.logsumexp(1, keepdim=True)
            step_K = self.sizes_K.log() - self.column_logsumexp(log_NK)
            scale_K = scale_K + step_K
            plan_NK = self.exp_(log_NK.add_(step_K))
            self.passes += 1
            u_N, v_K, drift = plan_NK.new_ones(len(plan_NK)), torch.ones_like(scale_K), 0.0
            while error > tolerance and drift < self.drift and self.passes < limit:
                for _ in range(_BLOCK):
                    u_N = u_N * self.relaxed(u_N * (plan_NK @ v_K))
                    v_K = v_K * self.relaxed(v_K * self.total(u_N @ plan_NK) / self.sizes_K)
                self.passes += _BLOCK
                drift = float(v_K.log().abs().max())
                error = self.error(v_K * self.total((plan_NK @ v_K).reciprocal() @ plan_NK))
            if math.isfinite(drift) and math.isfinite(error):
                scale_K = scale_K + v_K.log()
            else:
                error = math.inf  # the block is lost, the sweep in the log domain is not
        return scale_K

    def newton(self, lam: float, scale_K: Tensor, tolerance: float) -> Tensor:
        r"""Minimise the dual that is left when the rows' scales are eliminated, by damped Newton steps.

        .. math:: D(a) = \sum_i \log \sum_y p_{iy}^\lambda e^{a_y} - \sum_y n_y a_y,\quad
            \nabla D = Q^\top 1 - n,\quad \nabla^2 D = \operatorname{diag}(Q^\top 1) - Q^\top Q
        """
        value, column_K, plan_NK = self.dual(lam, scale_K)
        error = self.error(column_K)
        while error > tolerance and self.passes < self.max_iterations:
            gradient_K = column_K - self.sizes_K
            step_K = self.newton_step(plan_NK, column_K, gradient_K, min(error, 0.1))
            slope, length = float(gradient_K @ step_K), 1.0
            rounding = 8 * torch.finfo(scale_K.dtype).eps * abs(value)
            before = value, error
            while True:
                value, column_K, plan_NK = self.dual(lam, scale_K + length * step_K)
                if value <= before[0] + 1e-4 * length * slope + rounding or length < 1e-6:
                    break
                length /= 2
            error = self.error(column_K)
            if value >= before[0] and error >= before[1]:
                break  # rounding has the last word: the scales stay as they were
            scale_K = scale_K + length * step_K
        return scale_K

    def dual(self, lam: float, scale_K: Tensor) -> tuple[float, Tensor, Tensor]:
        """The dual objective, the columns' sums (K,), and the plan (N, K)."""
        log_row_N, plan_NK = self.rows(lam, scale_K)
        self.passes += 1
        sums = self.total(torch.cat([plan_NK.sum(0), log_row_N.sum(0, keepdim=True)]))
        return float(sums[-1] - self.sizes_K @ scale_K), sums[:-1], plan_NK

    def newton_step(self, plan_NK: Tensor, column_K: Tensor, gradient_K: Tensor, error: float) -> Tensor:
        """Solve (Hessian + damping) step = -gradient by conjugate gradients, the more exactly the smaller the error."""
        damping_K = 0.01 * error * self.sizes_K  # lifts the null space (a constant added to all scales changes nothing)
        diagonal_K = column_K - self.total(plan_NK.square().sum(0)) + damping_K
        step_K, residual_K = torch.zeros_like(gradient_K), -gradient_K
        direction_K = residual_K / diagonal_K
        decrement = residual_K @ direction_K
        goal = 0.25 * error * decrement  # of the squared residual, so half the root of the error
        for _ in range(min(2 * len(gradient_K), self.max_iterations - self.passes)):
            curved_K = (column_K + damping_K) * direction_K - self.total(plan_NK.mv(direction_K) @ plan_NK)
            self.passes += 1
            length = decrement / (direction_K @ curved_K)
            step_K = step_K + length * direction_K
            residual_K = residual_K - length * curved_K
            scaled_K = residual_K / diagonal_K
            previous, decrement = decrement, residual_K @ scaled_K
            if decrement <= goal:
                break
            direction_K = scaled_K + (decrement / previous) * direction_K
        return step_K


def _least_ratio(relaxation: float) -> float:
    r"""The least r at which the step by r^-omega lowers the dual: the root below 1 of r - r^(1 - omega) - omega log r.

    Multiplying a scale whose sum is r (in units of its target) by r^-omega lowers the dual by exactly this function
    (Thibault et al. 2021, section 3), which is positive between the root and 1, and beyond 1.
    """
    low, high = 1e-9, 1.0
    for _ in range(60):
        r = math.sqrt(low * high)
        low, high = (low, r) if r - r ** (1 - relaxation) - relaxation * math.log(r) >= 0 else (r, high)
    return high


def centred(log_probabilities_NK: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A copy whose rows have their greatest entry at 0 and none at -inf, and the greatest entries (N,)."""
    x_NK = log_probabilities_NK.to(dtype, copy=True)
    top_N = x_NK.amax(1)
    x_NK -= top_N[:, None]
    impossible_NK = x_NK.isneginf()
    least_N = x_NK.masked_fill(impossible_NK, 0).amin(1).clamp(max=log_tiny(dtype))
    return torch.where(impossible_NK, least_N[:, None], x_NK), top_N


def log_tiny(dtype: torch.dtype) -> float:
    """Logarithm of the least positive normal number."""
    return math.log(torch.finfo(dtype).tiny)
