import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from fake_run import fake_run
from markupsafe import Markup
from PIL import Image

from tutelage.metrics import npv_at_fpr
from tutelage.recipes import report as write_report
from tutelage.reports.curves import judged_test, operating_curve
from tutelage.reports.run_folder import RunFolder
from tutelage.reports.sections import settings, suspects
from tutelage.reports.wording import fixed, percent, pluralise, rate, verdict

VOID = {"meta", "img", "br", "link", "input", "hr"}
LOADING = {"src", "href", "xlink:href", "srcset", "poster", "action", "data", "background", "formaction", "ping"}
OPTIONAL = (
    "examples.parquet",
    "subtasks.parquet",
    "gallery.safetensors",
    "log.jsonl",
    "config.yaml",
    "problems.csv",
    "duplicates.csv",
)


class Page(HTMLParser):
    """A page's elements with their attributes and text, in order; it fails where elements are not well nested."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self.open.append(self.elements[-1])

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for _, _, text in self.open:
            text.append(data)

    def all(self, tag):
        return [
            (attributes, " ".join("".join(text).split())) for name, attributes, text in self.elements if name == tag
        ]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fake_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def html(run):
    return write_report(run).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


@pytest.fixture
def unplotted(monkeypatch):
    """Leave out the drawing, which takes most of the time."""
    for name in ("line_plot", "training_curves"):
        monkeypatch.setattr(
            f"tutelage.reports.curves.{name}", lambda *_, **__: Markup('<svg role="img" aria-label="none"></svg>')
        )


@pytest.fixture
def copy(run, tmp_path, unplotted):
    return shutil.copytree(run, tmp_path / "copy")


def test_the_same_folder_gives_the_same_file(run, html):
    assert write_report(run) == run / "report.html"
    assert (run / "report.html").read_text(encoding="utf-8") == html


BESIDE = {"relabel.csv", "subtask_names.csv", "problems.csv"}


def test_it_loads_nothing_and_runs_nothing(html, page):
    for tag, attributes, _ in page.elements:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form"}
        assert not [name for name in attributes if name.startswith("on")]
        for name in LOADING & set(attributes):
            beside = tag == "a" and attributes[name] in BESIDE  # a click goes there, nothing is loaded
            assert beside or attributes[name].startswith(("data:image/png;base64,", "#")), (tag, name)
    assert not re.search(r"url\((?!#)|@import|javascript:", html)
    policy = next(a["content"] for a, _ in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_links_lead_to_ids_and_ids_are_unique(page):
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes, _ in page.elements:
        for reference in (attributes.get("href"), attributes.get("xlink:href")):
            assert reference is None or reference in BESIDE or reference[1:] in ids
        for reference in re.findall(r"url\(#([^)]*)\)", " ".join(value or "" for value in attributes.values())):
            assert reference in ids


def test_it_can_be_read_without_seeing(page):
    assert page.all("html")[0][0]["lang"] == "en"
    assert all(attributes["alt"] for attributes, _ in page.all("img"))
    assert all(attributes["role"] == "img" and attributes["aria-label"] for attributes, _ in page.all("svg"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(attributes["scope"] in {"col", "row", "rowgroup"} for attributes, _ in page.all("th"))
    assert len(page.all("h1")) == len(page.all("main")) == 1


def test_its_figures_are_those_of_the_metrics(run, page):
    metrics = json.loads((run / "metrics.json").read_text())
    shown = {}
    for attributes, text in page.all("data"):
        value = metrics
        for key in attributes["data-figure"].split("/"):
            value = value[key]
        value = value["value"] if isinstance(value, dict) else value
        assert attributes["value"] == str(value)
        assert float(text.replace("−", "-")) == pytest.approx(value, abs=5.1e-4)
        shown[attributes["data-figure"]] = text
    for model in ("model", "fine_tuned"):
        for name in ("npv_at_fpr", "lift_at_fpr", "recall_at_fpr", "threshold"):
            assert {f"{model}/{name}/0.01", f"{model}/{name}/0.05"} <= set(shown)
        assert {f"{model}/auroc", f"{model}/average_precision"} <= set(shown)
    assert {"difference/npv_at_fpr/0.01", "floor/0.05", "subtasks/nmi", "subtasks/kept", "data/duplicates"} <= set(
        shown
    )
    headline = next(text for attributes, text in page.all("p") if attributes.get("id") == "headline")
    ours, plain = (
        f"{100 * (1 - metrics[name]['recall_at_fpr']['0.01']['value']):.0f} %" for name in ("model", "fine_tuned")
    )
    assert headline.replace("\u00a0", " ") == (
        f"When at most 1 % of the defective images may pass, the model blocks {ours} of the acceptable ones; "
        f"plain fine-tuning blocks {plain}."
    )
    npv = metrics["model"]["npv_at_fpr"]["0.01"]["value"]
    verdict = next(text for attributes, text in page.all("p") if attributes.get("class") == "verdict")
    assert verdict.startswith(f"Of 100 images that the model blocks, {round(100 * npv)} are truly defective")
    squares = [a["aria-label"] for a, _ in page.all("svg") if "squares" in a.get("class", "")]
    assert squares[0] == f"{round(100 * npv)} of 100 squares are filled"


def test_every_interval_stands_beside_its_figure(run, html):
    for model in ("model", "fine_tuned"):
        figure = json.loads((run / "metrics.json").read_text())[model]["npv_at_fpr"]["0.05"]
        assert re.search(
            rf'data-figure="{model}/npv_at_fpr/0.05" value="[^"]*">{figure["value"]:.3f}</data> '
            rf'<span class="between">{figure["low"]:.3f} to {figure["high"]:.3f}<',
            html,
        )


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.02, 0.2, "That is better than"),
        (-0.02, 0.2, "cannot tell the two apart"),
        (-0.2, -0.02, "That is worse than"),
    ],
)
def test_it_claims_what_the_interval_allows(copy, low, high, expected):
    metrics = json.loads((copy / "metrics.json").read_text())
    metrics["difference"]["npv_at_fpr"]["0.01"] = {"value": (low + high) / 2, "low": low, "high": high}
    (copy / "metrics.json").write_text(json.dumps(metrics))
    text = next(text for a, text in Page(write_report(copy).read_text()).all("p") if a.get("class") == "verdict")
    claims = ("That is better than", "cannot tell the two apart", "That is worse than")
    assert [claim for claim in claims if claim in text] == [expected]


@pytest.mark.parametrize("lacking", ["difference", "labels"])
def test_a_run_of_another_version_is_named_as_one(copy, lacking):
    metrics = json.loads((copy / "metrics.json").read_text())
    (copy / "metrics.json").write_text(json.dumps({name: own for name, own in metrics.items() if name != lacking}))
    with pytest.raises(
        ValueError, match=f"is a run of another version: its files lack what .*{lacking}.* run the same command"
    ):
        write_report(copy)


def test_no_difference_is_no_claim():
    assert verdict({"value": 0.0, "low": 0.0, "high": 0.0}) == "open"


def test_numbers_in_words():
    assert (fixed(-0.0244), fixed(0.0244, 2, "+"), fixed(float("nan")), fixed(None)) == ("−0.024", "+0.02", "–", "–")
    assert (rate("0.005"), rate(0.07), percent(0.204, 1)) == ("0.5\u00a0%", "7\u00a0%", "20.4\u00a0%")


def test_one_is_not_several():
    assert [pluralise(count, "new label") for count in (0, 1, 1200)] == [
        "0 new labels",
        "1 new label",
        "1,200 new labels",
    ]
    assert pluralise(1, "label is in doubt", "labels are in doubt") == "1 label is in doubt"


def test_another_rate_is_the_headline_where_the_run_decides_at_it(copy):
    metrics = json.loads((copy / "metrics.json").read_text())
    metrics["pipeline"]["fpr"] = 0.05
    (copy / "metrics.json").write_text(json.dumps(metrics))
    text = next(text for a, text in Page(write_report(copy).read_text()).all("p") if a.get("id") == "headline")
    assert f"blocks {100 * (1 - metrics['model']['recall_at_fpr']['0.05']['value']):.0f} % of" in text.replace(
        "\u00a0", " "
    )
    assert "5 % of the defective" in text.replace("\u00a0", " ")


def test_hostile_texts_stay_texts(tmp_path, page):
    hostile = '</title><script>alert("1")</script><img src=x onerror=alert(1)>{{ 7 * 7 }}'
    folder = fake_run(tmp_path, id=hostile, headline=hostile, title=hostile, reason=hostile)
    log = (folder / "log.jsonl").read_text().replace("label cls", "</svg><script>$x$").replace('"discovery"', '"<b>&$"')
    (folder / "log.jsonl").write_text(log)
    other = Page(write_report(folder).read_text(encoding="utf-8"))

    def outline(shown):
        return [tag for tag, _, _ in shown.elements if tag not in {"path", "g", "use", "text", "defs", "tspan"}]

    assert outline(other) == outline(page)
    assert hostile in other.all("h1")[0][1]
    assert any(hostile in (attributes["alt"] or "") for attributes, _ in other.all("img"))
    assert any("</svg><script>$x$" in text for _, text in other.all("svg"))


def test_subtasks_are_listed_by_use(run, page):
    table = pd.read_parquet(run / "subtasks.parquet").set_index("subtask")
    shown = [int(a["id"].removeprefix("subtask-")) for a, _ in page.all("article")]
    assert sorted(shown) == sorted(table.index)
    kept = [number for number in shown if table["kept"][number]]
    assert shown[: len(kept)] == kept
    competence = table["competence"][kept].to_list()
    assert competence == sorted(competence, reverse=True)
    assert np.isnan(table["competence"][shown[-1]])
    for number, (_, text) in zip(shown, page.all("article"), strict=True):
        assert ("Kept: " if table["kept"][number] else "Dropped: ") + table["reason"][number] in text
        assert f"Images{table['size'][number]} " in text


def test_a_person_names_the_subtasks(copy):
    (copy / "subtask_names.csv").write_text("subtask,name\n0,Fake <buttons>\n5, \nfive,no number\n", encoding="utf-8")
    titles = [text.split()[:2] for _, text in Page(write_report(copy).read_text()).all("article")]
    assert ["Fake", "<buttons>"] in titles
    assert ["Sub-task", "5"] in titles
    (copy / "subtask_names.csv").write_text("0;Fake\n", encoding="utf-8")
    write_report(copy)


def test_a_montage_shows_the_surest_of_its_subtask(run, page):
    examples = pd.read_parquet(run / "examples.parquet")
    gallery = RunFolder(run).gallery
    by_alt = {attributes["alt"]: attributes["src"] for attributes, _ in page.all("img")}
    for number in (0, 5):
        members = examples[examples["subtask"] == number].sort_values("subtask_confidence", ascending=False)
        source = by_alt[f"The {min(12, len(members))} most confident images of sub-task {number}"]
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))
        for place, row in enumerate(members.index[:12]):
            top, left = (76 * at for at in divmod(place, 4))
            tile = pixels[top : top + 72 : 3, left : left + 72 : 3, :3].transpose(2, 0, 1)
            np.testing.assert_array_equal(tile, gallery[row])


def test_many_subtasks_are_shown_in_part_and_listed_in_full(copy, monkeypatch):
    monkeypatch.setattr("tutelage.reports.sections.CARDS", 1)
    page = Page(write_report(copy).read_text())
    assert len(page.all("article")) == 2
    table = next(text for _, text in page.all("table") if "The specialists on held-out data" in text)
    assert len(re.findall("kept|dropped", table)) == len(pd.read_parquet(copy / "subtasks.parquet"))


def test_doubted_labels_are_those_the_model_turns_round(run):
    examples = pd.read_parquet(run / "examples.parquet")
    examples.loc[0, ["split", "label", "suspicion"]] = ["left_out", 0, 1.0]
    examples.loc[1, ["label", "suspicion"]] = [-1, np.nan]
    found = suspects(examples, {})
    taking_part = examples[(examples["label"] >= 0) & (examples["split"] != "left_out")]
    doubted = taking_part[(taking_part["score"] > 0.5) != (taking_part["label"] == 1)]
    assert (found["labelled"], found["doubted"]) == (len(taking_part), len(doubted))
    assert found["wrong"] == (doubted["label"] != doubted["true_label"]).sum()
    assert [image["id"] for image in found["shown"]] == doubted.nlargest(48, "suspicion")["id"].tolist()
    assert found["shown"][0]["picture"] is None
    assert suspects(examples.drop(columns="true_label"), {})["wrong"] is None


def test_no_doubted_label_is_said(copy):
    examples = pd.read_parquet(copy / "examples.parquet").assign(suspicion=0.1)
    examples.to_parquet(copy / "examples.parquet")
    assert "For none of the" in write_report(copy).read_text()


def test_the_curve_is_the_metric_at_every_rate():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [7, 20])
    scores = rng.integers(0, 12, 27) / 12  # with ties
    fpr, npv = operating_curve(scores, labels)
    assert fpr.tolist() == [k / 7 for k in range(7)]
    for k in range(7):
        threshold = np.sort(scores[:7])[6 - k]
        flagged = scores <= threshold
        assert npv[k] == (flagged & (labels == 0)).sum() / flagged.sum()
    for share in (0.0, 0.1, 0.2, 0.5, 0.8):
        assert npv[np.searchsorted(fpr, share, side="right") - 1] == npv_at_fpr(scores, labels, share)


def test_the_test_is_judged_by_the_truth_where_it_is_known(run):
    examples = pd.read_parquet(run / "examples.parquet")
    examples.loc[examples["split"] == "test", "label"] = 0
    assert set(judged_test(examples)["truth"]) == {0, 1}
    assert set(judged_test(examples.drop(columns="true_label"))["truth"]) == {0}


@pytest.mark.parametrize("name", [*OPTIONAL, None])
def test_what_is_missing_is_said(copy, page, name):
    for other in OPTIONAL if name is None else (name,):
        (copy / other).unlink()
    shorter = Page(write_report(copy).read_text(encoding="utf-8"))
    note = next(text for attributes, text in shorter.all("div") if attributes.get("role") == "note")
    assert all(other in note for other in OPTIONAL if name in (other, None))
    assert not [a for a, _ in page.all("div") if a.get("role") == "note"]
    assert len(shorter.all("section")) == len(page.all("section"))
    assert (len(shorter.all("svg")) == 2) is (name is None)


def test_a_folder_without_metrics_is_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"metrics\.json"):
        write_report(tmp_path)


def told(**values):
    return json.dumps({"time": 1.0, "event": "evaluation", "epoch": 0, **values}) + "\n"


def test_evaluations_that_were_taken_again_count_once(copy):
    (copy / "log.jsonl").write_text(
        told(event="stage started", stage="s")
        + told(name="a", step=1, loss=1.0, val=0.1)
        + told(name="a", step=2, loss=0.9, val=0.2)
        + '{"time": 2.0, "event": "evalua\n'  # killed in the middle of a line
        + told(event="stage started", stage="s")
        + told(event="resumed", name="a", step=1)
        + told(name="a", step=2, loss=0.8, val=float("nan"))
        + told(name="b", step=5, loss=0.5)
        + told(event="stage started", stage="t")
        + told(name="b", step=4, loss=0.6)
    )
    found = RunFolder(copy)
    a, b = found.trainings
    assert (a.name, a.steps, a.losses) == ("a", [1, 2], {"loss": [1.0, 0.8]})
    assert a.val[0] == 0.1
    assert np.isnan(a.val[1])
    assert (b.steps, b.losses) == ([4], {"loss": [0.6]})
    assert [sentence for sentence in found.missing if "1 lines could not be read" in sentence]


def test_trainings_alike_share_a_plot_and_the_compared_models_come_first(page):
    titles = [text for _, text in page.all("h4")]
    titles = titles[titles.index("student") :]
    assert titles == ["student", "fine-tuned", "encoder pocket_resnet", "discovery", "specialist, 4 trainings"]


def test_settings_are_flat_and_complete():
    config = {"seed": 3, "empty": {}, "model": {"name": "x", "options": {}, "deep": {"on": True, "at": [1, None]}}}
    assert settings(config) == {
        "general": [("seed", "3")],
        "model": [("name", "x"), ("options", "none"), ("deep.on", "yes"), ("deep.at", "1, none")],
    }
