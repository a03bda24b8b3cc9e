import io
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
from PIL import Image

from tutelage.reports.plots import COLOURS, STYLE, Line, line_plot, montage, training_curves
from tutelage.reports.run_folder import Training

LINES = [
    Line("ours <&$x$>", np.arange(4.0), np.arange(4.0) ** 2, points=[(1, 1, 0.5, 2)]),
    Line("b", np.ones(2), np.ones(2)),
]


def plot(name="one", **more):
    return line_plot(LINES, x_label="x", y_label="$y$", name=name, alt='what "it" shows', **more)


def test_a_plot_is_one_element_with_text_and_a_description():
    root = ElementTree.fromstring(plot(reference=("floor", 2.0)))
    assert root.tag.endswith("svg")
    assert (root.get("role"), root.get("aria-label")) == ("img", 'what "it" shows')
    assert root.get("viewBox")
    assert root.get("width") is None
    texts = {"".join(element.itertext()) for element in root.iter() if element.tag.endswith("text")}
    assert {"ours <&$x$>", "b", "x", "$y$", "floor"} <= texts


def test_ids_of_two_plots_do_not_clash():
    ids = [
        {element.get("id") for element in ElementTree.fromstring(plot(name)).iter()} - {None} for name in ("one", "two")
    ]
    assert not ids[0] & ids[1]
    assert all(text.startswith("one-") for text in ids[0])


def test_the_same_plot_is_the_same_text():
    assert plot() == plot()


def test_shares_are_shown_in_percent():
    text = plot(percent=True, x_range=(0, 0.2), y_range=(0, 1))
    for share in ("5 %", "15 %", "20 %", "80 %", "100 %"):
        assert f">{share}<" in text


@pytest.mark.parametrize(
    "training",
    [
        Training("one point", [3], {"loss": [0.5]}, [0.1]),
        Training("nothing selects", [1, 2], {"loss": [0.5, np.nan]}, [np.nan, np.nan]),
        Training("no losses", [1, 2], {}, [0.1, 0.2]),
        Training("negative", [1, 2], {"a": [-1.0, -2.0], "b": [np.inf, 1.0]}, [np.nan, 0.3]),
    ],
)
def test_whatever_was_logged_is_drawn(training):
    ElementTree.fromstring(training_curves([training], "t", "described"))


def test_colours_can_be_read_on_white():
    def luminance(colour):
        channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    assert all(1.05 / (luminance(colour) + 0.05) >= 4.5 for colour in COLOURS)  # WCAG 2.1, 1.4.3


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)))


def test_small_pictures_are_enlarged_exactly():
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 6, 4), dtype=np.uint8)
    sheet = pixels(montage(images, columns=3, tile=20, gap=2))
    assert sheet.shape == (2 * 18 + 2, 3 * 12 + 2 * 2, 4)
    for place, image in enumerate(images):
        row, column = divmod(place, 3)
        tile = sheet[20 * row : 20 * row + 18, 14 * column : 14 * column + 12, :3]
        np.testing.assert_array_equal(tile, np.kron(image.transpose(1, 2, 0), np.ones((3, 3, 1), np.uint8)))
    assert (sheet[20:, 28:, 3] == 0).all()  # nothing: the page's own colour is seen
    assert (sheet[..., 3] == 255).sum() == 5 * 18 * 12


def test_large_pictures_are_reduced_in_proportion():
    assert pixels(montage(np.full((1, 3, 200, 100), 7, np.uint8), columns=4, tile=50)).shape == (50, 25, 4)


def test_a_montage_of_nothing_is_refused():
    with pytest.raises(ValueError, match="images is empty"):
        montage([], columns=3, tile=20)


def test_plots_leave_the_settings_alone():
    before = {key: matplotlib.rcParams[key] for key in STYLE}
    plot()
    assert {key: matplotlib.rcParams[key] for key in STYLE} == before


def test_extras_are_imported_when_used_and_pyplot_never():
    code = (
        "import sys, tutelage.reports; print(sorted({'matplotlib', 'pandas', 'jinja2', 'PIL'} & set(sys.modules)))\n"
        "from tutelage.reports.plots import training_curves\n"
        "from tutelage.reports.run_folder import Training\n"
        "training_curves([Training('a', [1, 2], {'l': [1.0, 0.5]}, [0.1, 0.2])], 'n', 'd')\n"
        "print('matplotlib' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == ["[]", "True False"]
