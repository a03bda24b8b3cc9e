"""A run's folder: what is in it stays, one run at a time, and the sizes that README's first runs take."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tutelage import recipes, temporaries
from tutelage.cli import main
from tutelage.recipes.run_lock import CONFIG, MARKER, claimed, config_text


def test_a_folder_with_other_files_is_refused_and_stays_as_it_is(tmp_path):
    (tmp_path / "model").mkdir()
    mine = {"model/my_best_model.txt": "mine", "config.yaml": "a: 1", "metrics.json": "{}"}
    for name, text in mine.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=r"holds 'config.yaml' and no run"), claimed(tmp_path, "denoise"):
        pytest.fail("claimed")
    assert {name: (tmp_path / name).read_text() for name in mine} == mine
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "metrics.json", "model"]


@pytest.mark.parametrize("command", ["demo", "distill digits", "multilabel digits", "auxiliary digits"])
def test_no_command_touches_a_project(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("mine")
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--out", "."])
    assert stop.value.code == 2
    assert "no run: a run would overwrite files there; give a new or an empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
    assert (tmp_path / "config.yaml").read_text() == "mine"


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file; give a folder"), claimed(tmp_path / "run", "denoise"):
        pytest.fail("claimed")


def test_one_run_at_a_time_and_a_dead_one_holds_nothing(tmp_path):
    program = (
        "import sys, time, pathlib\n"
        "from tutelage.recipes.run_lock import claimed\n"
        "with claimed(pathlib.Path(sys.argv[1]), 'distill'):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    out = tmp_path / "run"
    other = subprocess.Popen([sys.executable, "-c", program, str(out)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        refused = pytest.raises(ValueError, match=f"in use by process {other.pid} on .*; wait for it")
        with refused, claimed(out, "distill"):
            pytest.fail("claimed twice")
    finally:
        other.kill()  # as hard as a process can end
        other.wait()
        other.stdout.close()
    with claimed(out, "distill"), claimed(out, "distill"):  # nested calls share it
        assert json.loads((out / MARKER).read_text())["recipe"] == "distill"


def test_another_recipe_s_run_is_refused(tmp_path):
    with claimed(tmp_path / "run", "distill"):
        pass
    with (
        pytest.raises(ValueError, match="holds a run of distill, not of denoise"),
        claimed(tmp_path / "run", "denoise"),
    ):
        pytest.fail("claimed")


@pytest.mark.parametrize("name", ["distill", "multilabel", "auxiliary"])
def test_digits_are_small_on_any_hardware(name, monkeypatch):
    recipe = recipes.load(name)
    for accelerated in (False, True):
        monkeypatch.setattr(torch.accelerator, "is_available", lambda found=accelerated: found)
        settings, why = recipe.presets.chosen("auto", "digits")
        assert settings == recipe.presets.chosen("pocket")[0]
        assert "auto is pocket" in why
        assert (recipe.presets.chosen("auto", "photos.csv")[0] == recipe.presets.chosen("paper")[0]) is accelerated
    assert recipe.presets.chosen("paper", "digits")[0] == recipe.presets.chosen("paper")[0]  # what is asked for is done


@pytest.mark.parametrize("words", ["distill digits", "multilabel digits", "auxiliary digits", "demo"])
def test_readme_s_first_runs_read_their_data_where_there_is_an_accelerator(words, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    seen = []
    monkeypatch.setattr("tutelage.distributed.join", lambda: True)
    monkeypatch.setattr(recipes, "run", lambda name, task, settings, out, **others: seen.append(task.title) or RAN)
    main([*words.split(), "--out", str(tmp_path / "run")])
    assert len(seen) == 1


class RAN:
    report = "report.html"


def given(**changed):
    return {
        "data": "ads.csv",
        "fpr": 0.01,
        "budget": {"steps": 4},
        "hardware": {"workers": 0, "precision": "float32"},
    } | changed


def claim(out, values):
    with claimed(out, "distill", values):
        (out / CONFIG).write_text(config_text(values))


def test_a_run_goes_on_with_its_own_settings_alone(tmp_path):
    """Each that differs is named with both values, and nothing is touched."""
    claim(tmp_path, given())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    changed = given(data=Path("other.csv"), budget={"steps": 5}, hardware={"workers": 2, "precision": "bf16"}, new=1)
    named = (
        r"data was 'ads.csv' and is 'other.csv'; budget.steps was 4 and is 5; hardware.precision was 'float32' and is"
    )
    with pytest.raises(ValueError, match=named):
        claim(tmp_path, changed)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_is_the_same_whichever_way_it_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("data", "elsewhere"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ads.csv").write_text("image,label\n")
    (tmp_path / "linked").symlink_to("data")
    claim(tmp_path / "run", given(data=str(tmp_path / "data" / "ads.csv")))
    for path in ("data/ads.csv", Path("data/../data/ads.csv"), "linked/ads.csv"):
        claim(tmp_path / "run", given(data=path))
    for path in ("elsewhere/ads.csv", "data/other.csv", "a\0b", None):
        with pytest.raises(ValueError, match=r"data was 'linked/ads.csv' and is"):
            claim(tmp_path / "run", given(data=path))


def test_how_a_machine_is_used_may_change(tmp_path):
    claim(tmp_path, given())
    claim(tmp_path, given(hardware={"workers": 4, "precision": "float32"}, processes=3))


def test_a_command_is_refused_before_it_reads_its_data(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        main(["distill", "nothing.csv", "--out", str(tmp_path / "run"), "--scale", "pocket"])  # no such file
    assert not (tmp_path / "run" / CONFIG).exists()  # it may be corrected
    (tmp_path / "run" / CONFIG).write_text("seed: 1\n")
    with pytest.raises(SystemExit):
        main(["distill", "nothing.csv", "--out", str(tmp_path / "run"), "--scale", "pocket"])
    assert "seed was 1 and is 0" in capsys.readouterr().err


@pytest.mark.parametrize("left", [b"", b'{"recipe": "dis', b"\x00" * 64])
def test_a_marker_that_was_spoilt_is_still_a_marker(left, tmp_path):
    claim(tmp_path, given())
    (tmp_path / MARKER).write_bytes(left)
    claim(tmp_path, given())
    assert json.loads((tmp_path / MARKER).read_text())["recipe"] == "distill"


def test_a_run_that_was_killed_while_it_marked_its_folder_goes_on(tmp_path, monkeypatch):
    (tmp_path / "run.lock").write_text("")
    monkeypatch.setattr(temporaries, "_PROCESS", "0" * 8)  # an earlier process of this number
    temporaries.temporary_of(tmp_path / MARKER).write_text('{"rec')
    monkeypatch.undo()
    claim(tmp_path, given())
    assert sorted(path.name for path in tmp_path.iterdir()) == [CONFIG, MARKER, "run.lock"]


@pytest.mark.parametrize("left", [b"", b"seed: [1", b"\xff\xfe\x00", b"- a list"])
def test_a_config_that_was_spoilt_is_named(left, tmp_path):
    claim(tmp_path, given())
    (tmp_path / CONFIG).write_bytes(left)
    with pytest.raises(ValueError, match=r"config.yaml is damaged; delete it, and run the same command again"):
        claim(tmp_path, given())
