"""The page of results: one file that shows the images in order and loads nothing."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from conftest import succeed

from descargan import report
from descargan.figures import png_of, roc_figure
from descargan.options import Options
from descargan.report import Card, Cell, Gallery, Measured, Said, Table, strip, write_report

RNG = np.random.default_rng(0)


def picture(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, np.uint8)


def card(name: str, score: float) -> Card:
    return Card(name, score, "healthy", "", {"image": picture(20, 20), "map": picture(20, 20, 3)})


class Sources(HTMLParser):
    """Everything that a page names as an address."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.found += [value for name, value in attributes if name in ("src", "href", "srcset")]


def test_the_pictures_of_1000_images_stay_below_20_megabytes():
    worst = strip({name: picture(256, 256, 3) for name in ("image", "healthy", "map", "mask")})
    assert 1000 * len(worst) < 17e6


def test_images_come_by_their_scores(tmp_path):
    gallery = Gallery()
    for name, score in (("low", 0.1), ("high", 0.9), ("middle", 0.5)):
        gallery.add(card(name, score))
    assert [shown["name"] for shown in gallery.cards()] == ["high", "middle", "low"]


def test_of_very_many_images_those_of_the_highest_scores_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "SHOWN", 3)
    gallery = Gallery()
    for i in RNG.permutation(10):
        gallery.add(card(f"image {i}", float(i)))
    assert [shown["name"] for shown in gallery.cards()] == ["image 9", "image 8", "image 7"]
    page = written(tmp_path, gallery)
    assert "The 3 images of the highest scores, of 10" in page


def written(folder, gallery, notes=(), measured=None) -> str:
    options = Options(mode="predict", save_dir=folder, results_dir=folder)
    said = Said("the verdict", "images", notes)
    return write_report(options, said, gallery, measured).read_text()


def test_what_a_name_holds_is_text_and_no_markup(tmp_path):
    gallery = Gallery()
    gallery.add(card("<script>alert(1)</script>\udce9", 0.5))
    page = written(tmp_path, gallery)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_a_note_stands_on_the_page_as_a_sentence(tmp_path):
    assert "Nothing found: no." in written(tmp_path, Gallery(), ["nothing found: no"])


def test_metrics_stand_with_their_intervals(tmp_path):
    roc = png_of(roc_figure(np.array([0, 1]), {"score": np.array([0.1, 0.2])}))
    rows = [("pixel AUROC of the map", "0.9512", "0.9000 to 0.9900", 12)]
    small = Table(("maps", "AUROC"), [("ours", [Cell("0.951", "0.900 to 0.990")])], "What it is.")
    page = written(tmp_path, Gallery(), measured=Measured([small], rows, roc))
    for text in ("pixel AUROC of the map", "0.9512", "0.9000 to 0.9900", "ROC curves"):
        assert text in page
    for text in ("<th>maps</th>", ">AUROC</th>", "<b>0.951</b><small>0.900 to 0.990</small>"):
        assert text in page
    assert page.index("</table>") < page.index("What it is.")


def test_a_page_begins_with_what_it_comes_to_and_ends_with_what_few_read(page):
    parts = ["Too few test images to judge: 4 healthy and 4 diseased, fewer than 10."]
    parts += ["these networks</td>", "smoothed intensity</td>", "Images, by anomaly score"]
    parts += ["<figure>", "<summary>ROC", "<summary>All ", "pixel AUROC of the score map"]
    places = [page.index(part) for part in parts]
    assert places == sorted(places)
    assert "<details open" not in page


@pytest.fixture(scope="module")
def page(trained, synthetic, tmp_path_factory) -> str:
    """Of a test."""
    folder = tmp_path_factory.mktemp("report")
    arguments = ["--dataset-path", synthetic, "--save-dir", trained, "--results-dir", folder]
    succeed("main.py", "--mode", "test", *arguments, "--visdom", "off", "--threshold", 0.2)
    return (folder / "report.html").read_text()


def test_a_test_leaves_a_page_that_loads_nothing(page):
    sources = Sources()
    sources.feed(page)
    assert len(sources.found) == 4 + 8  # ROC and three figures of the run; 4 + 4 test images
    assert all(source.startswith("data:image/") for source in sources.found)
    assert not re.search(r"url\(|@import|<script", page)


def test_the_page_of_a_test_says_all_that_it_takes_to_judge_it(page, trained):
    for text in ("MSE(a_h, r_h)", "mask", "ground truth", "learning_rate", "torch", "diagnosis"):
        assert text in page
    assert str(trained) in page
