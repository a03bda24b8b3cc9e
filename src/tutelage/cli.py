"""The command line: one command a job, values only."""

from __future__ import annotations

import os
import re
import signal
import sys
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

import jsonargparse
import torch
import yaml

from tutelage.data.manifest import LABELS, Columns
from tutelage.recipes.moderation import (
    ModerationSettings,
    manifest_task,
    moderate,
    posters_task,
    score,
    settings_for,
)
from tutelage.recipes.moderation.settings import Scale
from tutelage.training import Interrupted

Noise = Literal["uniform", "structured", "none"]


@dataclass(frozen=True)
class Demo:
    """Run the main job on digit posters, real handwritten digits that need no download.

    Args:
        out: The run's folder.
        noise: Kind of wrong labels: uniform, or structured (one permitted digit is often taken for a forbidden one).
        noise_rate: Share of the moderator's labels that are wrong.
    """

    out: Path = Path("runs/demo")
    noise: Noise = "uniform"
    noise_rate: float = 0.2

    def run(self, settings: ModerationSettings) -> None:
        """Do it."""
        rate = 0.0 if self.noise == "none" else self.noise_rate
        task = posters_task(settings.seed, self.noise, settings.image_size, noise_rate=rate)
        _finish(moderate(task, settings, self.out, told=_told(self)).report)


@dataclass(frozen=True)
class Moderate:
    """Train a moderation model on a manifest of labelled images.

    Args:
        manifest: A CSV or Parquet file with columns image and label, or a folder with a subfolder for each label.
        out: The run's folder.
        columns: The manifest's own names of its columns.
        labels: Class of each label name: 0 defective, 1 acceptable, -1 not labelled.
    """

    manifest: Path
    out: Path
    columns: Columns = Columns()
    labels: dict[str, int] = field(default_factory=lambda: dict(LABELS))

    def run(self, settings: ModerationSettings) -> None:
        """Do it."""
        task = manifest_task(self.manifest, settings, self.columns, self.labels, out=self.out)
        _finish(moderate(task, settings, self.out, told=_told(self)).report)


@dataclass(frozen=True)
class Predict:
    """Score new images with a run's model, and decide at its false-positive rate.

    Args:
        run_folder: The folder of a finished run.
        manifest: A CSV or Parquet file with a column image.
        out: The table to write, .parquet or .csv.
        fpr: The false-positive rate to decide at, one that the run has a threshold for; the run's own where it is not given.
        columns: The manifest's own names of its columns.
    """

    run_folder: Path
    manifest: Path
    out: Path = Path("scores.parquet")
    fpr: float | None = None
    columns: Columns = Columns()

    def run(self) -> None:
        """Do it."""
        table, problems = score(self.run_folder, self.manifest, self.out, fpr=self.fpr, columns=self.columns)
        blocked = int((table["decision"] == "defective").sum())
        print(f"{len(table)} images scored, {blocked} found defective; {problems.summary()}. Written to {self.out}")


@dataclass(frozen=True)
class Report:
    """Write a run's report.html anew from what lies in its folder.

    Args:
        run_folder: The folder of a finished run.
    """

    run_folder: Path

    def run(self) -> None:
        """Do it."""
        from tutelage.reports import write_report

        _finish(write_report(self.run_folder))


@dataclass(frozen=True)
class Reproduce:
    """Measure a paper's table, and write it as Markdown and JSON with the paper's figures beside ours.

    Args:
        name: The table.
        scale: pocket takes minutes on a CPU; paper is the paper's own configuration.
        seeds: Number of seeds.
        data: Folder of the real data sets; the environment's TUTELAGE_DATA where it is not given.
        out: Folder of the tables.
        runs: Folder of the runs behind them; finished stages are kept there.
        only: Measure only these rows, a list such as ["ViT-Base/16"].
    """

    name: Literal["moderation"]
    scale: Literal["pocket", "paper"] = "pocket"
    seeds: int = 3
    data: Path | None = None
    out: Path = Path("benchmarks/results")
    runs: Path = Path("runs/reproduce")
    only: tuple[str, ...] = ()

    def run(self) -> None:
        """Do it."""
        from tutelage.recipes.reproduce import reproduce

        data = self.data or (Path(os.environ["TUTELAGE_DATA"]) if "TUTELAGE_DATA" in os.environ else None)
        for path in reproduce(
            self.name, self.scale, seeds=self.seeds, data=data, out=self.out, runs=self.runs, only=self.only
        ):
            print(path)


COMMANDS: dict[str, type] = {
    "demo": Demo,
    "moderate": Moderate,
    "predict": Predict,
    "reproduce": Reproduce,
    "report": Report,
}
JOBS = {"demo": "pocket", "moderate": "auto"}
"""The commands that have the job's settings, and the scale at which those start."""
POSITIONAL = {
    "moderate": ("manifest",),
    "predict": ("run_folder", "manifest"),
    "report": ("run_folder",),
    "reproduce": ("name",),
}


def _finish(report: Path) -> None:
    print(f"report: {report}")


def _told(command: Demo | Moderate) -> dict[str, Any]:
    """Return the command's own values for config.yaml, all but the folder in which that lies."""
    return {name: value for name, value in asdict(command).items() if name != "out"}


class _Parser(jsonargparse.ArgumentParser):
    """Answers a mistake in one line, and an unknown flag or key with the nearest known one."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        flags = [option for action in self._actions for option in action.option_strings if option.startswith("--")]
        group = re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", message)
        key = re.search(r"Option '([\w.]+)' is not accepted", message)
        if group or key:
            found = ".".join(group.groups()) if group else key[1] if key else ""
            message = f"unknown key {found!r}{_nearest(found, [flag[2:] for flag in flags])}"
        elif message.startswith("unrecognized arguments: "):
            unknown = re.split("[ =]", message.removeprefix("unrecognized arguments: "))[0]
            message = f"unknown argument {unknown!r}{_nearest(unknown, flags)}"
        message = re.sub(r"""^Parser key "([^"]*)"|<class '([\w.]+)'>|typing\.""", r"\1\2", message)
        raise ValueError(message) from ex


def _nearest(name: str, known: list[str]) -> str:
    """Return the hint at the known name that was probably meant: one that ends in this one, or is written alike."""
    inside = [other for other in known if other.endswith("." + name.lstrip("-"))]
    near = inside or get_close_matches(name, known, n=1)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _positional(command: str, arguments: list[str]) -> list[str]:
    """Turn the leading bare words of a command into its flags."""
    names = list(POSITIONAL.get(command, ()))
    given = []
    while names and arguments and not arguments[0].startswith("-"):
        given += [f"--{names.pop(0)}", arguments.pop(0)]
    return given + arguments


def _leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the settings by dotted name; dictionaries that are values themselves stay whole."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and name != "options":
            found |= _leaves(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def parser_for(command: str, preset: ModerationSettings | None = None) -> jsonargparse.ArgumentParser:
    """Return the parser of one command, with every flag's help from the docstrings.

    Args:
        command: one of `COMMANDS`.
        preset: the defaults of a command that has the job's settings.
    """
    kind = COMMANDS[command]
    words = " ".join(name.upper() for name in POSITIONAL.get(command, ()))
    parser = _Parser(
        prog=f"tutelage {command}",
        usage=f"tutelage {command} {words}".rstrip() + " [--FLAG VALUE ...]",
        description=(kind.__doc__ or "").split("\n")[0],
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="config", help="A YAML file of values, such as a run's config.yaml.")
    parser.add_class_arguments(kind, as_group=False)
    if command in JOBS:
        parser.add_argument(
            "--scale",
            type=Literal["auto", "pocket", "paper"],
            default=JOBS[command],
            help="Where the settings start: paper, pocket (small images and models, for a CPU), or auto.",
        )
        parser.add_class_arguments(ModerationSettings, as_group=False)
        parser.set_defaults(_leaves(asdict(preset or settings_for("pocket")[0])))
    return parser


def _scale(arguments: list[str], default: str) -> str:
    """Return the scale that flags and files name, the last one, since the other flags' defaults depend on it."""
    scale = default
    words = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--") else [word])]
    for flag, value in pairwise(words):
        if flag == "--scale":
            scale = value
        elif flag == "--config" and Path(value).is_file():
            told = yaml.safe_load(Path(value).read_text(encoding="utf-8"))
            scale = told.get("scale", scale) if isinstance(told, dict) else scale
    return scale


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] not in COMMANDS:
        _usage(words)
    command, rest = words[0], words[1:]
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(os.cpu_count() or 1)
    try:
        _run(command, _positional(command, rest))
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(128 + signal.SIGTERM)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except (ValueError, OSError, ImportError, yaml.YAMLError) as error:
        print(f"tutelage {command}: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


def _run(command: str, arguments: list[str]) -> None:
    preset, why = None, ""
    if command in JOBS and (scale := _scale(arguments, JOBS[command])) in (*get_args(Scale), "auto"):
        preset, why = settings_for(scale)  # type: ignore[arg-type]
    parser = parser_for(command, preset)
    told = parser.parse_args(arguments)
    for action in parser._actions:
        group, _, name = action.dest.partition(".")
        if name and not isinstance(told[group], jsonargparse.Namespace):
            raise ValueError(f"{group}={told[group]!r} is no value; set what it consists of, such as {group}.{name}")
    values = parser.instantiate(told)
    job = _made(COMMANDS[command], values)
    if command not in JOBS:
        job.run()
        return
    print(why, file=sys.stderr)
    job.run(_made(ModerationSettings, values))


def _made(kind: Any, values: Any) -> Any:
    return kind(**{field.name: getattr(values, field.name) for field in fields(kind)})


def _usage(words: list[str]) -> None:
    print("usage: tutelage COMMAND [...]\n", file=sys.stderr)
    for name, kind in COMMANDS.items():
        print(f"  {name:<10} {(kind.__doc__ or '').splitlines()[0]}", file=sys.stderr)
    if words and words[0] not in ("-h", "--help"):
        near = get_close_matches(words[0], list(COMMANDS), n=1)
        print(f"\nunknown command {words[0]!r}" + (f"; did you mean {near[0]!r}?" if near else ""), file=sys.stderr)
        sys.exit(2)
    print("\ntutelage COMMAND --help lists a command's flags.", file=sys.stderr)
    sys.exit(0 if words else 2)


if __name__ == "__main__":
    main()
