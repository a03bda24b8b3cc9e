"""Which hidden sub-tasks does a label contain, which are worth learning, and in what order?"""

from tutelage.subtasks.curricula import Curriculum
from tutelage.subtasks.discovery import Discovery, DiscoverySettings, SelfLabels, discover, features
from tutelage.subtasks.example_weights import with_example_weights
from tutelage.subtasks.kmeans import kmeans
from tutelage.subtasks.lesson import Lesson, LessonSettings, joint_log_odds, prepare, two_way
from tutelage.subtasks.operating import operating_points
from tutelage.subtasks.rounding import round_to_minimum_size
from tutelage.subtasks.selection import Selection, SelectionSettings, VacuousThreshold, select
from tutelage.subtasks.sinkhorn import Sinkhorn, SinkhornWarning, sinkhorn
from tutelage.subtasks.specialists import Specialists, SpecialistSettings, train_specialists
from tutelage.subtasks.student import Criterion, StudentSettings, acceptability, selects, teach, token_cosine

__all__ = [
    "Criterion",
    "Curriculum",
    "Discovery",
    "DiscoverySettings",
    "Lesson",
    "LessonSettings",
    "Selection",
    "SelectionSettings",
    "SelfLabels",
    "Sinkhorn",
    "SinkhornWarning",
    "SpecialistSettings",
    "Specialists",
    "StudentSettings",
    "VacuousThreshold",
    "acceptability",
    "discover",
    "features",
    "joint_log_odds",
    "kmeans",
    "operating_points",
    "prepare",
    "round_to_minimum_size",
    "select",
    "selects",
    "sinkhorn",
    "teach",
    "token_cosine",
    "train_specialists",
    "two_way",
    "with_example_weights",
]
