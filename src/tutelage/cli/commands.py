"""Every command, by name."""

from typing import Any

from tutelage.cli.moderation import Demo, Moderate
from tutelage.cli.multilabel import Multilabel
from tutelage.cli.runs import Predict, Report
from tutelage.cli.tables import Reproduce

COMMANDS: dict[str, Any] = {
    "demo": Demo,
    "moderate": Moderate,
    "multilabel": Multilabel,
    "predict": Predict,
    "reproduce": Reproduce,
    "report": Report,
}
