"""Trained networks on a device: images in, pseudo-healthy images and difference maps out.

Validation, test, prediction and the Python API all go through :class:`Translator`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from descargan import DISEASED, HEALTHY
from descargan.checkpoints import Run, fill, read_weights, sizes_of
from descargan.data import ImageDataset, load
from descargan.device import autocast, choose_device
from descargan.errors import UserError, warn
from descargan.images import unfit
from descargan.layers import evaluating
from descargan.layout import find_files
from descargan.likeness import Likeness, read_likeness
from descargan.maps import suits, upsample
from descargan.models import Discriminator, Generator, build_networks
from descargan.options import Options, checked
from descargan.reading import Reading, read_level, reading_of
from descargan.scaling import NO_DATA, without_no_data
from descargan.score_maps import read
from descargan.settings import saved_options, settle
from descargan.sources import (
    PLAIN,
    Picture,
    Preprocessing,
    as_input,
    read_pictures,
    spans_of_series,
)
from descargan.translations import Translations, join

CHUNK = 10  # images that are translated at a time


@dataclass(frozen=True)
class Result:
    """What the networks make of one image (H, W), or of several of one size (B, H, W).

    ``healthy`` is the pseudo-healthy image, in the unit of images in [-1, 1], and ``difference``
    the difference map, in [-2, 2], float32 of the size of the input; ``flow`` (2, H, W) is, where
    the generator moves tissue, how many pixels (x, y) away each pixel of ``healthy`` was taken from
    (under averaged flips the mean over them), else None.
    ``probability`` of disease and ``score``, the mean of the map as it is read, at the networks'
    size, are numbers, or arrays (B,). ``score_map`` says how much speaks for disease at each pixel,
    float32 of the size of the input: see :class:`descargan.reading.Reading`. ``mask`` is True where
    it is over the threshold of the run; None where the run has no threshold.
    ``unlike_training``: whether the input is unlike the images trained on, so that nothing said of
    it means anything; None where the run does not know. ``slice`` names the frame, page or slice of
    the file that it was made of, as in frame-001, page-001 and axial-000; it is empty where the
    file holds one picture, and for arrays.
    """

    healthy: np.ndarray
    difference: np.ndarray
    probability: float | np.ndarray
    score: float | np.ndarray
    flow: np.ndarray | None
    score_map: np.ndarray
    mask: np.ndarray | None
    unlike_training: bool | np.ndarray | None
    slice: str = ""

    @property
    def predicted(self) -> int | np.ndarray:
        """1 diseased, 0 healthy: the class that is the more probable, of one image or (B,)."""
        predicted = np.asarray(self.probability) > 0.5
        return predicted.astype(int) if predicted.ndim else int(predicted)


class Translator:
    """Generator and discriminator on a device, ready to translate.

    A translation is the mean over ``flips``, the axes of (B, C, H, W) that images are flipped along
    before it and back after it. ``preprocessing``: how files and arrays become its images, of
    ``size`` pixels a side. Where that is more than the networks were trained on, they see images
    reduced, and the change that they draw is made at that size.

    >>> translator = Translator.load("save_nets/pretrained")
    >>> result = translator(array)
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        device: torch.device | None = None,
        flips: Sequence[Sequence[int]] = ((),),
        preprocessing: Preprocessing = PLAIN,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.generator, self.discriminator = (
            network.to(self.device, memory_format=torch.channels_last)
            for network in (generator, discriminator)
        )
        self.side = self._size = discriminator.image_size  # as the networks see images
        self.flips, self.preprocessing = flips, preprocessing
        self.reading = Reading(None)  # of the difference maps
        self.likeness: Likeness | None = None  # to the images trained on
        self.first: Translator | None = None  # that these come after
        self.unit = 1.0  # that score maps are multiplied by beside those of the first
        self.amp = False  # mixed precision

    @classmethod
    def load(
        cls,
        folder: str | Path,
        weights: str = "last",
        device: str = "auto",
        dataset: str | None = None,
        after: str | Path | None = None,
    ) -> "Translator":
        """The networks of the run in a folder: its "last" weights or its "best".

        ``dataset``: the kind of data, where the folder holds runs of several; ``after``: where the
        run is now that it comes after, if that has moved. Raises UserError where there are none,
        or they are damaged.
        """
        keywords = {"save_dir": folder, "weights": weights, "dataset": dataset, "after": after}
        return cls.of(settle({**checked(keywords), "mode": "test", "device": str(device)}))

    @classmethod
    def of(cls, options: Options) -> "Translator":
        """The networks of the run that settled options name, on the device that they name."""
        device = choose_device(options.device, options.amp)
        run = Run(options.save_dir, options.dataset)
        files = run.weights(options.weights)
        weights = [read_weights(file) for file in files]
        own = replace(options, **sizes_of(*weights))
        networks = build_networks(own)
        for network, state, file in zip(networks, weights, files, strict=True):
            fill(network, state, file)
            network.eval()
        how = Preprocessing(options.scaling, options.axis, options.slices)
        translator = cls(*networks, device, averaged_flips(options), how)
        translator.reading, translator.likeness = reading_of(options), read_likeness(run.likeness)
        translator.amp, translator.size = options.amp, options.image_size
        if options.after is not None:
            translator.come_after(cls.first_of(own), options)
        return translator

    def come_after(self, first: "Translator", options: Options) -> None:
        """Join the networks that come first.

        Score maps are in the unit of theirs: by the levels of both, see ``reading.level_of``, where
        not both are in that of the images. What is over the threshold of both runs is found, or
        over ``options.threshold``; nothing is where this run has none.
        """
        runs = Run(options.save_dir, options.dataset), Run(options.after, options.dataset)
        if runs[0].read_description().get("first_weights") not in (None, runs[1].digest()):
            warn(
                f"the networks of --after {options.after} have changed since those in "
                f"{options.save_dir} were trained: restore them, or train these anew"
            )
        self.first, self.likeness = first, first.likeness  # to all images, not to the rest alone
        level = read_level(runs[0].reading, options.weights)
        level_of_first = read_level(runs[1].reading, "last")
        both_in_unit = self.reading.in_unit and first.reading.in_unit
        if level and level_of_first and not both_in_unit:
            self.unit = level_of_first / level
        threshold = self.reading.threshold
        if options.threshold is None and threshold is not None:
            threshold = max(self.unit * threshold, first.reading.threshold or 0.0)
            self.reading = self.reading._replace(threshold=threshold)

    @classmethod
    def first_of(cls, options: Options) -> "Translator":
        """The networks of the run in ``options.after``, which others come after.

        Raises UserError where there is none, or its networks do not suit these.
        """
        folder = options.after
        if not Run(folder, options.dataset).generator.exists():
            raise UserError(
                f"--after {folder} holds no networks trained with --dataset {options.dataset}: "
                "name the folder where the run is now that comes first"
            )
        how = {"mode": "test", "save_dir": folder, "dataset": options.dataset}
        trained = saved_options(Run(options.save_dir, options.dataset))
        if options.average_flips != trained.get("average_flips", options.average_flips):
            how["average_flips"] = options.average_flips  # typed, so for both
        settled = settle({**how, "device": options.device, "amp": options.amp})
        if settled.networks != "compact":
            raise UserError(
                f"--after {folder} holds the paper's networks, as --recipe deformation trains them "
                "too, whose critics do not say whether an image is real: name a run of compact "
                "ones, as of --recipe fast --translation layer"
            )
        if settled.after is not None or folder.resolve() == options.save_dir.resolve():
            raise UserError(
                f"--after {folder} does not come first: name a run that comes after none, and not "
                "that of --save-dir itself"
            )
        for name in ("image_size", "scaling"):
            theirs, ours = getattr(settled, name), getattr(options, name)
            if theirs != ours:
                raise UserError(
                    f"--after {folder} holds networks for --{name.replace('_', '-')} {theirs}, not "
                    f"{ours}: both have to be trained on images alike"
                )
        return cls.of(settled)

    @property
    def size(self) -> int:
        """Sides of the images in pixels, those of the networks or more. Raises UserError."""
        return self._size

    @size.setter
    def size(self, size: int) -> None:
        kind = self.generator.kind
        if not isinstance(size, int) or not suits(kind, size, self.side):
            more = " or more" if kind.changes_input else ""
            raise UserError(f"the size of images for these networks is {self.side}{more}: {size!r}")
        self._size = size

    def seen(self, images: Tensor) -> Tensor:
        """Images as the networks see them: larger ones by means over areas."""
        if images.shape[-1] <= self.side:
            return images
        return F.interpolate(images, size=(self.side, self.side), mode="area")

    def translate(self, images: Tensor) -> Translations:
        """Translate images (B, 1, S, S) in [-1, 1] into healthy ones.

        Where networks come after others, an image is translated by those whose result the first
        discriminator doubts less. What it takes for healthy, before and after, stays the first's:
        there either result is as good, but the mean of a flow's map is larger than of a layer's.
        """
        images = images.to(self.device, memory_format=torch.channels_last)
        healthy, flow = self.into(images, HEALTHY)
        probability = self.classify(images)
        difference = self.generator.kind.difference(images, healthy)
        score_map = self.reading.score_map(difference, images, probability[:, None])
        score = self.reading.anomaly_score(difference)[:, 0]
        ours = Translations(images, healthy, difference, probability, flow, score_map, score)
        if self.first is None:
            return ours
        self.first.amp = self.amp
        theirs = self.first.translate(images)
        doubts = [self.first.suspicion(x.healthy) for x in (theirs, ours)]
        stays = (doubts[0] < 0) & (theirs.probability <= 0.5)
        kept = stays | (doubts[0] <= doubts[1])
        return join(theirs, ours, kept, self.unit)

    def suspicion(self, images: Tensor) -> Tensor:
        """How far a compact discriminator is from taking images for real healthy ones, (B,).

        The sum of two logits, each the mean over the exits: of disease, and of being a fake. So 0
        is undecided.
        """
        with evaluating(self.discriminator), autocast(self.device, self.amp):
            verdict = self.discriminator(self.seen(images))
        return (verdict.disease + verdict.fakeness[..., HEALTHY]).mean(dim=0)

    def made_healthy(self, dataset: ImageDataset, batch_size: int, chosen: Tensor) -> Tensor:
        """Whether the translations of images of a split pass for healthy: bool (N,).

        Of the indices ``chosen`` (N,). Nothing else is made of them, such as score maps.
        """
        passed = []
        for images, *_ in load(dataset, list(chosen.split(batch_size))):
            images = images.to(self.device, memory_format=torch.channels_last)
            passed.append(self.suspicion(self.into(images, HEALTHY)[0]).cpu() < 0)
        return torch.cat(passed)

    def into(self, images: Tensor, target: Tensor | int) -> tuple[Tensor, Tensor | None]:
        """Translations (B, 1, S, S) into a class, or each into its own, and the flow.

        The flow's component along a flipped axis changes its sign with the flip.
        """
        kind, number = self.generator.kind, len(self.flips)
        turned = torch.cat([images.flip(axes) for axes in self.flips])
        targets = target if isinstance(target, int) else target.repeat(number)
        drawn = self.draw(self.seen(turned), targets)
        translated = self.mean_over_flips(kind.apply(turned, drawn))
        if not kind.flow:
            return translated, None
        flow = upsample(kind.flow(drawn), images.shape[-2:])
        signs = [[-1.0 if axis in axes else 1.0 for axis in (3, 2)] for axes in self.flips]
        signs = flow.new_tensor(signs).repeat_interleave(len(images), dim=0)
        return translated, self.mean_over_flips(flow * signs[:, :, None, None])

    def draw(self, images: Tensor, target: Tensor | int) -> Tensor:
        """What the generator draws (B, C, h, w) of the flips of a batch, in several passes.

        The flips of a few images are one pass; no pass is larger than CHUNK and the batch itself.
        """
        size = max(CHUNK, len(images) // len(self.flips))
        parts = images.split(size)
        targets = [target] * len(parts) if isinstance(target, int) else target.split(size)
        with evaluating(self.generator), autocast(self.device, self.amp):
            drawn = [self.generator.draw(*part) for part in zip(parts, targets, strict=True)]
        return torch.cat(drawn).to(images.dtype)

    def mean_over_flips(self, turned: Tensor) -> Tensor:
        """The mean of images that were flipped one way after the other, flipped back."""
        parts = zip(turned.chunk(len(self.flips)), self.flips, strict=True)
        return sum(part.flip(axes) for part, axes in parts) / len(self.flips)

    def classify(self, images: Tensor) -> Tensor:
        """Probability of disease (B,) of images (B, 1, S, S) on the device.

        In double, so that images of which the classifier is sure are not all alike.
        """
        with evaluating(self.discriminator), autocast(self.device, self.amp):
            logits = self.discriminator.classifier(self.discriminator.encode(self.seen(images)))
        return logits.double().softmax(dim=1)[:, DISEASED]

    def translate_split(
        self,
        dataset: ImageDataset,
        batch_size: int,
        workers: int = 0,
        chosen: Tensor | None = None,
    ) -> Iterator[tuple[Translations, Tensor, Tensor]]:
        """Images of a split, in order, in batches, with their ground truth and classes.

        All of them, or those of the indices ``chosen`` (N,).
        """
        indices = torch.arange(len(dataset)) if chosen is None else chosen
        batches = list(indices.split(batch_size))
        for images, truth, classes in load(dataset, batches, workers):
            yield self.translate(images), truth, classes

    def __call__(self, array: np.ndarray | Tensor) -> Result:
        """Translate an image (H, W), or several (B, H, W), of any size, type and range.

        The numbers are those that ``main.py --mode predict`` writes. Raises UserError (a
        ValueError) for other shapes, NaN or infinity, and constant images.
        """
        if isinstance(array, Tensor):  # NumPy has no bfloat16
            array = array.detach().cpu()
            array = array.double() if array.is_floating_point() else array
        array = np.asarray(array)
        images = check_images(array)
        results: list[Result] = []
        for start in range(0, len(images), CHUNK):
            results += self.translate_pictures(
                [Picture("", image) for image in images[start : start + CHUNK]]
            )
        if array.ndim == 2:
            return results[0]
        columns = {}
        for name in (field.name for field in fields(Result) if field.name != "slice"):
            values = [getattr(result, name) for result in results]
            columns[name] = None if values[0] is None else np.stack(values)
        return Result(**columns)

    def as_input(self, pictures: Sequence[Picture]) -> Tensor:
        """Pictures, each of its own size, as the networks take them: (B, 1, S, S)."""
        scaling = self.preprocessing.scaling
        return torch.stack([as_input(picture, self.size, scaling) for picture in pictures])

    def translate_pictures(self, pictures: Sequence[Picture]) -> list[Result]:
        """Translate pictures, each of its own size; results are of that size."""
        images, nothing = self.as_input(pictures), [None] * len(pictures)
        batch = self.translate(images)
        columns = [x[:, 0].cpu().numpy() for x in (batch.healthy, batch.difference)]
        columns += [batch.probability.tolist(), batch.score.tolist()]
        columns.append(nothing if batch.flow is None else list(batch.flow.cpu().numpy()))
        columns += [batch.score_map[:, 0].cpu().numpy(), nothing]  # masks are of the input's size
        likeness = self.likeness
        columns.append(nothing if likeness is None else likeness.is_unlike(self.seen(images)))
        columns.append([picture.name for picture in pictures])
        results = [
            at_size(Result(*values), *picture.image.shape)
            for *values, picture in zip(*columns, pictures, strict=True)
        ]
        return [self.with_mask(result) for result in results]

    def with_mask(self, result: Result) -> Result:
        """A result of the input's size with the mask, and the score map that it is drawn from.

        Its score map is still that of the networks' size: what is blurred is so there, then
        resized; else the resized difference is read.
        """
        if self.reading.diffusion or self.first is not None:
            score_map = unfit(result.score_map, *result.healthy.shape)
        else:
            score_map = read(result.difference, self.reading.sign)
        return replace(result, score_map=score_map, mask=self.reading.mask(score_map))

    def predict(self, source: str | Path) -> Iterator[tuple[Path, Result]]:
        """The results of an image file, or one by one of all image files below a folder.

        A file of several pictures (a NIfTI volume, a multi-frame DICOM, a TIFF of several pages)
        gives a result for each, whose ``slice`` says which; they are scaled by one range, as are
        the files of a DICOM series. Raises UserError where there is no file, or at one that cannot
        be read.
        """
        paths = find_files(Path(source))
        spans = spans_of_series(paths, self.preprocessing.scaling)
        for path in paths:
            pictures = read_pictures(path, self.preprocessing, spans.get(path))
            for start in range(0, len(pictures), CHUNK):
                for result in self.translate_pictures(pictures[start : start + CHUNK]):
                    yield path, result


def at_size(result: Result, height: int, width: int) -> Result:
    """A result of the networks' square size, but its score map, at that of its image."""
    healthy, difference = (unfit(x, height, width) for x in (result.healthy, result.difference))
    flow = result.flow
    if flow is not None:
        # In one unit of [-1, 1], which spans the centres of the pixels that the networks see.
        pixels = max(height, width) * (1 - 1 / flow.shape[-1]) / 2
        flow = np.stack([unfit(component, height, width) for component in flow]) * pixels
    return replace(result, healthy=healthy, difference=difference, flow=flow)


def check_images(array: np.ndarray) -> np.ndarray:
    """An array as images (B, H, W), uint8 or float32, as those of a file are read.

    Values beyond +-NO_DATA become the smallest of the others. Raises UserError for what is none.
    """
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise UserError(f"an array of shape {array.shape} is no image (H, W) and no (B, H, W)")
    if array.ndim == 3 and array.shape[-1] <= 4:
        raise UserError(
            f"an array of shape {array.shape} looks like one image in colour: "
            "pass its grey values (H, W), or images as (B, H, W)"
        )
    if array.dtype.kind not in "biuf":
        raise UserError(f"an array of {array.dtype} holds no real numbers: pass uint8 or float")
    images = array.reshape(-1, *array.shape[-2:])
    if not np.isfinite(images).all():
        raise UserError("the image holds NaN or infinity: mend it before it is translated")
    try:
        images = np.stack([without_no_data(image) for image in images])
    except ValueError:
        raise UserError(f"the image holds no data: all of it is beyond +-{NO_DATA:g}") from None
    images = images if images.dtype == np.uint8 else images.astype(np.float32)
    if any(image.min() == image.max() for image in images):
        raise UserError("the image is constant: there is nothing in it to translate")
    return images


def averaged_flips(options: Options) -> list[list[int]]:
    """The flips that translations are averaged over: none, or all that training draws from."""
    flip = options.flip if options.average_flips else "none"
    return all_flips({"none": (), "horizontal": (3,), "both": (2, 3)}[flip])


def all_flips(axes: Sequence[int]) -> list[list[int]]:
    """Every choice of axes of (B, C, H, W) to flip along, none of them first."""
    return [list(chosen) for n in range(len(axes) + 1) for chosen in combinations(axes, n)]
