"""Several write one file: nobody takes another's unfinished file away, and what the dead have left goes."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tutelage import temporaries
from tutelage.files import write_atomically
from tutelage.temporaries import ABANDONED, temporaries_of, temporary_of


def test_two_writers_of_one_file_both_come_to_their_end(tmp_path: Path) -> None:
    path, started, on = tmp_path / "facts.json", threading.Event(), threading.Event()

    def slowly(temporary: Path) -> None:
        temporary.write_text("slow")
        started.set()
        assert on.wait(60)

    slow = threading.Thread(target=write_atomically, args=(path, slowly))
    slow.start()
    assert started.wait(60)
    write_atomically(path, lambda temporary: temporary.write_text("quick"))
    assert path.read_text() == "quick"
    on.set()
    slow.join()
    assert path.read_text() == "slow"
    assert [file.name for file in tmp_path.iterdir()] == ["facts.json"]


def test_the_unfinished_file_of_a_process_that_lives_stays_and_goes_when_it_is_dead(tmp_path: Path) -> None:
    program = (
        "import sys, time, pathlib\n"
        "from tutelage.files import write_atomically\n"
        "def write(temporary):\n"
        "    temporary.write_text('half')\n"
        "    print('written', flush=True)\n"
        "    time.sleep(600)\n"
        "write_atomically(pathlib.Path(sys.argv[1]), write)\n"
    )
    path = tmp_path / "facts.json"
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "written\n"
        write_atomically(path, lambda temporary: temporary.write_text("whole"))
        assert [each.read_text() for each in temporaries_of(path)] == ["half"]
        other.kill()
    write_atomically(path, lambda temporary: temporary.write_text("whole"))
    assert [file.name for file in tmp_path.iterdir()] == ["facts.json"]


def test_what_another_machine_has_left_goes_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "facts.json"
    monkeypatch.setattr(temporaries, "_PLACE", "0" * 8)
    left = temporary_of(path)
    monkeypatch.undo()
    left.write_text("half")
    write_atomically(path, lambda temporary: temporary.write_text("whole"))
    assert left.exists()
    os.utime(left, (0, left.stat().st_mtime - ABANDONED - 60))
    write_atomically(path, lambda temporary: temporary.write_text("whole"))
    assert not left.exists()


@pytest.mark.parametrize(("name", "other"), [("a", ".a.csv"), ("[ab].csv", ".b.csv.77"), ("a", ".a.notes")])
def test_a_file_that_only_looks_alike_stays(name: str, other: str, tmp_path: Path) -> None:
    (tmp_path / other).write_text("precious")
    write_atomically(tmp_path / name, lambda temporary: temporary.write_text("whole"))
    assert (tmp_path / other).read_text() == "precious"
