"""The service in a container, told by its environment: ``python -m tutelage.production.serving``. It needs no PyTorch.

TUTELAGE_MODEL (by default /opt/ml/model, where SageMaker puts it), TUTELAGE_HOST, TUTELAGE_PORT, TUTELAGE_TOKEN,
TUTELAGE_DECISIONS, TUTELAGE_CHALLENGERS and TUTELAGE_WEIGHTS (JSON), and each field of `ServiceSettings`, such as
TUTELAGE_QUEUE.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from tutelage.production.serving.running import start
from tutelage.production.serving.settings import ServiceSettings

_OWN = ("MODEL", "HOST", "PORT", "TOKEN", "DECISIONS", "CHALLENGERS", "WEIGHTS")
_FOR_TRAINING = ("DATA",)


def arguments(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of `start` that an environment tells.

    Raises:
        ValueError: a variable that is none of these, or whose value is none.
    """
    told = {
        name.removeprefix("TUTELAGE_"): value for name, value in environment.items() if name.startswith("TUTELAGE_")
    }
    sizes = {field.name.upper(): field.name for field in fields(ServiceSettings)}
    if unknown := sorted(set(told) - {*_OWN, *_FOR_TRAINING, *sizes}):
        raise ValueError(f"TUTELAGE_{unknown[0]} is none of TUTELAGE_{', TUTELAGE_'.join([*_OWN, *sizes])}")

    def read(name: str, default: Any) -> Any:
        try:
            return json.loads(told[name]) if name in told else default
        except ValueError as error:
            raise ValueError(f"TUTELAGE_{name}={told[name]!r} cannot be read: {error}") from None

    return {
        "model": Path(told.get("MODEL", "/opt/ml/model")),
        "challengers": {name: Path(folder) for name, folder in read("CHALLENGERS", {}).items()},
        "weights": read("WEIGHTS", {}),
        "host": told.get("HOST", "127.0.0.1"),
        "port": int(read("PORT", 8080)),
        "token": told.get("TOKEN"),
        "decisions": told.get("DECISIONS", "decisions.sqlite"),
        "settings": ServiceSettings(**{field: read(name, None) for name, field in sizes.items() if name in told}),
    }


if __name__ == "__main__":
    try:
        start(**arguments(os.environ))
    except (ValueError, OSError) as error:
        print(f"tutelage serve: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
