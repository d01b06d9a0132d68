"""``report.html``: what a test or a prediction found, as one file that any browser shows.

Pictures are embedded and small, so that 1,000 images stay below 20 MB; nothing is loaded from
anywhere. The page is drawn from ``report.html.jinja``.
"""

import base64
import heapq
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from descargan import __version__
from descargan.checkpoints import Run
from descargan.commands import command
from descargan.figures import history_figures, png_of
from descargan.files import write_atomically
from descargan.names import printable
from descargan.options import Options, used

TEMPLATE = "report.html.jinja"
SHOWN = 1000  # images: those of the highest anomaly scores
SIDE = 96  # pixels of a thumbnail
STRIP_BYTES = 12_000  # of the thumbnails of an image together, most
QUALITIES = (85, 70, 50, 30, 10)
GAP = 2  # white pixels between thumbnails


class Card(NamedTuple):
    """An image of the page: its name and score, what is said of it, a warning, and its pictures.

    ``panels`` are named, grey (H, W) or RGB (H, W, 3), uint8.
    """

    name: str
    score: float
    said: str
    flag: str
    panels: dict[str, np.ndarray]


class Gallery:
    """The cards of the highest scores, each with its thumbnails side by side as one picture."""

    def __init__(self) -> None:
        self.number = 0
        self._kept: list[tuple[float, int, dict[str, object]]] = []

    def add(self, card: Card) -> None:
        self.number += 1
        if len(self._kept) == SHOWN and card.score <= self._kept[0][0]:
            return
        drawn = card._asdict() | {"panels": list(card.panels), "strip": strip(card.panels)}
        push = heapq.heappush if len(self._kept) < SHOWN else heapq.heapreplace
        push(self._kept, (card.score, -self.number, drawn))

    def cards(self) -> list[dict[str, object]]:
        """From the highest score to the lowest."""
        return [drawn for _, _, drawn in sorted(self._kept, reverse=True, key=lambda x: x[:2])]


class Cell(NamedTuple):
    """A number of a table and its 95 % interval."""

    value: str
    interval: str


class Table(NamedTuple):
    """A small table: a head for each column, rows of a name and cells, and what it means."""

    heads: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    explanation: str


@dataclass(frozen=True)
class Measured:
    """What a test adds to the page: small tables, all metrics, and the ROC curves."""

    tables: Sequence[Table]
    metrics: Sequence[tuple[str, str, str, int]]  # name, value, 95 % interval, images
    roc: bytes  # PNG


class Said(NamedTuple):
    """The words of a page, sentences without full stops.

    ``verdict``: what it comes to; ``summary``: in a few words what was looked at; ``notes``: what a
    reader must know beside it; ``masks``: what masks show, where there are some.
    """

    verdict: str
    summary: str
    notes: Sequence[str]
    masks: str = ""


def write_report(
    options: Options, said: Said, gallery: Gallery, measured: Measured | None = None
) -> Path:
    """Write the page to ``options.results_dir``. Returns its path."""
    run = Run(options.save_dir, options.dataset)
    curves, described = {}, {"options": {}, "versions": {}}
    if options.maps is None:
        described = run.read_description()
        curves = history_figures(run.read_metrics())
    template = environment().get_template(TEMPLATE)
    page = template.render(
        title="Test" if options.mode == "test" else "Prediction",
        said=said,
        tables=measured.tables if measured else (),
        metrics=measured.metrics if measured else (),
        roc=embedded(measured.roc, "png") if measured else "",
        curves={name: embedded(png_of(figure), "png") for name, figure in curves.items()},
        cards=gallery.cards(),
        number=gallery.number,
        options=used(options),
        trained=described["options"],
        versions={"descargan now": __version__, **described["versions"]},
        made_by=f"networks of {run.folder}, {options.weights} weights"
        if options.maps is None
        else f"maps in {options.maps}",
        replay=printable(command("-m", "descargan.dashboard", "--replay", run.folder)),
        written=f"{datetime.now():%Y-%m-%d %H:%M}",
    )
    path = options.results_dir / "report.html"
    write_atomically(path, page.encode(errors="backslashreplace"))
    return path


def environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def strip(panels: dict[str, np.ndarray]) -> str:
    """Pictures side by side, as one small embedded JPEG."""
    small = [thumbnail(picture) for picture in panels.values()]
    width = sum(picture.width + GAP for picture in small) - GAP
    joined = Image.new("RGB", (width, max(picture.height for picture in small)), "white")
    left = 0
    for picture in small:
        joined.paste(picture, (left, 0))
        left += picture.width + GAP
    for quality in QUALITIES:
        buffer = io.BytesIO()
        joined.save(buffer, format="JPEG", quality=quality)
        if buffer.tell() <= STRIP_BYTES:
            break
    return embedded(buffer.getvalue(), "jpeg")


def thumbnail(picture: np.ndarray) -> Image.Image:
    """A picture with its longer side of SIDE pixels."""
    image = Image.fromarray(picture).convert("RGB")
    scale = SIDE / max(image.size)
    return image.resize([max(1, round(scale * n)) for n in image.size], Image.Resampling.BOX)


def embedded(content: bytes, kind: str) -> str:
    """A picture as an address that holds it."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
