"""How difference maps are read: by which sign, and from which value on something was found.

No pixel labels are needed. What the maps of diseased validation images have more of than those of
healthy ones, brighter pixels or darker or both, is the score map. Of healthy images nearly all
pixels of it lie below the threshold, which is no less than half of what it shows of diseased ones
where it is in the unit of the images. Where the anomaly score does not tell the validation images'
classes apart, nothing was found, and no value is one; of too few patients nothing is said either
way. All stand beside the weights, for the last and for the best.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from descargan import DISEASED, HEALTHY, metrics
from descargan.checkpoints import Run
from descargan.errors import FileError
from descargan.files import read_json, without_nan, write_json
from descargan.options import Options
from descargan.score_maps import Map, cover_up, diffuse, fill, layer, read, step, weigh

DIFFUSION = 0.04  # of score maps of brightness, as a share of the side
ALIKE = 0.07  # among pixels of images in [-1, 1] that differ by less
# Likewise under a layer that covers, where what shines through is mottled.
THROUGH = 0.03
MOTTLED = 0.12
RANGE = 2.0  # of an image in [-1, 1]
QUANTILE = 0.995  # of the score map, over all pixels of healthy images
LEAST = 0.05 * RANGE
HALF = 0.5  # of the level: where a change, drawn a little wider, is taken to end
FEWEST = 10  # patients of a class that a verdict, and a sign, are drawn from
EDGES = np.linspace(0, RANGE, 2001)
# What a reading does to maps, and how the metrics.json of a test calls it.
HOW = {
    "sign": "sign_of_disease",
    "diffusion": "diffusion_of_score_map",
    "cover": "cover_of_score_map",
    "in_unit": "score_map_in_unit",
}
NUMBERS = ("threshold", "level", "auroc_anomaly", "auroc_anomaly_low", "auroc_anomaly_high")
SAMPLES = 200  # of the bootstrap, after every epoch


class Reading(NamedTuple):
    """The threshold of the score map, or None and the sentence that says why; and what that is.

    ``sign`` 1: the brighter part of the difference map is the score map, -1: the darker, 0: both.
    By ``diffusion``, a share of the side, it is blurred among what is alike in the image, so that
    it ends at the outlines of tissue, and filled (:func:`diffuse`, :func:`fill`). With a ``cover``
    that is done to the layer that it is of (:func:`layer`); above 0 the score map is what such a
    layer changes (:func:`cover_up`). Without diffusion nothing of this is done; the difference map
    is never changed.
    """

    threshold: float | None
    reason: str = ""
    sign: int = 0
    diffusion: float = 0.0
    cover: float | None = None

    @property
    def masks(self) -> str:
        """What masks show, in words; empty where there are none."""
        if self.threshold is None:
            return ""
        return f"masks show where the score map is over {self.threshold:.3g}"

    @property
    def about(self) -> dict[str, float | None]:
        """How maps are read, as the ``metrics.json`` of a test says it."""
        return {title: getattr(self, name) for name, title in HOW.items()}

    @property
    def in_unit(self) -> bool:
        """Whether score maps are differences in the unit of the images, not filled layers."""
        return not self.diffusion or bool(self.cover)

    def anomaly_score(self, difference: Map) -> Map:
        """Means (...) of what speaks for disease in difference maps (..., H, W)."""
        return read(difference, self.sign).mean((-2, -1))

    def score_map(self, difference: Map, image: Map, probability: Map | float) -> Map:
        """How much speaks for disease at each pixel of difference maps, tensor or array.

        ``image``: the images in [-1, 1] that they are of, in the same shape (..., H, W), or one;
        ``probability`` (...): of disease, NaN where it is not known.
        """
        scores = read(difference, self.sign)
        if not self.diffusion:
            return scores
        if isinstance(difference, np.ndarray):
            tensors = [torch.as_tensor(x) for x in (difference, image, probability)]
            return self.score_map(*tensors).numpy()
        if self.cover is None:
            return fill(diffuse(scores, image, self.diffusion, ALIKE), probability)
        layers = self.layers(scores, image)
        if not self.cover:
            return fill(layers, probability)
        change = cover_up(step(layers), scores, self.sign * image, self.cover)
        return weigh(change, probability)

    def layers(self, scores: Tensor, images: Tensor) -> Tensor:
        """The layers (..., H, W) that scores are of, blurred among what is alike in the images."""
        alike = MOTTLED if self.cover else ALIKE
        return diffuse(layer(scores, images), images, self.diffusion, alike)

    def covering(self, cover: float) -> "Reading":
        """The same for layers of a cover, which are blurred by what shines through them."""
        return self._replace(cover=cover, diffusion=THROUGH if cover else DIFFUSION)

    def mask(self, score_map: np.ndarray) -> np.ndarray | None:
        """Where a score map is over the threshold; None without a threshold."""
        return None if self.threshold is None else score_map > self.threshold


def count_values(score_map: np.ndarray) -> np.ndarray:
    """Pixels of a score map in each bin between EDGES."""
    return np.histogram(np.minimum(score_map, RANGE), EDGES)[0]


def healthy_threshold(counts: np.ndarray) -> float:
    """The threshold, by the values of all pixels of healthy images as :func:`count_values` says."""
    share = counts.cumsum() / counts.sum()
    quantile = EDGES[1:][np.searchsorted(share, QUANTILE)]
    return float(max(LEAST, quantile))


def level_of(counts: np.ndarray) -> float:
    """What score maps show where they show something: their mean, each pixel by its own value.

    ``counts``: of all pixels, as :func:`count_values` says. NaN of maps that show nothing.
    """
    values = EDGES[:-1]
    shown = (counts * values).sum()
    return float((counts * values**2).sum() / shown) if shown else np.nan


def describe_maps(
    of_healthy: np.ndarray,
    of_diseased: np.ndarray,
    labels: Sequence[int],
    scores: Sequence[float],
    in_unit: bool,
    patients: Sequence[int],
) -> dict[str, float]:
    """The numbers that a reading depends on, of the validation split.

    Counts of the pixels of healthy and of diseased images, as :func:`count_values` says;
    ``labels``, ``scores``, ``patients``: class, anomaly score and patient of each image;
    ``in_unit``: see Reading. The interval is over patients, as images of one are alike. Of fewer
    than FEWEST of a class it is NaN: one that they span is none.
    """
    columns = np.asarray(labels), np.asarray(scores)
    found = metrics.with_interval(metrics.auroc, *columns, samples=SAMPLES, groups=patients)
    if are_too_few(labels, patients):
        found |= {"low": np.nan, "high": np.nan}
    threshold, level = healthy_threshold(of_healthy), level_of(of_diseased)
    if in_unit:  # what is filled is a step at half of its largest value as it is
        threshold = float(np.fmax(threshold, HALF * level))
    numbers = threshold, level
    interval = (found[key] for key in ("value", "low", "high"))
    return dict(zip(NUMBERS, (*numbers, *interval), strict=True))


def are_too_few(labels: Sequence[int], patients: Sequence[int]) -> bool:
    """Whether images of these classes and patients (N,) are of too few patients to judge by."""
    labels, patients = np.asarray(labels), np.asarray(patients)
    numbers = [len(np.unique(patients[labels == c])) for c in (HEALTHY, DISEASED)]
    return min(numbers) < FEWEST


def keep_reading(
    path: Path, which: str, values: dict[str, float], reading: Reading, iteration: int
) -> None:
    """Write the numbers of :func:`describe_maps`, and how maps were read for them.

    ``which``: "last" or "best" weights; ``iteration``: at which they were validated.
    """
    known = read_json(path)
    how = {name: getattr(reading, name) for name in HOW}
    known[which] = {"iteration": iteration, **{name: values[name] for name in NUMBERS}, **how}
    write_json(path, without_nan(known))


def reading_of(options: Options) -> Reading:
    """How a test or a prediction reads maps: as ``--threshold`` says, or as its run has stored."""
    reading = read_reading(Run(options.save_dir, options.dataset).reading, options.weights)
    if options.threshold is not None:
        return reading._replace(threshold=options.threshold, reason="")
    return reading


def how_of_test(said: dict) -> dict[str, float | None]:
    """What the ``metrics.json`` of a test says of how it read its maps, by the names in HOW.

    Or what its "reading_of_first" says of the maps of networks that come first.
    """
    return {name: said[title] for name, title in HOW.items() if title in said}


def is_earlier(how: dict) -> bool:
    """Whether score maps were made as an earlier version did, by what is said of HOW.

    Those of a diffusion were not weighed by a cover then, or by another law of it.
    """
    if not how.get("diffusion"):
        return False
    return "cover" not in how or bool(how["cover"] and "in_unit" not in how)


def read_level(path: Path, which: str) -> float | None:
    """What the score maps of the "last" weights or the "best" show, see :func:`level_of`.

    None where that is not known.
    """
    return read_json(path).get(which, {}).get("level")


def is_number(value: object) -> bool:
    """Whether a stored value is a number, or None for one that is not finite."""
    return value is None or isinstance(value, float | int)


def read_reading(path: Path, which: str) -> Reading:
    """How to read the maps of the "last" weights or the "best". Raises UserError: it is damaged."""
    stored = read_json(path).get(which)
    if stored is None:
        return Reading(None, "no threshold is stored with these weights: maps without masks")
    needed = ("threshold", "auroc_anomaly_low", "auroc_anomaly_high")
    if not isinstance(stored, dict) or not all(is_number(stored.get(n, "")) for n in needed):
        raise FileError(f"{path} is damaged: restore or remove it")
    if stored.get("iteration") == 0:
        return Reading(
            None,
            "these weights were stopped before their first validation, so there are no masks: go "
            "on with the training, or set a --threshold",
        )
    low, high = stored["auroc_anomaly_low"], stored["auroc_anomaly_high"]
    how = {"sign": stored.get("sign", 0), "diffusion": stored.get("diffusion", 0.0)}
    how["cover"] = stored.get("cover")
    if stored.get("smoothing") or is_earlier(stored):
        return Reading(
            None,
            "the threshold that is stored is one of an earlier version, which read difference maps "
            "otherwise: set a --threshold, or go on with the training",
            sign=how["sign"],
            diffusion=DIFFUSION,
        )
    if low is None:
        return Reading(
            None,
            f"too few validation images to judge, fewer than {FEWEST} of a class or of fewer than "
            f"{FEWEST} patients, so there are no masks: prepare more, or set a --threshold",
            **how,
        )
    if stored.get("level", 0.0) is None:
        return Reading(
            None,
            "nothing found: the score maps of diseased validation images show nothing, so there "
            "are no masks",
            **how,
        )
    if low <= 0.5:
        return Reading(
            None,
            "nothing found: on the validation images the anomaly score does not tell diseased "
            f"from healthy (95 % interval of its AUROC: {low:.2f} to {high:.2f}), so there are no "
            "masks",
            **how,
        )
    return Reading(stored["threshold"], **how)
