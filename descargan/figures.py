"""Pictures for people: examples in rows, maps with one colour scale, ROC curve."""

import io
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from descargan.checkpoints import write_atomically

MAPS = ("difference map", "ground truth")
MAP_LIMIT = 1.0  # colours of maps span -1 to 1, always, so that pictures can be compared
MAP_COLOURS = "seismic"


def example_figure(
    columns: dict[str, np.ndarray], title: str, rows: list[str] | None = None
) -> Figure:
    """One row per image, one column per entry of ``columns`` (name: (B, H, W) array).

    Masks are black and white, maps coloured with a bar, images grey from -1 to 1.
    """
    number = len(next(iter(columns.values())))
    figure = Figure(figsize=(1.9 * len(columns) + 1, 1.9 * number + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(number, len(columns), squeeze=False)
    for j, (name, images) in enumerate(columns.items()):
        axes[0, j].set_title(name, fontsize=10)
        is_map, is_mask = name in MAPS, images.dtype == bool
        limits = (0, 1) if is_mask else (-MAP_LIMIT, MAP_LIMIT)
        for i, image in enumerate(images):
            axes[i, j].imshow(
                image, cmap=MAP_COLOURS if is_map else "gray", vmin=limits[0], vmax=limits[1]
            )
            axes[i, j].set_xticks([])
            axes[i, j].set_yticks([])
            if j == 0 and rows:
                axes[i, j].set_ylabel(rows[i], fontsize=9)
    scale = ScalarMappable(Normalize(-MAP_LIMIT, MAP_LIMIT), MAP_COLOURS)
    bar = figure.colorbar(scale, ax=axes, shrink=0.8, pad=0.01)
    bar.set_label("image minus healthy", fontsize=9)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def as_array(figure: Figure, dpi: float) -> np.ndarray:
    """A figure as RGB (3, H, W), uint8."""
    figure.set_dpi(dpi)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].transpose(2, 0, 1).copy()


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    write_atomically(path, buffer.getvalue())
