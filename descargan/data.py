"""The images of a split as batches: float32 (B, 1, H, W) in [-1, 1], classes, ground truth."""

import copy
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from descargan import CLASS_NAMES, DISEASED, HEALTHY, metrics
from descargan.commands import command
from descargan.errors import FileError, UserError, warn
from descargan.images import fit, range_scaling, read_image
from descargan.kinds import KINDS
from descargan.layout import find_images, find_masks, is_in_one_unit, read_patients
from descargan.masks import fit_mask, read_mask
from descargan.options import Options
from descargan.scaling import intensity_range, scale

STORED_RANGE = 1.5  # prepared images within +- this keep the unit of their pair
CACHE_BYTES = 2 << 30
FEW = 20  # images of a class in a split
BATCHES = 200  # of an epoch in which images are drawn with replacement
SAMPLES, SAMPLE_BYTES = 16, 4096  # of a file, for its fingerprint
# Whether brightness tells a class: images of it that are asked, the AUROC from which on it does,
# and the corners that are asked too, a share of the side.
LEAST, LOOKED_AT = 50, 500
TELLING = 0.7
CORNER = 1 / 4
PARTS = ("image", *(f"{y} {x} corner" for y in ("upper", "lower") for x in ("left", "right")))


class ImageDataset(Dataset):
    """One split: images (1, H, W), their classes and, where there is one, their ground truth.

    The ground truth is the difference to the healthy counterpart, stored in the same file, or a
    mask of 0 and 1 (``has_masks``); diseased images alone have one, whatever is stored of others.
    ``patients`` (N,) are numbers: images of one patient share theirs, see :func:`number_patients`.
    Splits of up to 2 GiB are read once and kept in memory, as uint8 where the files hold 8 bits.
    ``dataset[indices]`` gives a batch; iterate with :func:`load`. Raises UserError that names the
    folder or file at fault.
    """

    def __init__(
        self,
        kind: str,
        root: Path,
        split: str,
        image_size: int,
        healthy_class: str | None = None,
        scaling: str = "minmax",
    ) -> None:
        self.kind, self.image_size, self.scaling = KINDS[kind], image_size, scaling
        self.split = split
        self.paths, classes = find_images(root, split, self.kind, healthy_class)
        self.classes = torch.tensor(classes)
        self.root = self.paths[0].parents[2]
        self.patients = number_patients(self.root, self.paths)
        self.in_one_unit = not self.kind.prepared and is_in_one_unit(root, scaling)
        # Training never sees an outline.
        wanted = split != "train" and not self.kind.prepared
        masks = find_masks(root, split, self.paths) if wanted else {}
        self.masks = {i: path for i, path in masks.items() if classes[i] == DISEASED}
        self.has_masks = bool(self.masks)
        last = read_image(self.paths[-1])  # a diseased one
        self.shape = last.shape[-2:]  # of its file
        self.has_truth = self.has_masks or (self.kind.prepared and len(last) == 2)
        first = self.read(0)
        self.cache = None
        if first.nbytes * len(self) <= CACHE_BYTES:
            arrays = [self.read(i) for i in range(len(self))]
            self.cache = torch.from_numpy(np.stack(arrays))

    @classmethod
    def open(cls, options: Options, split: str) -> "ImageDataset":
        """A split of the data set that the options name."""
        root = options.dataset_path
        if options.dataset == "Synthetic" and not root.exists():
            size = "--image-size", options.image_size
            making = command("create_synthetic_dataset.py", *size, "--output", root)
            raise FileError(
                f"{root} does not exist: make the data set with '{making}', or pass another "
                "--dataset-path"
            )
        settings = options.healthy_class, options.scaling
        return cls(options.dataset, root, split, options.image_size, *settings)

    def only(self, indices: Tensor) -> "ImageDataset":
        """The same split without its other images; what is in memory is not read again."""
        part, places = copy.copy(self), indices.tolist()
        part.paths, part.classes = [self.paths[i] for i in places], self.classes[indices]
        part.patients = self.patients[places]
        part.masks = {n: self.masks[i] for n, i in enumerate(places) if i in self.masks}
        part.cache = None if self.cache is None else self.cache[indices]
        return part

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """The path of an image under the data folder."""
        return self.paths[index].relative_to(self.root).as_posix()

    def read(self, index: int) -> np.ndarray:
        """Image ``index`` as stored: (1 or 2, H, W), uint8 or float32, of ``image_size``."""
        path, size = self.paths[index], self.image_size
        array = read_image(path)
        if self.kind.prepared:
            if array.shape[-2:] != (size, size):
                raise UserError(
                    f"{path} is {array.shape[-2]} x {array.shape[-1]} pixels, "
                    f"not {size} x {size}: pass its size to --image-size; a test needs images of "
                    "the size of its networks, or larger ones where these draw a change"
                )
            if len(array) == 1 or self.classes[index] == HEALTHY:  # none is known, or there is none
                array = np.concatenate([array[:1], np.zeros_like(array[:1])])
            return array
        image = fit(array[:1], size)
        if self.scaling != "minmax" and not self.in_one_unit:
            image = scale(image, *intensity_range(array[:1], self.scaling))
        if not self.has_masks:
            return image
        return np.concatenate([image, self.read_mask(index, array.shape[-2:]).astype(image.dtype)])

    def read_mask(self, index: int, size: tuple[int, int]) -> np.ndarray:
        """The mask of an image of ``size``, as bool (1, S, S); empty where it has none."""
        if index not in self.masks:
            return np.zeros((1, self.image_size, self.image_size), bool)
        mask = read_mask(self.masks[index])
        if mask.shape != size:
            raise FileError(
                f"{self.masks[index]} is {mask.shape[0]} x {mask.shape[1]} pixels, its image "
                f"{size[0]} x {size[1]}: a mask has the size of its image"
            )
        return fit_mask(mask, self.image_size)[None]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, 1, H, W), ground truth (B, 1, H, W; all 0 where none is stored), classes (B,).

        A difference is in the unit of its image: scaling the image applies its slope to it.
        """
        index = torch.as_tensor(indices)
        if self.cache is None:
            stored = torch.from_numpy(np.stack([self.read(int(i)) for i in index]))
        else:
            stored = self.cache[index]
        images, truth = stored[:, :1].float(), stored[:, 1:].float()
        if not truth.numel():
            truth = torch.zeros_like(images)
        if self.in_one_unit:
            images = images * (2 / 255) - 1 if stored.dtype == torch.uint8 else images
            return images.clamp(-1, 1), truth, self.classes[index]
        if self.scaling != "minmax" and not self.kind.prepared:
            return images, truth, self.classes[index]
        slope, offset = range_scaling(images)
        if self.kind.prepared:
            kept = images.abs().amax(dim=(1, 2, 3), keepdim=True) <= STORED_RANGE
            slope, offset = slope.where(~kept, 1.0), offset.where(~kept, 0.0)
        images = images * slope + offset
        return images, truth if self.has_masks else truth * slope, self.classes[index]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        images, truth, classes = self.__getitems__([index])
        return images[0], truth[0], classes[0]

    def fingerprint(self) -> str:
        """SHA-256 over the names and sizes of the files: tells one data set from another."""
        digest = hashlib.sha256()
        for index, path in enumerate(self.paths):
            digest.update(
                f"{self.name(index)} {path.stat().st_size}\n".encode(errors="surrogateescape")
            )
        description = self.root / "dataset.json"
        if description.is_file():
            digest.update(description.read_bytes())
        return digest.hexdigest()

    def content_fingerprint(self) -> str:
        """SHA-256 over the files' bytes, or over 64 KiB spread evenly through each larger one."""
        digest = hashlib.sha256()
        for path in self.paths:
            with path.open("rb") as file:
                size = path.stat().st_size
                if size <= SAMPLES * SAMPLE_BYTES:
                    digest.update(file.read())
                    continue
                for start in np.linspace(0, size - SAMPLE_BYTES, SAMPLES).astype(int):
                    file.seek(start)
                    digest.update(file.read(SAMPLE_BYTES))
        return digest.hexdigest()


def number_patients(root: Path, images: list[Path]) -> np.ndarray:
    """A number for the patient of each image (N,); one for each image where none has several.

    So too where the data set does not say who they are, see :func:`read_patients`.
    """
    patients = read_patients(root, images)
    if len(set(patients)) == len(patients):
        return np.arange(len(images))
    return np.unique(patients, return_inverse=True)[1]


def warn_of_few(dataset: ImageDataset, split: str) -> None:
    """Name the classes of which a split holds few images."""
    numbers = {name: int((dataset.classes == c).sum()) for c, name in enumerate(CLASS_NAMES)}
    few = " and ".join(f"{n} {name}" for name, n in numbers.items() if n < FEW)
    if few:
        warn(f"split '{split}' holds {few} images: fewer than {FEW} say little")


def warn_of_brightness(dataset: ImageDataset) -> None:
    """Say where the mean of an image, or of one of its corners, alone tells its class.

    By the AUROC of up to LOOKED_AT images of each; nothing is said of fewer than LEAST.
    """
    chosen = torch.tensor(evenly_spread(dataset, LOOKED_AT, LOOKED_AT))
    labels = dataset.classes[chosen].numpy()
    if np.bincount(labels, minlength=2).min() < LEAST:
        return
    batches = load(dataset, list(chosen.split(LEAST)))
    means = torch.cat([means_of_parts(images) for images, *_ in batches]).numpy()
    areas = {
        name: metrics.auroc(labels, column) for name, column in zip(PARTS, means.T, strict=True)
    }
    name, area = max(areas.items(), key=lambda item: abs(item[1] - 0.5))
    told = max(area, 1 - area)
    if told >= TELLING:
        warn(
            f"the mean of the {name} alone tells the class (AUROC {told:.2f}): "
            f"{CLASS_NAMES[int(area > 0.5)]} training images are brighter there. Unless that is "
            "the disease, networks learn it and maps show it: see 'What a shortcut looks like' in "
            "docs/choosing.md"
        )


def means_of_parts(images: Tensor) -> Tensor:
    """The means (B, 5) of images (B, 1, H, W) and of their corners, as PARTS names them."""
    parts = images, *corners(images)
    return torch.stack([part.mean((1, 2, 3)) for part in parts], dim=1)


def corners(images: Tensor | np.ndarray) -> list[Tensor | np.ndarray]:
    """The four corners of square images (..., S, S), as PARTS names them after the image."""
    side = int(CORNER * images.shape[-1])
    ends = slice(side), slice(-side, None)
    return [images[..., y, x] for y in ends for x in ends]


def random_flips(images: Tensor, horizontal: bool, vertical: bool) -> Tensor:
    """Flip each image (B, C, H, W) left-right and up-down, each with probability 1/2."""
    for wanted, axis in ((horizontal, 3), (vertical, 2)):
        if wanted:
            chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
            images = torch.where(chosen, images.flip(axis), images)
    return images


def random_stream(*key: int) -> int:
    """A seed that is a function of ``key`` alone, well apart for neighbouring keys."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def shuffled_batches(classes: Tensor, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """Indices of the batches of an epoch, each of the images (N,) once: by seed and epoch alone."""
    stream = torch.Generator().manual_seed(random_stream(seed, 0, epoch))
    return list(torch.randperm(len(classes), generator=stream).split(batch_size))


def balanced_batches(classes: Tensor, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """Indices of BATCHES batches with as many images of either class, drawn with replacement.

    So an epoch is as long for any data set. Classes take turns through all of it, diseased first:
    of an odd size, every second batch begins with healthy. Processes share a batch: of an even one,
    each of two sees one class. A function of the arguments alone.
    """
    stream = torch.Generator().manual_seed(random_stream(seed, 0, epoch))
    turns = torch.arange(BATCHES * batch_size) % 2
    indices = torch.empty_like(turns)
    for c, turn in ((DISEASED, 0), (HEALTHY, 1)):
        members = (classes == c).nonzero().flatten()
        places = turns == turn
        drawn = torch.randint(len(members), (int(places.sum()),), generator=stream)
        indices[places] = members[drawn]
    return list(indices.split(batch_size))


# By --batches: indices of an epoch by classes (N,), batch size, seed and epoch.
BATCHES_OF = {"shuffled": shuffled_batches, "balanced": balanced_batches}


def load(
    dataset: ImageDataset, batches: list[Tensor], workers: int = 0, pin: bool = False
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The batches as (images, ground truth, classes); files are read by ``workers`` processes."""
    loader = DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=as_it_is,
        num_workers=0 if dataset.cache is not None else workers,
        pin_memory=pin,
    )
    try:
        yield from loader
    except UserError as error:
        # That of a worker comes with its traceback as text; the sentence stands at the end.
        raise type(error)(re.split(r"\b(?:User|File)Error: ", str(error).strip())[-1]) from None


def as_it_is(batch: object) -> object:
    return batch


def evenly_spread(dataset: ImageDataset, diseased: int, healthy: int = 1) -> list[int]:
    """Indices of a few diseased images of a split, then of healthy ones, evenly spread."""
    indices = []
    for c, number in ((DISEASED, diseased), (HEALTHY, healthy)):
        members = (dataset.classes == c).nonzero().flatten().tolist()
        chosen = np.linspace(0, len(members) - 1, min(number, len(members)))
        indices += [members[round(i)] for i in chosen]
    return indices
