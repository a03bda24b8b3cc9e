"""What people look at: the reports of runs, and plots.

The report and the plots need the extras `reports` and `tables`, and are imported when first used.
"""

from importlib import import_module
from typing import Any

_FILES = {
    "page": ("write_report",),
    "plots": ("Line", "histogram", "line_plot", "montage", "training_curves"),
    "run_folder": ("RunFolder", "Training"),
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names}

__all__ = [*_FILE_OF]


def __getattr__(name: str) -> Any:
    if name not in _FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FILE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
