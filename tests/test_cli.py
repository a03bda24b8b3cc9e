"""What the command line promises: every flag with its help, and one line for every mistake."""

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
import yaml

import tutelage
from tutelage import cli, recipes
from tutelage.cli.parser import parser_for, preset_of
from tutelage.data.manifest import LABELS, Columns
from tutelage.data.written import Dates
from tutelage.recipes import moderation
from tutelage.training import Interrupted
from tutelage.training.stages import plain

JOB = [
    *("scale", "seed", "fpr", "image_size", "augmentation", "encoder", "unfreeze"),
    *("radius", "duplicates", "splits", "student"),
    *("specialist", "training", "budget", "select_by", "discovery", "discovery_training", "specialists"),
    *("specialist_training", "selection", "doubt", "lesson", "learning", "weighting", "weighting_options"),
    *("weighting_defaults", "adapt", "hardware"),
]
MULTILABEL = [
    *("scale", "method", "seed", "image_size", "augmentation", "encoder", "unfreeze"),
    *("radius", "val", "test", "share"),
    *("rebalance", "model"),
    *(
        "self_supervised",
        "training",
        "budget",
        "iterated",
        "search",
        "early_learning",
        "distilled",
        "noisy_student",
        "threshold",
        "choose_by",
        "hardware",
    ),
]
AUXILIARY = [
    *(
        "scale",
        "seed",
        "weighting",
        "weighting_options",
        "weighting_defaults",
        "method",
        "adapt",
        "copies",
        "trials",
        "bounds",
    ),
    *(
        "baselines",
        "image_size",
        "encoder",
        "unfreeze",
        "augmentation",
        "turned",
        "shares",
        "body",
        "training",
        "budget",
        "hardware",
    ),
]
DENOISE = [
    *("scale", "seed", "method", "weighting", "weighting_options", "weighting_defaults", "adapt", "held_out"),
    *("judged_on", "features", "classifier", "rule_model", "training", "budget", "labelled_share", "select_by"),
    *("parts", "suggest", "hardware"),
]
DISTILL = [
    *("scale", "seed", "weighting", "weighting_options", "weighting_defaults", "method", "image_size", "augmentation"),
    "encoder",
    "unfreeze",
    *(
        "radius",
        "noise",
        "shares",
        "student",
        "teachers",
        "temperature",
        "kd_weight",
        "smoothing",
        "adapt",
        "refit",
        "trials",
        "coreset",
        "training",
    ),
    *("budget", "select", "train_on_held_out", "baselines", "hardware"),
]
FLAGS = {
    "audit draw": ["database", "verdicts", "weeks", "impressions", "overlap", "run", "seed"],
    "audit report": ["database", "out", "incumbent"],
    "audit serve": ["database", "images", "host", "port", "token"],
    "completion": ["shell"],
    "auxiliary": ["data", "folder", "primary", "sides", "fields", "out", *AUXILIARY],
    "demo": ["noise", "noise_rate", "out", *JOB],
    "denoise": ["data", "rules", "votes", "vectors", "columns", "classes", "processes", "out", *DENOISE],
    "distill": ["data", "folder", "columns", "train_images", "test_images", "classes", "out", *DISTILL],
    "export": ["run_folder", "out", "data", "int8", "fpr", "confidence", "wrong_labels", "held_out", "columns"],
    "moderate": ["manifest", "columns", "labels", "dates", "out", *JOB],
    "multilabel": ["data", "columns", "truth", "real", "domain", "leave_out", "out", *MULTILABEL],
    "predict": ["run_folder", "manifest", "out", "fpr", "vectors", "columns"],
    "report": ["run_folder"],
    "review": ("run_folder", "answers", "check", "database", "seed"),
    "score": ["model", "data", "out", "processes", "ray", "ray_address", "columns"],
    "serve": ["model", "challengers", "weights", "host", "port", "token", "decisions", "service"],
    "threshold": ["run_folder", "fpr", "confidence", "wrong_labels", "held_out", "columns"],
}
"""Frozen: a flag that goes or comes is a change of what people rely on."""
Noise = Literal["uniform", "structured", "none"]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder without runs: the clone's own, as `make demo` leaves it, has a part in no test."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(*words: object) -> tuple[int, str, str]:
        try:
            cli.main([str(word) for word in words])
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        found = capsys.readouterr()
        return code, found.out, found.err

    return run


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a job would have been asked to do."""
    calls: list[dict[str, Any]] = []

    class Done:
        report = Path("report.html")

    def run(name: str, task: Any, settings: moderation.ModerationSettings, out: Path, **others: Any) -> Done:
        calls.append({"name": name, "task": task, "settings": settings, "out": out, **others})
        return Done()

    def demo_task(settings: Any, noise: Noise = "uniform", noise_rate: float = 0.2) -> dict[str, Any]:
        return {"noise": noise, "noise_rate": noise_rate}

    def moderation_task(
        manifest: Path,
        settings: Any,
        columns: Columns = Columns(),
        labels: Mapping[str, int] = LABELS,
        dates: Dates = "auto",
        *,
        out: Path | None = None,
    ) -> dict[str, Any]:
        return {"manifest": manifest, "columns": columns, "labels": labels, "dates": dates}

    monkeypatch.setattr(recipes, "run", run)
    monkeypatch.setattr(moderation, "demo_task", demo_task)
    monkeypatch.setattr(moderation, "moderation_task", moderation_task)
    return calls


def actions(command: str) -> list[argparse.Action]:
    return [action for action in parser_for(command)._actions if action.option_strings]


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_the_flags_of_each_command(name):
    top = [action.option_strings[-1] for action in actions(name) if "." not in action.dest]
    assert top == ["--help", "--config", "--print_config", *(f"--{flag}" for flag in FLAGS[name])]


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_flag_has_its_help(name, command):
    assert [action.dest for action in actions(name) if not (action.help or "").strip("% ()")] == []
    code, out, _ = command(name, "--help-all")
    assert code == 0
    missing = [action.dest for action in actions(name) if f"--{action.dest}" not in out]
    assert missing in ([], ["print_config"], ["help"])
    assert "(required" in out or name in ("demo",)
    assert "<class" not in out
    said = [each for each in re.findall(r"\(required,[^()]*\)", out) if "default:" in each]
    assert said == []  # a value that a preset gives is not required


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_help_is_one_screen_and_says_where_the_rest_is(name, command):
    code, out, _ = command(name, "--help")
    assert (code, out) == command("help", name)[:2]
    assert code == 0
    assert len(out.splitlines()) <= 60
    shown = set(re.findall(r"^ +(?:-h, )?(--[\w.-]+)", out, re.MULTILINE))
    needed = {f"--{action.dest}" for action in actions(name) if action.required and "." not in action.dest}
    assert needed <= shown
    rest = len(actions(name)) - len(shown)
    assert (rest > 1) == (
        f"tutelage {name} --help-all lists the other {rest - 1} flags." in out
    )  # all but --print_config


def test_version_and_help(command):
    assert command("--version")[:2] == (0, f"tutelage {tutelage.__version__}\n")
    assert command("help") == command("--help")
    assert command("help", "audit", "draw") == command("audit", "draw", "--help")
    assert "unknown command 'audit'; did you mean 'audit draw'?" in command("audit")[2]
    assert "unknown command 'audit drwa'; did you mean 'audit draw'?" in command("audit", "drwa")[2]
    assert "unknown command 'moderat'; did you mean 'moderate'?" in command("help", "moderat")[2]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_commands_flags_and_values(command, tmp_path):
    code, script, _ = command("completion", "bash")
    assert code == 0
    (tmp_path / "tutelage.bash").write_text(script)
    for words, found in (
        (["mod"], "moderate"),
        (["audit", "d"], "draw"),
        (["audit", "draw", "--over"], "--overlap"),
        (["moderate", "--splits.bu"], "--splits.burst_days"),
        (["moderate", "--scale", ""], "auto pocket laptop paper"),
    ):
        line = f"COMP_WORDS=(tutelage {' '.join(map(shlex.quote, words))}); COMP_CWORD={len(words)}; _shtab_tutelage"
        bash = f"source tutelage.bash; {line}; echo ${{COMPREPLY[@]}}"
        done = subprocess.run(
            ["bash", "-c", bash], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
        )
        assert done.stdout.split() == found.split()


def test_the_list_of_commands(command):
    code, _, err = command("--help")
    assert code == 0
    assert all(f"  {name:<12} " in err for name in FLAGS)
    assert command()[0] == 2


def test_the_list_of_commands_needs_neither_torch_nor_a_recipe():
    program = "import sys; from tutelage import cli\ntry: cli.main(['--help'])\nexcept SystemExit: print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    imported = set(found.stdout.split())
    assert "tutelage.cli.main" in imported
    assert not imported & {"torch", "numpy", "pandas", "jsonargparse", "tutelage.recipes", "tutelage.data"}


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("demoo", "unknown command 'demoo'; did you mean 'demo'?"),
        ("demo --sed 3", "unknown argument '--sed'; did you mean --seed?"),
        ("demo --image-size=32", "unknown argument '--image-size'; did you mean --image_size?"),
        ("demo --discovery.subtask 3", "unknown argument '--discovery.subtask'; did you mean --discovery.subtasks?"),
        ("demo --subtasks 3", "unknown argument '--subtasks'; did you mean --discovery.subtasks?"),
        ("demo --see 3", "unknown argument '--see'; did you mean --seed?"),  # an abbreviation is refused
        ("demo --noise struct", "noise: Expected a Literal['uniform', 'structured', 'none']. Got value: struct"),
        ("demo --seed many", "seed: Expected a int. Got value: many"),
        ("demo --scale pockt", "scale: Expected a Literal['auto', 'pocket', 'laptop', 'paper']. Got value: pockt"),
        ("demo extra", "unknown argument 'extra'"),
        ("demo --fpr", "argument --fpr: expected one argument"),
        ("demo --discovery.subtasks 0", "discovery.subtasks=0 must be an integer of at least 1"),
        ("demo --budget.epochs 3 --budget.steps 4", "give exactly one of --budget.epochs=3 and --budget.steps=4"),
        ("demo --selection.rule npv", "--selection.rule='npv' needs --selection.threshold"),
        ("demo --selection.window 0", "selection.window=0 must be an integer of at least 1"),
        ("demo --selection.flagged 1", "selection.flagged=1.0 must be a number in [0, 1)"),
        ("demo --lesson.unlabelled_share 1", "lesson.unlabelled_share=1.0 must be a number in [0, 1)"),
        ("demo --lesson.contradicted 1.2", "lesson.contradicted=1.2 must be a number in [0, 1]"),
        ("demo --specialists.epochs 0", "specialists.epochs=0 must be an integer of at least 1"),
        ("demo --specialists.balance 2", "specialists.balance=2.0 must be a number in [0, 1]"),
        ("demo --learning.temperature 0", "learning.temperature=0.0 must be a number above 0"),
        ("demo --learning.weight -1", "learning.weight=-1.0 must be a number of at least 0"),
        ("demo --learning.smoothing 1", "learning.smoothing=1.0 must be a number in [0, 1)"),
        ("demo --training.lr -1", "--training.lr=-1.0 must be a number above 0"),
        ("demo --splits.burst_days 20", "--splits.burst_days is 20.0 and gap_days 15.0"),
        ("demo --weighting amal --weighting_options.lr -3", "--weighting_options.lr=-3 must be a number above 0"),
        ("demo --config nowhere.yaml", "config: File does not exist: "),
        ("moderate", "the following arguments are required: manifest, out"),
        ("moderate ads.csv", "the following arguments are required: out"),
        ("moderate ads.csv --out runs/ads", "there is no manifest ads.csv"),
        ("moderate ads.csv --out runs/ads --colums.image x", "did you mean --columns.image?"),
        ("predict", "the following arguments are required: run_folder, manifest"),
        ("predict runs/ads new.csv", "runs/ads holds no metrics.json"),
        ("predict runs/ads new.csv --out scores.txt", "out='scores.txt' must end in .parquet or .csv"),
        ("report runs/ads", "runs/ads holds no metrics.json"),
        ("audit draw decisions.sqlite --verdicts 0", "budget=0 must be an integer of at least 1"),
        ("audit report decisions.sqlite", "nothing was audited: draw a sample (tutelage audit draw)"),
        ("audit serve decisions.sqlite nowhere", "there is no folder nowhere"),
        ("audit draw mysql://x/y", "give the path of a file, for SQLite, or postgresql://user@host/name"),
        (
            "distill digits --out x --noise symmetric",
            "--noise='symmetric' is no value; set what it consists of, such as --noise.",
        ),
        (
            "auxiliary digits --out x --sides parity",
            "sides: Expected a tuple. Got value: parity; write a list as [one,two]",
        ),
        (
            "auxiliary digits --out x --sides [parity]",
            "Expected a dict. Got value: ['parity']; write names and values as",
        ),
        ("distill digits --out x --budget.epochs many", "budget.epochs: Expected a int. Got value: many"),
    ],
)
def test_a_mistake_is_answered_in_one_line(words, answer, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = command(*words.split())
    assert code == 2
    assert out == ""
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert answer in last
    rest = [line for line in err.splitlines()[:-1] if not line.startswith("scale ")]
    assert rest == [] or words == "demoo"  # which lists the commands


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("sed: 3", "unknown key 'sed'; did you mean seed?"),
        ("discovery:\n  subtask: 3", "unknown key 'discovery.subtask'; did you mean discovery.subtasks?"),
        ("subtasks: 3", "unknown key 'subtasks'; did you mean discovery.subtasks?"),
        ("epochs: 3", "unknown key 'epochs'; did you mean budget.epochs or discovery.epochs or specialists.epochs?"),
        ("zzz: 3", "unknown key 'zzz'"),
        ("discovery: 3", "--discovery=3 is no value; set what it consists of, such as --discovery.subtasks"),
        ("discovery:\n  subtasks: many", "discovery.subtasks: Expected a int. Got value: many"),
        ("discovery:\n  lam: -1", "discovery.lam=-1.0 must be a number above 0"),
        ("student:\n  class_path: os.system", "is not accepted as class_path"),  # values only
        ("seed: [1", "while parsing a flow sequence"),
        ("- 1", "Unexpected config: - 1"),
    ],
)
def test_a_mistake_in_a_file_is_answered_in_one_line(text, answer, command, tmp_path):
    (tmp_path / "config.yaml").write_text(text)
    code, _, err = command("demo", "--config", tmp_path / "config.yaml")
    assert code == 2
    assert err.count("\n") == 1
    assert err.startswith("tutelage demo: ")
    assert answer in err


@pytest.mark.parametrize("flag", ["--se=3", "--dem", "--disc.subtasks=3", "--conf=x"])
def test_abbreviations_are_refused(flag, command):
    code, _, err = command("demo", flag)
    assert code == 2
    assert "unknown argument" in err


def test_values_reach_the_job(asked, command):
    words = "--noise structured --seed 3 --selection.rule npv --selection.threshold 0.1 --discovery.subtasks 7"
    code, out, _ = command("demo", *words.split(), "--student.options", '{"embed_dim": 32}', "--out", "runs/x")
    assert code == 0
    assert out == "report: report.html\n"
    (call,) = asked
    assert call["settings"].seed == 3
    assert call["settings"].discovery.subtasks == 7
    assert (call["settings"].selection.rule, call["settings"].selection.threshold) == ("npv", 0.1)
    assert call["settings"].student.options == {"embed_dim": 32}
    assert call["out"] == Path("runs/x")
    assert call["task"] == {"noise": "structured", "noise_rate": 0.2}
    assert call["command_args"] == {"noise": "structured", "noise_rate": 0.2}


def test_without_flags_a_job_has_its_scales_settings(asked, command):
    for words, scale in (
        (["demo"], "pocket"),
        (["demo", "--scale", "paper"], "paper"),
        (["demo", "--scale=auto"], "auto"),
    ):
        code, _, err = command(*words)
        expected, why = recipes.load("moderation").presets.chosen(scale)
        assert code == 0
        assert asked.pop()["settings"] == expected
        assert err == why + "\n"


def test_no_noise_is_no_noise(monkeypatch):
    asked: list[Any] = []

    def posters(*given: Any, **others: Any) -> Any:
        asked.append((given, others))
        return SimpleNamespace(images=None)

    monkeypatch.setattr(moderation.task, "posters_task", posters)
    moderation.demo_task(replace(moderation.pocket(), seed=3), "none", 0.3)
    moderation.demo_task(replace(moderation.pocket(), seed=3), "structured", 0.3)
    assert asked == [((3, "none", 24), {"noise_rate": 0.0}), ((3, "structured", 24), {"noise_rate": 0.3})]


def test_a_scale_in_a_file_moves_the_other_defaults(asked, command, tmp_path):
    (tmp_path / "paper.yaml").write_text("scale: paper\nseed: 4\n")
    command("demo", "--config", tmp_path / "paper.yaml")
    command("demo", f"--config={tmp_path / 'paper.yaml'}", "--scale", "pocket")
    paper, pocket = (call["settings"] for call in asked)
    preset = recipes.load("moderation").presets.chosen
    assert paper == replace(preset("paper")[0], seed=4)
    assert pocket == replace(preset("pocket")[0], seed=4)


def test_an_encoder_in_flags_or_in_a_file_makes_the_scale_laptop(tmp_path):
    (tmp_path / "nested.yaml").write_text("encoder:\n  name: resnet50\n")
    laptop = recipes.load("moderation").presets.chosen("laptop")[0]
    for words in (
        ["--encoder.pretrained", "file"],
        ["--encoder.name=resnet50"],
        ["--config", str(tmp_path / "nested.yaml")],
    ):
        settings, why = preset_of("moderate", words)
        assert settings == laptop
        assert why.startswith("scale auto is laptop")


def test_flags_after_a_file_have_the_last_word(asked, command, tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 4\nfpr: 0.05\n")
    command("demo", "--config", tmp_path / "config.yaml", "--seed", "9")
    assert (asked[0]["settings"].seed, asked[0]["settings"].fpr) == (9, 0.05)


def test_fields_of_a_table_are_trained_for_longer_and_need_no_encoder(tmp_path):
    (tmp_path / "table.yaml").write_text("fields:\n- colour\n")
    for words in (["--fields", "[colour]"], ["--fields=[colour]"], ["--config", str(tmp_path / "table.yaml")]):
        settings, why = preset_of("auxiliary", ["own.csv", *words])
        assert settings.budget.total(7) == 2000
        assert "encoder" not in why
    assert preset_of("auxiliary", ["own.csv", "--fields", "[a]", "--budget.epochs", "3"])[0].budget.total(7) < 2000
    assert preset_of("auxiliary", ["own.csv", "--fields", "[]", "--scale", "pocket"])[0].budget.total(7) == 105


@pytest.mark.parametrize("scale", ["pocket", "paper"])
def test_settings_written_down_and_given_back_are_the_same(asked, command, tmp_path, scale):
    """As a run writes its config.yaml, the command's own values and the settings."""
    words = ["--columns.image", "picture", "--labels", '{"good": 1, "bad": 0}', "--scale", scale]
    command("moderate", "ads.csv", "--out", "runs/one", *words, "--training.lr", "0.0123")
    first = asked.pop()
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain({**first["command_args"], **asdict(first["settings"])})))
    code, _, err = command("moderate", "--config", tmp_path / "config.yaml", "--out", "runs/two")
    assert code == 0, err
    second = asked.pop()
    assert second["settings"] == first["settings"]
    assert second["command_args"] == first["command_args"]
    assert second["task"] == first["task"]
    assert first["task"]["manifest"] == Path("ads.csv")
    assert first["task"]["columns"] == Columns(image="picture")
    assert second["out"] == Path("runs/two")


def test_print_config_can_be_given_back(asked, command, tmp_path):
    code, out, _ = command("demo", "--seed", "3", "--print_config")
    assert code == 0
    (tmp_path / "config.yaml").write_text(out)
    assert command("demo", "--config", tmp_path / "config.yaml")[0] == 0
    assert asked[0]["settings"] == replace(moderation.pocket(), seed=3)


@pytest.mark.parametrize(
    ("failure", "code", "said"),
    [
        (ValueError("radius=-1 must be\nat least 0"), 2, "tutelage demo: --radius=-1 must be at least 0\n"),
        (OSError(28, "No space left on device"), 2, "tutelage demo: [Errno 28] No space left on device\n"),
        (ImportError("timm is not installed"), 2, "tutelage demo: timm is not installed\n"),
        (Interrupted("student stopped at step 3"), 143, "student stopped at step 3\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_how_a_job_ends(command, monkeypatch, failure, code, said):
    def fails(settings: Any) -> None:
        raise failure

    monkeypatch.setattr(moderation, "demo_task", fails)
    found, _, err = command("demo")
    assert found == code
    assert re.sub(r"^scale .*\n", "", err) == said


def test_a_mistake_of_ours_keeps_its_traceback(command, monkeypatch):
    monkeypatch.setattr(moderation, "demo_task", lambda settings: [][0])
    with pytest.raises(IndexError):
        command("demo")


def test_all_cores_unless_the_environment_says_how_many(asked, monkeypatch):
    before = torch.get_num_threads()
    try:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        cli.main(["demo"])
        assert torch.get_num_threads() == before
        monkeypatch.delenv("OMP_NUM_THREADS")
        monkeypatch.setattr("tutelage.hardware.available_cpus", lambda: 3)
        cli.main(["demo"])
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_as_a_program():
    found = subprocess.run(
        [sys.executable, "-m", "tutelage.cli", "demo", "--sed", "3"], capture_output=True, text=True, timeout=60
    )
    assert found.returncode == 2
    assert found.stderr == "tutelage demo: unknown argument '--sed'; did you mean --seed?\n"


@pytest.mark.parametrize("words", [[], ["--budget.steps", "7"], ["--budget.steps=7"]])
def test_a_budget_that_is_asked_for_is_not_bounded_by_the_number_of_examples(words):
    bounds = preset_of("moderate", ["--scale", "laptop", *words])[0].budget.most_epochs
    assert bounds == (None if words else 100)


def test_a_budget_takes_the_place_of_the_preset_s() -> None:
    """Of the other unit, too, by a flag or a file, without saying that there is to be none of that."""
    for recipe, words, wanted in [
        ("distill", ["--budget.steps", "7"], (None, 7)),
        ("distill", ["--budget.epochs", "null", "--budget.steps", "7"], (None, 7)),
        ("distill", ["--budget.epochs", "7"], (7, None)),
        ("moderate", ["--budget.epochs=7"], (7, None)),
        ("distill", ["--seed", "1"], (40, None)),
    ]:
        required = ["--data=digits"] if recipe == "distill" else ["--manifest=ads.csv"]
        given = [*required, "--out=x", "--scale=pocket", *words]
        parsed = parser_for(recipe, preset_of(recipe, given)[0]).parse_args(given)
        assert (parsed.budget.epochs, parsed.budget.steps) == wanted


def test_another_model_does_not_inherit_the_options_of_the_preset_s(tmp_path: Path) -> None:
    (tmp_path / "same.yaml").write_text("model: {name: cifar_resnet20, options: {widths: [8, 16]}}\n")
    preset = preset_of("multilabel", ["--scale", "pocket"])[0].model
    for words, wanted in [
        ([], preset.options),
        (["--model.name", preset.name], preset.options),
        (["--model.name=cifar_resnet20"], {}),
        (["--model.name", "cifar_resnet20", "--model.options", "{widths: [8, 16]}"], {"widths": [8, 16]}),
        (["--config", str(tmp_path / "same.yaml")], {"widths": [8, 16]}),
    ]:
        given = ["--data=digits", "--out=x", "--scale=pocket", *words]
        parsed = parser_for("multilabel", preset_of("multilabel", given)[0]).parse_args(given)
        assert parsed.model.options == wanted
    assert preset.options


def test_a_help_that_says_what_none_does_is_of_a_flag_that_takes_the_word():
    """The others are written null, which is the parser's."""
    told = {
        action.dest
        for name in cli.COMMANDS
        for action in parser_for(name)._actions
        if re.search(r"[;.] none (is|leaves|lets|logs|takes|starts|keeps|admits)\b", action.help or "")
    }
    assert told == {"token", "decisions"}
    given = ["--manifest", "ads.csv", "--out", "run", "--training.clip_norm", "null"]
    assert parser_for("moderate").parse_args(given).training.clip_norm is None
