"""Which earlier model teaches the next one: every chain of teachers and students, each made of calls of `fit`."""

from tutelage.generations.assistants import AssistantSettings, assist
from tutelage.generations.born_again import BornAgainSettings, born_again
from tutelage.generations.chain import Relabelled
from tutelage.generations.incremental import Incremental, IncrementalSettings, Task, learn_incrementally, refining_tasks
from tutelage.generations.iterated import Iterated, Iteration, iterate
from tutelage.generations.mopro import MomentumPrototypes, MoPro, MoProSettings, Projected, mopro
from tutelage.generations.noisy_student import NoisyStudentSettings, confident, noisy_student
from tutelage.generations.schedule import Generations, IteratedSettings, Schedule
from tutelage.generations.self_contained import SelfContained, SelfContainedSettings, self_contained
from tutelage.generations.self_training import SelfTrainingSettings, self_training, surest_of_each_class
from tutelage.generations.sskd import FourViews, SSKDSettings, sskd

__all__ = [
    "AssistantSettings",
    "BornAgainSettings",
    "FourViews",
    "Generations",
    "Incremental",
    "IncrementalSettings",
    "Iterated",
    "IteratedSettings",
    "Iteration",
    "MoPro",
    "MoProSettings",
    "MomentumPrototypes",
    "NoisyStudentSettings",
    "Projected",
    "Relabelled",
    "SSKDSettings",
    "Schedule",
    "SelfContained",
    "SelfContainedSettings",
    "SelfTrainingSettings",
    "Task",
    "assist",
    "born_again",
    "confident",
    "iterate",
    "learn_incrementally",
    "mopro",
    "noisy_student",
    "refining_tasks",
    "self_contained",
    "self_training",
    "sskd",
    "surest_of_each_class",
]
