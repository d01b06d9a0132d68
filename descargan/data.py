"""Find, read and batch the two groups of images.

Layout: ROOT/{train,validate,test}/{healthy class, other class}/image files, folder names in any
case. Images come out as float32 (1, H, W) in [-1, 1].
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from descargan import DISEASED, HEALTHY
from descargan.errors import FileError, UserError
from descargan.images import fit, range_scaling, read_image
from descargan.kinds import KINDS, PICTURES
from descargan.options import Options

HEALTHY_NAMES = frozenset(
    {"healthy", "healthy control", "healthy controls", "control", "controls"}
    | {"normal", "normals", "no finding", "no findings"}
)
STORED_RANGE = 1.5  # Synthetic images within +- this keep the unit of their pair
CACHE_BYTES = 2 << 30
BATCHES = 200  # of an epoch in which images are drawn with replacement


class ImageDataset(Dataset):
    """One split: images (1, H, W), their classes and, where files hold it, their ground truth.

    Splits of up to 2 GiB are read once and kept in memory, as uint8 where the files hold 8 bits.
    ``dataset[indices]`` gives a batch; iterate with :func:`load`. Raises UserError that names the
    folder or file at fault.
    """

    def __init__(
        self, kind: str, root: Path, split: str, image_size: int, healthy_class: str | None = None
    ) -> None:
        self.kind = KINDS[kind]
        self.image_size = image_size
        self.paths, self.classes = find_images(root, split, self.kind.suffixes, healthy_class)
        self.root = self.paths[0].parents[2]
        first = self.read(0)
        self.cache = None
        if first.nbytes * len(self) <= CACHE_BYTES:
            arrays = [self.read(i) for i in range(len(self))]
            self.cache = torch.from_numpy(np.stack(arrays))
        last = read_image(self.paths[-1])  # a diseased one
        self.has_truth = self.kind.prepared and len(last) == 2

    @classmethod
    def open(cls, options: Options, split: str) -> "ImageDataset":
        """A split of the data set that the options name."""
        root = options.dataset_path
        if options.dataset == "Synthetic" and not root.exists():
            raise FileError(
                f"{root} does not exist: make the data set with "
                f"'python create_synthetic_dataset.py --output {root}', "
                "or pass another --dataset-path"
            )
        return cls(options.dataset, root, split, options.image_size, options.healthy_class)

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """The path of an image under the data folder."""
        return self.paths[index].relative_to(self.root).as_posix()

    def read(self, index: int) -> np.ndarray:
        """Image ``index`` as stored: (1 or 2, H, W), uint8 or float32, of ``image_size``."""
        path = self.paths[index]
        array = read_image(path)
        if self.kind.prepared:
            if array.shape[-2:] != (self.image_size, self.image_size):
                raise UserError(
                    f"{path} is {array.shape[-2]} x {array.shape[-1]} pixels, "
                    f"not {self.image_size} x {self.image_size}: pass its size to --image-size"
                )
            if len(array) == 1:  # no ground truth stored: none is known, unless healthy
                array = np.concatenate([array, np.zeros_like(array)])
            return array
        return fit(array[:1], self.image_size)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, 1, H, W), ground truth (B, 1, H, W; all 0 where none is stored), classes (B,).

        Both are in the same unit: scaling an image applies its slope to the ground truth.
        """
        index = torch.as_tensor(indices)
        if self.cache is None:
            stored = torch.from_numpy(np.stack([self.read(int(i)) for i in index]))
        else:
            stored = self.cache[index]
        images, truth = stored[:, :1].float(), stored[:, 1:].float()
        if not truth.numel():
            truth = torch.zeros_like(images)
        slope, offset = range_scaling(images)
        if self.kind.prepared:
            kept = images.abs().amax(dim=(1, 2, 3), keepdim=True) <= STORED_RANGE
            slope, offset = slope.where(~kept, 1.0), offset.where(~kept, 0.0)
        return images * slope + offset, truth * slope, self.classes[index]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        images, truth, classes = self.__getitems__([index])
        return images[0], truth[0], classes[0]

    def fingerprint(self) -> str:
        """SHA-256 over the names and sizes of the files: tells one data set from another."""
        digest = hashlib.sha256()
        for index, path in enumerate(self.paths):
            digest.update(f"{self.name(index)} {path.stat().st_size}\n".encode())
        description = self.root / "dataset.json"
        if description.is_file():
            digest.update(description.read_bytes())
        return digest.hexdigest()


def random_flips(images: Tensor, horizontal: bool, vertical: bool) -> Tensor:
    """Flip each image (B, C, H, W) left-right and up-down, each with probability 1/2."""
    for wanted, axis in ((horizontal, 3), (vertical, 2)):
        if wanted:
            chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
            images = torch.where(chosen, images.flip(axis), images)
    return images


def find_images(
    root: Path, split: str, suffixes: Iterable[str], healthy_class: str | None = None
) -> tuple[list[Path], Tensor]:
    """Paths of a split, sorted within healthy then diseased, and their classes (N,)."""
    folder = find_split(root, split)
    healthy, diseased = class_folders(folder, healthy_class)
    paths, classes = [], []
    for c, directory in ((HEALTHY, healthy), (DISEASED, diseased)):
        found = sorted(
            path
            for path in directory.iterdir()
            if path.suffix.lower() in suffixes and not path.name.startswith(".")
        )
        if not found:
            raise UserError(
                f"{directory} holds no image ({', '.join(suffixes)}): both classes need some"
            )
        paths += found
        classes += [c] * len(found)
    return paths, torch.tensor(classes)


def find_files(source: Path) -> list[Path]:
    """A file itself, or the images below a folder. Raises UserError where there is none."""
    if source.is_file():
        return [source]
    found = sorted(p for p in source.rglob("*") if p.suffix.lower() in PICTURES and p.is_file())
    if not found:
        problem = f"holds no image ({', '.join(PICTURES)})" if source.is_dir() else "does not exist"
        raise FileError(f"{source} {problem}: pass a file or a folder to --input")
    return found


def find_split(root: Path, split: str) -> Path:
    """The folder of a split, in any case."""
    if not root.is_dir():
        raise FileError(f"{root} is no folder: pass the data set's to --dataset-path")
    names = {"validate": ("validate", "validation", "valid", "val")}.get(split, (split,))
    found = [p for p in subfolders(root) if p.name.lower() in names]
    if len(found) != 1:
        problem = "has no folder" if not found else "has several folders for"
        raise UserError(f"{root} {problem} '{split}': it needs one each of train, validate, test")
    return found[0]


def class_folders(folder: Path, healthy_class: str | None) -> tuple[Path, Path]:
    """The folders of the healthy and of the diseased class, told apart by name."""
    folders = subfolders(folder)
    names = ", ".join(repr(p.name) for p in folders) or "none"
    if len(folders) != 2:
        raise UserError(f"{folder} must hold two class folders; it holds {names}")
    wanted = HEALTHY_NAMES if healthy_class is None else {canonical(healthy_class)}
    matches = [canonical(p.name) in wanted for p in folders]
    if sum(matches) != 1:
        raise UserError(
            f"{folder} holds the class folders {names}: name the healthy one with --healthy-class"
        )
    return (folders[0], folders[1]) if matches[0] else (folders[1], folders[0])


def canonical(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


def subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def random_stream(*key: int) -> int:
    """A seed that is a function of ``key`` alone, well apart for neighbouring keys."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def shuffled_batches(length: int, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """Indices of the batches of an epoch: a function of the seed and the epoch alone."""
    stream = torch.Generator().manual_seed(random_stream(seed, 0, epoch))
    return list(torch.randperm(length, generator=stream).split(batch_size))


def balanced_batches(classes: Tensor, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """Indices of BATCHES batches with as many images of either class, drawn with replacement.

    So an epoch is as long for any data set. Classes take turns in a batch, diseased first, so that
    processes which share it get both. A function of the arguments alone.
    """
    stream = torch.Generator().manual_seed(random_stream(seed, 0, epoch))
    turns = torch.arange(batch_size) % 2
    batches = torch.empty(BATCHES, batch_size, dtype=torch.long)
    for c, turn in ((DISEASED, 0), (HEALTHY, 1)):
        members = (classes == c).nonzero().flatten()
        places = (turns == turn).nonzero().flatten()
        drawn = torch.randint(len(members), (BATCHES, len(places)), generator=stream)
        batches[:, places] = members[drawn]
    return list(batches)


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
