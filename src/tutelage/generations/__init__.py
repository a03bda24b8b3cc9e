"""Which earlier model teaches the next one: every chain of teachers and students, each made of calls of `fit`."""

from tutelage.generations.iterated import Generations, Iterated, IteratedSettings, Iteration, Schedule, iterate

__all__ = [
    "Generations",
    "Iterated",
    "IteratedSettings",
    "Iteration",
    "Schedule",
    "iterate",
]
