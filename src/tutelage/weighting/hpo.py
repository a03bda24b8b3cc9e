"""Constant weights by search: train, validate, and propose again."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass

from tutelage.weighting.fixed import Fixed


@dataclass(frozen=True)
class Tuned:
    """What `tune_weights` returns.

    Attributes:
        weights: the best ones, in the order of the signals.
        value: what they reached.
        trials: the weights and the value of each trial, in their order; None where the value was not a number.
    """

    weights: tuple[float, ...]
    value: float
    trials: list[tuple[tuple[float, ...], float | None]]

    @property
    def weighting(self) -> Fixed:
        """A weighting with the best weights."""
        return Fixed(self.weights)


def check_search(num_signals: int, trials: int, bounds: tuple[float, float]) -> None:
    """Refuse arguments that `tune_weights` cannot use.

    Raises:
        ValueError: there is nothing to search.
        ImportError: Optuna is not installed.
    """
    if importlib.util.find_spec("optuna") is None:
        raise ImportError("the search of constant weights needs Optuna: pip install 'tutelage[tune]'")
    if num_signals < 2 or trials < 1 or not 0 < bounds[0] < bounds[1]:
        raise ValueError(f"num_signals={num_signals}, trials={trials} or bounds={bounds} leave nothing to search")


def tune_weights(
    evaluate: Callable[[Fixed], float],
    num_signals: int,
    *,
    trials: int = 20,
    bounds: tuple[float, float] = (1e-3, 1.0),
    seed: int = 0,
) -> Tuned:
    """Search constant weights of the auxiliary signals, the primary one's being 1, by a tree-structured Parzen estimator.

    The first two trials are fixed: auxiliary weights at the least and at the greatest value, so that the answer is never
    worse than the (nearly) plain and the equal training.

    Args:
        evaluate: trains a fresh model with a weighting and returns its value on validation data; higher is better.
        num_signals: K, the primary one included.
        trials: how many trainings.
        bounds: the least and the greatest weight, searched on a logarithmic scale.
        seed: of the search.

    Raises:
        ValueError: an argument that makes no sense, or no trial whose value is a number.
    """
    check_search(num_signals, trials, bounds)
    import optuna

    names = [f"signal_{k}" for k in range(1, num_signals)]
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # its name for the study is nobody's business
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    optuna.logging.set_verbosity(verbosity)
    for bound in bounds:
        study.enqueue_trial(dict.fromkeys(names, bound))
    done: list[tuple[tuple[float, ...], float | None]] = []
    for _ in range(trials):
        trial = study.ask()
        weights = (1.0, *(trial.suggest_float(name, *bounds, log=True) for name in names))
        value = float(evaluate(Fixed(weights)))
        failed = math.isnan(value)
        if failed:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(trial, value)
        done.append((weights, None if failed else value))
    scored = [(value, weights) for weights, value in done if value is not None]
    if not scored:
        raise ValueError(f"evaluate returned no number in {trials} trials")
    best, weights = max(scored, key=lambda each: each[0])
    return Tuned(weights, best, done)
