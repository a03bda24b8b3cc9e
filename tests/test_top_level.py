"""What `tutelage` itself offers: everything of a loop of one's own, typed, and imported when it is used."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import tutelage
from tutelage import data, metrics, signals, training, weighting


@pytest.mark.parametrize("name", tutelage.__all__)
def test_every_name_is_that_of_its_room(name: str) -> None:
    found = getattr(tutelage, name)
    rooms = [room for room in (metrics, signals, weighting, data, training) if name in room.__all__]
    assert name == "__version__" or [getattr(room, name) for room in rooms] == [found]


def test_every_signal_and_every_weighting_is_there() -> None:
    for room, base in ((signals, signals.Signal), (weighting, weighting.Weighting)):
        for name in room.__all__:
            value = getattr(room, name)
            if inspect.isclass(value) and issubclass(value, base):
                assert name in tutelage.__all__, f"{name} needs its lines in tutelage/__init__.py"
    assert {"Objective", "Indexed", "TensorData", "endless", "fit", "Plan"} <= set(tutelage.__all__)


def looked_up_late(package: ModuleType) -> list[str]:
    """Return the names that a package imports for type checkers alone."""
    tree = ast.parse(Path(str(package.__file__)).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    return [alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names]


def test_type_checkers_see_the_names_that_are_looked_up_late() -> None:
    assert sorted([*looked_up_late(tutelage), "__version__"]) == sorted(tutelage.__all__) == dir(tutelage)
    assert sorted(looked_up_late(data)) == sorted(data._FILE_OF)
    name = "AMOL"
    with pytest.raises(AttributeError, match="has no attribute 'AMOL'"):
        getattr(tutelage, name)


def test_nothing_is_imported_before_it_is_used() -> None:
    program = "import sys, tutelage; dir(tutelage); assert 'torch' not in sys.modules; tutelage.Objective; " + (
        "assert 'accelerate' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
