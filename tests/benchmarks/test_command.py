"""`python -m benchmarks`: mistakes are answered in one line."""

import pytest
from benchmarks.__main__ import main


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("moderatoin", "invalid choice: 'moderatoin'"),
        ("moderation --seeds 0", "seeds=0 must be at least 1"),
        ("faults --kills 0", "kills=0 must be at least 1"),
        ("amal --scale laptop", "data=None: this table is of real data"),
        ("rules --scale laptop", "scale='laptop': the table rules comes at pocket, paper"),
        ("moderation --scale laptop", "give the folder of the data sets, or set TUTELAGE_DATA"),
        ("moderation --only CatNet", "only=['CatNet']: no such row; there are ['ViT-Base/16', "),
        ("amal --scale paper --seed 3", "unrecognized arguments: --seed 3"),
    ],
)
def test_a_mistake_is_answered_in_one_line(words, answer, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(words.split())
    said = f"{stop.value.code}{capsys.readouterr().err}"
    assert answer in said
    assert "Traceback" not in said
