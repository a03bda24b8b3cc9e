"""`tutelage score`: the same answers as one by one, whatever is killed in between, in bounded memory."""

import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from subprocess import PIPE, Popen, run

import hostile
import numpy as np
import pandas as pd
import psutil
import pytest
from PIL import Image
from served import PATIENCE, write_model

from tutelage.cli.production import score as command
from tutelage.production import decoders, score
from tutelage.production.exported import ExportedModel


@pytest.fixture(scope="module")
def ads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and 60 images of which some are hostile."""
    folder = tmp_path_factory.mktemp("ads")
    write_model(folder / "model")
    for number in range(52):
        Image.fromarray(np.full((16, 16, 3), 5 * number, np.uint8)).save(folder / f"{number}.png")
    (folder / "52.png").write_bytes(b"this is no image")
    (folder / "53.png").write_bytes((folder / "51.png").read_bytes()[:40])
    (folder / "54.png").write_bytes(hostile.animated("PNG"))
    paths = [f"{number}.png" for number in range(55)] + ["gone.png", "../../etc/passwd", "/etc/passwd", "", "=1+2.png"]
    table = pd.DataFrame({"image": paths, "id": [f"ad{number}" for number in range(60)], "other": "x"})
    table.to_csv(folder / "ads.csv", index=False)
    table.to_parquet(folder / "ads.parquet", row_group_size=7)
    return folder


@pytest.mark.parametrize(
    ("data", "ending"), [("ads.csv", ".parquet"), ("ads.parquet", ".csv"), ("ads.parquet", ".parquet")]
)
def test_a_table_is_scored_in_parts_as_one_by_one(
    ads: Path,
    tmp_path: Path,
    data: str,
    ending: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(score.score, "__kwdefaults__", {**score.score.__kwdefaults__, "part": 9})
    out = tmp_path / f"scores{ending}"
    command(ads / "model", ads / data, out, processes=2)
    said = capsys.readouterr().out
    assert said.startswith("52 scored: ")
    assert "; 8 left out: " in said
    table = pd.read_csv(out) if ending == ".csv" else pd.read_parquet(out)
    model = ExportedModel(ads / "model")
    expected = [model.answer(np.stack([model.prepare((ads / path).read_bytes())]))[0] for path in table["image"]]
    assert table["id"].tolist() == [f"ad{number}" for number in range(52)]
    assert np.allclose(table["score"], [each["score"] for each in expected], atol=1e-12)
    assert table["decision"].tolist() == [each["decision"] for each in expected]
    assert set(table["model_version"]) == {model.version}
    listed = pd.read_csv(tmp_path / "scores-problems.csv").set_index("id")["reason"]
    assert listed.to_dict() == {
        "ad52": "format",
        "ad53": "corrupt",
        "ad54": "animated",
        "ad55": "missing",
        "ad56": "outside_root",
        "ad57": "outside_root",
        "ad58": "no_image",
        "ad59": "missing",
    }
    assert {path.name for path in tmp_path.iterdir()} == {out.name, "scores-problems.csv"}


def test_killed_and_started_again_it_goes_on(ads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "scores.parquet"
    scored, done = score._scored, []

    def cut(*given: object) -> pd.DataFrame:
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(scored(*given))
        return done[-1]

    monkeypatch.setattr(score, "_scored", cut)
    with pytest.raises(KeyboardInterrupt):
        score.score(ads / "model", ads / "ads.csv", out, processes=1, part=9)
    assert not out.exists()
    with pytest.raises(ValueError, match=r"holds parts of another job \(its part differs\)"):
        score.score(ads / "model", ads / "ads.csv", out, processes=1, part=10)
    done.clear()
    counts = score.score(ads / "model", ads / "ads.csv", out, processes=1, part=9)
    assert len(done) == 3  # of seven parts
    assert counts.scored == sum(counts.given.values()) == 52
    assert len(counts.left_out) == 8
    score.score(ads / "model", ads / "ads.csv", tmp_path / "straight.parquet", processes=1, part=60)
    pd.testing.assert_frame_equal(pd.read_parquet(out), pd.read_parquet(tmp_path / "straight.parquet"))


def test_a_second_process_that_scores_into_the_same_file_is_refused_and_the_first_ends_well(
    ads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, scored, asked = tmp_path / "scores.parquet", score._scored, []

    def meanwhile(*given: object) -> pd.DataFrame:
        if not asked:
            words = [str(ads / "model"), str(ads / "ads.csv"), "--out", str(out), "--processes", "1"]
            asked.append(run([sys.executable, "-m", "tutelage.cli", "score", *words], capture_output=True, text=True))
        return scored(*given)

    monkeypatch.setattr(score, "_scored", meanwhile)
    assert score.score(ads / "model", ads / "ads.csv", out, processes=1).scored == 52
    assert asked[0].returncode == 2
    assert "scores.parquet.parts is in use by another process" in asked[0].stderr
    assert {path.name for path in tmp_path.iterdir()} == {out.name, "scores-problems.csv"}


def test_a_cluster_goes_on_after_the_parts_that_are_there_and_writes_the_same(
    ads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed; it is the extra ray")
    scored, done = score._scored, []

    def cut(*given: object) -> pd.DataFrame:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(scored(*given))
        return done[-1]

    monkeypatch.setattr(score, "_scored", cut)
    with pytest.raises(KeyboardInterrupt):
        score.score(ads / "model", ads / "ads.csv", tmp_path / "scores.csv", processes=1, part=9)
    monkeypatch.undo()
    script = Path(__file__).with_name("on_cluster.py")
    ran = run(
        [sys.executable, str(script), str(ads), str(tmp_path / "scores.csv")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True, capture_output=True, timeout=240,
    )  # fmt: skip
    assert ran.stdout == "52 8\npart 7 is refused\n", ran.stderr
    score.score(ads / "model", ads / "ads.csv", tmp_path / "straight.csv", processes=1, part=9)
    assert (tmp_path / "scores.csv").read_bytes() == (tmp_path / "straight.csv").read_bytes()


def test_a_cluster_needs_its_extra(ads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"ray is not installed; install the extra: pip install 'tutelage\[ray\]'"):
        command(ads / "model", ads / "ads.csv", tmp_path / "scores.csv", ray_address="auto")


def _deadly(root: Path, size: int, limits: object, paths: list[str]) -> list[decoders.Decoded]:
    if "7.png" in paths:
        os.kill(os.getpid(), signal.SIGKILL)
    return [np.full((3, size, size), len(path), np.uint8) for path in paths]


def test_an_image_that_kills_its_decoder_is_listed_and_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(decoders, "decoded", _deadly)
    paths = [f"{number}.png" for number in range(100)]
    with decoders.Decoders(tmp_path, 4, 2) as pool:
        found = list(pool(paths))
    assert [path for path, each in zip(paths, found, strict=True) if isinstance(each, tuple)] == ["7.png"]
    assert found[7] == ("crashed", "the process that decoded it died")
    assert [each[0, 0, 0] for each in found if not isinstance(each, tuple)] == [
        len(path) for path in paths if path != "7.png"
    ]


def test_a_killed_job_leaves_no_process_behind(ads: Path) -> None:
    script = (
        "import sys, psutil; from pathlib import Path; from tutelage.production.decoders import Decoders\n"
        f"with Decoders(Path({str(ads)!r}), 8, 2) as pool:\n"
        "    list(pool([f'{number}.png' for number in range(40)]))\n"
        "    print(*(each.pid for each in psutil.Process().children(recursive=True)), flush=True)\n"
        "    sys.stdin.read()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with Popen([sys.executable, "-c", script], stdin=PIPE, stdout=PIPE, env=environment, text=True) as job:
        assert job.stdout is not None
        children = [psutil.Process(int(word)) for word in job.stdout.readline().split()]
        job.kill()
    assert len(children) >= 3
    _, left = psutil.wait_procs(children, timeout=PATIENCE)
    assert left == []


def test_nothing_to_score_and_other_endings_are_refused(ads: Path, tmp_path: Path) -> None:
    (tmp_path / "none.csv").write_text("image\ngone.png\n")
    with pytest.raises(
        ValueError, match=r"nothing could be scored; 1 left out: missing 1\. See .*scores-problems\.csv"
    ):
        score.score(ads / "model", tmp_path / "none.csv", tmp_path / "scores.csv", processes=1)
    (tmp_path / "wrong.csv").write_text("picture\ngone.png\n")
    with pytest.raises(ValueError, match="has no column 'image'"):
        score.score(ads / "model", tmp_path / "wrong.csv", tmp_path / "others.csv", processes=1)
    with pytest.raises(ValueError, match=r"must end in \.parquet or \.csv"):
        score.score(ads / "model", tmp_path / "none.csv", tmp_path / "scores.txt")
    with pytest.raises(FileNotFoundError, match="there is no table"):
        score.score(ads / "model", tmp_path / "gone.csv", tmp_path / "scores.csv")
