"""What pip installs from a wheel is what the clone has, and starts without the clone."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import tutelage

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which a wheel of the clone was unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    clone = folder / "clone"
    clone.mkdir()
    for name in ("src", "pyproject.toml", "README.md", "LICENSE"):  # so that nothing is built inside the clone
        (clone / name).symlink_to(ROOT / name)
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    egg = f"[egg_info]\negg_base = {folder}\n"
    (clone / "setup.cfg").write_text(egg)
    subprocess.run([sys.executable, "-c", build, str(folder)], cwd=clone, check=True, capture_output=True, timeout=300)
    (wheel,) = folder.glob("tutelage-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_a_wheel_holds_every_file_of_the_package(installed):
    def files(folder: Path) -> set[str]:
        paths = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        return {path.relative_to(folder).as_posix() for path in paths}

    assert files(installed / "tutelage") == files(ROOT / "src" / "tutelage")


def test_the_installed_command_starts_and_reads_its_templates(installed, tmp_path):
    program = (
        "import tutelage; from importlib.resources import files; from tutelage.recipes.recipe import RECIPES, load\n"
        "print(tutelage.__file__)\n"
        "for name in RECIPES: load(name); files('tutelage.reports').joinpath(f'{name}.html').read_text()\n"
        "from tutelage.cli import main; main(['--version'])"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.splitlines() == [
        str(installed / "tutelage" / "__init__.py"),
        f"tutelage {tutelage.__version__}",
    ], done.stderr
