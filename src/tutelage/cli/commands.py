"""Every command, by name."""

from typing import Any

from tutelage.cli.auxiliary import Auxiliary
from tutelage.cli.denoise import Denoise
from tutelage.cli.distill import Distill
from tutelage.cli.moderation import Demo, Moderate
from tutelage.cli.multilabel import Multilabel
from tutelage.cli.runs import Predict, Report

COMMANDS: dict[str, Any] = {
    "auxiliary": Auxiliary,
    "demo": Demo,
    "denoise": Denoise,
    "distill": Distill,
    "moderate": Moderate,
    "multilabel": Multilabel,
    "predict": Predict,
    "report": Report,
}
