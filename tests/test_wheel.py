"""What is installed from a wheel is all that the clone has."""

from pathlib import Path

import pytest
from setuptools import Distribution

ROOT = Path(__file__).parents[1]


def test_the_wheel_has_every_file_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    package = Distribution({"script_name": "setup.py"})
    package.parse_config_files()
    package.set_defaults()
    build = package.get_command_obj("build_py")
    build.ensure_finalized()
    modules = {Path(path) for *_, path in build.find_all_modules()}
    others = {Path(folder, name) for _, folder, _, names in build.data_files for name in names}
    there = {path.relative_to(ROOT) for path in (ROOT / "src" / "tutelage").rglob("*") if path.is_file()}
    there = {path for path in there if "__pycache__" not in path.parts}
    assert modules | others >= there, sorted(there - modules - others)
    assert len(others) > 10
