"""The house's rules that a program can read: who imports whom, and what no file says."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tutelage

HOUSE = Path(tutelage.__file__).parent
FILES = sorted(HOUSE.rglob("*.py"))
HEAVY = (
    "timm",
    "torchvision",
    "pandas",
    "matplotlib",
    "sklearn",
    "PIL",
    "optuna",
    "jsonargparse",
    "pyarrow",
    "jinja2",
    "yaml",
    "onnx",
    "onnxruntime",
    "fastapi",
    "uvicorn",
    "prometheus_client",
    "sqlalchemy",
    "alembic",
)

# CONTRIBUTING.md: who stands above whom; a room imports from lower floors, and never from its own floor's other rooms.
FLOORS = (
    {"cli"},
    {"production"},
    {"recipes"},
    {"subtasks", "generations", "reports"},
    {"training"},
    {"weighting"},
    {"hypergradient"},
    {"signals", "models", "data", "metrics"},
    {"_vision", "batches", "configured", "distributed"},
    {"decoding", "joint_batch_norm"},
    {"checks", "files", "greedy", "hardware", "modes"},
    {"temporaries"},
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def test_importing_the_house_imports_no_extra() -> None:
    program = f"import tutelage, sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert (found.stdout.strip(), found.returncode) == ("[]", 0), found.stderr


def imported(path: Path) -> Iterator[tuple[str, ast.stmt, bool]]:
    """Every module that a file imports, wherever in the file, and whether that is at its top."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node, node in tree.body) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            yield module, node, node in tree.body
            yield from ((f"{module}.{alias.name}", node, node in tree.body) for alias in node.names)


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "tutelage" and len(parts) > 1 and parts[1] in FLOOR else None


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_imports_run_one_way(path: Path) -> None:
    own = path.relative_to(HOUSE).parts[0].removesuffix(".py")
    if own == "__init__":
        return
    assert own in FLOOR, f"{own} is a room that CONTRIBUTING.md does not name"
    for module, node, _ in imported(path):
        room = room_of(module)
        assert room is None or room == own or FLOOR[room] > FLOOR[own], f"line {node.lineno}: {own} imports {room}"


ALWAYS = {"tutelage", "torch", "numpy", "safetensors", "accelerate", "tqdm"} | sys.stdlib_module_names
LIGHT = (
    "signals",
    "weighting",
    "hypergradient",
    "training",
    "metrics",
    "__init__.py",
    "_vision.py",
    "batches.py",
    "checks.py",
    "files.py",
    "hardware.py",
)


@pytest.mark.parametrize("path", [p for p in FILES if p.relative_to(HOUSE).parts[0] in LIGHT], ids=lambda p: p.stem)
def test_the_light_rooms_need_the_core_dependencies_only(path: Path) -> None:
    for module, node, at_the_top in imported(path):
        assert not at_the_top or module.split(".")[0] in ALWAYS, f"line {node.lineno}: {module}"


def docstrings(tree: ast.Module) -> set[int]:
    expressions = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
    return {id(value) for value in expressions if isinstance(value, ast.Constant)}


DEVICES = ("cuda", "mps", "xpu", "hpu", "npu")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_no_file_names_a_device_or_unpickles(path: Path) -> None:
    tree = ast.parse(path.read_text())
    texts = docstrings(tree)
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts:
            named = node.value.split(":")[0]
            assert named not in DEVICES, f"line {line}: {node.value!r}"
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) not in ("torch.backends", "backends"):
            assert node.attr not in DEVICES, f"line {line}: .{node.attr}"  # a backend's settings choose no device
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            safe = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert safe.get("weights_only") == "True", f"line {line}: torch.load without weights_only=True"
    modules = {module.split(".")[0] for module, _, _ in imported(path)}
    assert not modules & {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
