"""Pictures for people: examples in rows, maps with one colour scale, ROC curve."""

import io
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from descargan import metrics
from descargan.files import write_atomically

MAPS = ("difference map", "ground truth")
MAP_LIMIT = 1.0  # colours of maps span -1 to 1, always, so that pictures can be compared
MAP_COLOURS = "seismic"
PICTURE, GAP = 1.9, 0.05  # inches from an example to the next, and the share between them
DPI = 130  # dots an inch of pictures in files


def example_figure(
    columns: dict[str, np.ndarray], title: str, rows: list[str] | None = None
) -> Figure:
    """One row per image, one column per entry of ``columns`` (name: (B, H, W) array).

    Masks are black and white, maps coloured with a bar, images grey from -1 to 1. A ground truth
    of NaN is not known.
    """
    number = len(next(iter(columns.values())))
    figure, axes, bar = picture_grid(number, len(columns), labels=bool(rows), title=bool(title))
    for x, (name, images) in enumerate(columns.items()):
        axes.text(x + 0.5, -0.06, name, fontsize=10, ha="center")
        is_map, is_mask = name in MAPS, images.dtype == bool
        for y, image in enumerate(images):
            axes.imshow(
                image,
                cmap=MAP_COLOURS if is_map else "gray",
                vmin=0 if is_mask else -MAP_LIMIT,
                vmax=MAP_LIMIT,
                extent=(x, x + 1 - GAP, y + 1 - GAP, y),
            )
            if np.isnan(image).all():
                axes.text(x + 0.5, y + 0.5, "not outlined", fontsize=9, ha="center", va="center")
            axes.add_patch(Rectangle((x, y), 1 - GAP, 1 - GAP, fill=False, linewidth=0.8))
    for y, label in enumerate(rows or ()):
        axes.text(-0.06, y + 0.5, label, fontsize=9, rotation=90, ha="right", va="center")
    axes.set(xlim=(0, len(columns)), ylim=(number, 0))
    add_map_bar(figure, cax=bar)
    if title:
        figure.suptitle(title, fontsize=11, y=1 - 0.1 / figure.get_figheight(), va="top")
    return figure


def picture_grid(rows: int, columns: int, labels: bool, title: bool) -> tuple[Figure, Axes, Axes]:
    """A figure with axes for pictures at whole numbers, of PICTURE inches each, and those of a bar.

    One axes for all pictures, placed by hand: one for each, and a layout that looks for room, take
    most of the time of drawing.
    """
    left, right, top, bottom = 0.5 if labels else 0.1, 1.1, 0.65 if title else 0.35, 0.1
    width, height = left + columns * PICTURE + right, top + rows * PICTURE + bottom
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    low, tall = bottom / height, rows * PICTURE / height
    axes = figure.add_axes((left / width, low, columns * PICTURE / width, tall))
    axes.set_axis_off()
    bar = figure.add_axes((1 - 0.95 / width, low + 0.1 * tall, 0.2 / width, 0.8 * tall))
    return figure, axes, bar


def label_row(axes: Axes, label: str) -> None:
    """No ticks, and a label beside the first picture of a row.

    What is hidden, or lies on the edge of the picture, need not be looked at for the layout.
    """
    axes.spines[:].set_in_layout(False)
    axes.xaxis.set_visible(False)
    axes.yaxis.set_visible(bool(label))
    axes.set_yticks([])
    axes.set_ylabel(label, fontsize=9)


def add_map_bar(figure: Figure, **place: object) -> None:
    """The colour scale of all maps, at the ``place`` of figure.colorbar."""
    scale = ScalarMappable(Normalize(-MAP_LIMIT, MAP_LIMIT), MAP_COLOURS)
    figure.colorbar(scale, **place).set_label("image minus healthy", fontsize=9)


def overlay_figure(
    images: np.ndarray,
    healthy: np.ndarray,
    differences: np.ndarray,
    rows: list[str],
    title: str,
    contours: tuple[np.ndarray, float] | None = None,
) -> Figure:
    """Difference maps over their images, with the ``contours`` of score maps at a threshold.

    All are (B, H, W); images and pseudo-healthy images in [-1, 1].
    """
    number = len(images)
    figure = Figure(figsize=(9.5, 2.9 * number + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(number, 3, squeeze=False)
    for i, (image, translated, difference) in enumerate(
        zip(images, healthy, differences, strict=True)
    ):
        for j, background in enumerate((image, translated, image)):
            axes[i, j].imshow(background, cmap="gray", vmin=-1, vmax=1)
            label_row(axes[i, j], rows[i] if j == 0 else "")
        axes[i, 2].imshow(colour_map(difference))
        if contours is not None:
            score, threshold = contours[0][i], contours[1]
            if score.min() <= threshold < score.max():
                axes[i, 2].contour(score, [threshold], colors="lime", linewidths=0.6)
    contour = "" if contours is None else f", contour at {contours[1]:.2f}"
    for j, name in enumerate(("image", "pseudo-healthy", f"difference map{contour}")):
        axes[0, j].set_title(name, fontsize=10)
    add_map_bar(figure, ax=axes, shrink=0.8, pad=0.01)
    figure.suptitle(title, fontsize=11)
    return figure


def grey(image: np.ndarray) -> np.ndarray:
    """An image (H, W) in [-1, 1] as uint8."""
    return np.rint(255 * np.clip((image + 1) / 2, 0, 1)).astype(np.uint8)


def mask_picture(mask: np.ndarray) -> np.ndarray:
    """White where a mask (H, W) is, else black, as uint8."""
    return np.where(mask, np.uint8(255), np.uint8(0))


def colour_map(difference: np.ndarray) -> np.ndarray:
    """A difference map (H, W) as RGBA in [0, 1], clear where nothing differs."""
    scaled = np.clip(difference / MAP_LIMIT, -1, 1)
    colours = colormaps[MAP_COLOURS]((scaled + 1) / 2)
    colours[..., 3] = np.minimum(1.5 * np.abs(scaled), 1)
    return colours


def overlay(image: np.ndarray, difference: np.ndarray) -> np.ndarray:
    """An image (H, W) in [-1, 1] under its coloured difference map, as RGB (H, W, 3), uint8."""
    colours = colour_map(difference)
    alpha = colours[..., 3:]
    mixed = alpha * colours[..., :3] + (1 - alpha) * (image[..., None] + 1) / 2
    return np.rint(255 * np.clip(mixed, 0, 1)).astype(np.uint8)


def roc_figure(labels: np.ndarray, scores: dict[str, np.ndarray]) -> Figure:
    """ROC curves of image-level scores, with their areas."""
    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, values in scores.items():
        area = metrics.auroc(labels, values)
        axes.plot(*metrics.roc_curve(labels, values), label=f"{name}: AUROC {area:.3f}")
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="chance")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", title="Diseased or healthy")
    axes.set_aspect("equal")
    axes.legend(loc="lower right", fontsize=9)
    return figure


HISTORY = {
    "Critic and classifier": ("losses", "critic/"),
    "Generator": ("losses", "generator/"),
    "Validation": ("validation", ""),
}


def history_figures(history: list[dict]) -> dict[str, Figure]:
    """The loss terms of a run, and the shares of its validation, over its epochs, by title.

    ``history``: the records of the run; a curve is a name that occurs in them.
    """
    figures = {}
    for title, (kind, prefix) in HISTORY.items():
        records = [record for record in history if record["kind"] == kind]
        figure = Figure(figsize=(4.5, 4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        for name in dict.fromkeys(name for record in records for name in record):
            if is_curve(name, prefix):
                points = [(r["epoch"], r[name]) for r in records if r.get(name) is not None]
                x, y = zip(*points, strict=True) if points else ((), ())
                label = VALIDATED.get(name, name.removeprefix(prefix))
                axes.plot(x, y, label=label, linewidth=1, marker="." if len(x) < 2 else None)
        axes.set(title=title, xlabel="epoch")
        if kind == "losses":
            axes.set_yscale("symlog", linthresh=0.1)
        if axes.lines:
            axes.legend(fontsize=8)
            figures[title] = figure
    return figures


VALIDATED = {
    "accuracy": "class accuracy",
    "kappa": "Cohen's kappa",
    "choice": "choice",
    "auroc_anomaly": "AUROC of the anomaly score",
    "pixel_auprc": "pixel AUPRC",
    "dice": "Dice",
}


def is_curve(name: str, prefix: str) -> bool:
    """Whether a number of the history is drawn: a loss term, or a share or score of validation."""
    if prefix:
        return name.startswith(prefix) and not name.endswith(("total", "gradient norm"))
    return name in VALIDATED


def as_array(figure: Figure, dpi: float) -> np.ndarray:
    """A figure as RGB (3, H, W), uint8."""
    figure.set_dpi(dpi)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].transpose(2, 0, 1).copy()


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically."""
    write_atomically(path, png_of(figure))


def png_of(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()
