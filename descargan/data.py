"""Find, read and batch the two groups of images.

Layout: ROOT/{train,validate,test}/{healthy class, other class}/image files, folder names in any
case. Images come out as float32 (1, H, W) in [-1, 1].
"""

import hashlib
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from descargan import DISEASED, HEALTHY
from descargan.errors import UserError

SUFFIXES = {
    "Synthetic": (".npy",),
    "Chexpert": (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".npy"),
}
HEALTHY_NAMES = frozenset(
    {"healthy", "healthy control", "healthy controls", "control", "controls"}
    | {"normal", "normals", "no finding", "no findings"}
)
STORED_RANGE = 1.5  # Synthetic images within +- this keep the unit of their pair
CACHE_BYTES = 2 << 30


class ImageDataset(Dataset):
    """One split: images (1, H, W), their classes and, for Synthetic, their ground truth.

    Splits of up to 2 GiB are read once and kept in memory, as uint8 where the files hold 8 bits.
    ``dataset[indices]`` gives a batch; iterate with :func:`load`. Raises UserError that names the
    folder or file at fault.
    """

    def __init__(
        self, kind: str, root: Path, split: str, image_size: int, healthy_class: str | None = None
    ) -> None:
        self.kind = kind
        self.image_size = image_size
        self.paths, self.classes = find_images(root, split, SUFFIXES[kind], healthy_class)
        self.root = self.paths[0].parents[2]
        first = self.read(0)
        self.cache = None
        if first.nbytes * len(self) <= CACHE_BYTES:
            arrays = [self.read(i) for i in range(len(self))]
            self.cache = torch.from_numpy(np.stack(arrays))

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """The path of an image under the data folder."""
        return self.paths[index].relative_to(self.root).as_posix()

    def read(self, index: int) -> np.ndarray:
        """Image ``index`` as stored: (1 or 2, H, W), uint8 or float32, of ``image_size``."""
        path = self.paths[index]
        array = read_image(path)
        if self.kind == "Synthetic":
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
        if self.kind == "Synthetic":
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


def range_scaling(images: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and offset (B, 1, 1, 1) that take each image of (B, C, H, W) to [-1, 1].

    A constant image goes to 0.
    """
    low, high = (f(images, dim=(1, 2, 3), keepdim=True) for f in (torch.amin, torch.amax))
    constant = high == low
    slope = torch.where(constant, 0.0, 2 / (high - low).where(~constant, 1.0))
    return slope, torch.where(constant, 0.0, -1 - low * slope)


def scale_to_range(images: Tensor) -> Tensor:
    """Each image of (B, C, H, W) by its own minimum and maximum to [-1, 1]: ``n`` of the paper."""
    slope, offset = range_scaling(images)
    return images * slope + offset


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


def find_split(root: Path, split: str) -> Path:
    """The folder of a split, in any case."""
    if not root.is_dir():
        raise UserError(f"{root} is no folder: pass the data set's to --dataset-path")
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


def read_image(path: Path) -> np.ndarray:
    """An image file as (1, H, W), or (2, H, W) with ground truth, uint8 or float32 and finite."""
    try:
        array = read_npy(path) if path.suffix.lower() == ".npy" else read_picture(path)
    except UserError:
        raise
    except Exception as error:  # decoders raise anything on broken files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} cannot be read as an image: {reason}") from error
    if array.size == 0 or not np.isfinite(array).all():
        problem = "is empty" if array.size == 0 else "holds NaN or infinity"
        raise UserError(f"{path} {problem}: mend or remove it")
    return array


def read_npy(path: Path) -> np.ndarray:
    array = np.load(path, allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise UserError(f"{path} holds no array of real numbers: write one of float32")
    shape = array.shape
    if array.ndim == 2:
        array = array[None]
    elif array.ndim == 3 and shape[0] not in (1, 2) and shape[2] == 1:
        array = array.transpose(2, 0, 1)
    if array.ndim != 3 or array.shape[0] not in (1, 2):
        raise UserError(
            f"{path} has shape {shape}: (H, W), (1, H, W), (H, W, 1) or (2, H, W) are read"
        )
    return np.ascontiguousarray(array, dtype=None if array.dtype == np.uint8 else np.float32)


def read_picture(path: Path) -> np.ndarray:
    """A picture as greyscale (1, H, W), uint8, or float32 where it holds more than 8 bits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd tags, say; what matters is an error
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path) as picture:
            if getattr(picture, "n_frames", 1) > 1:
                raise UserError(f"{path} holds {picture.n_frames} pictures: save one per file")
            if picture.mode.startswith(("I", "F")):
                return np.asarray(picture, dtype=np.float32)[None]
            if picture.mode == "P":
                picture = picture.convert("RGB")
            return np.asarray(picture.convert("L"))[None]


def fit(array: np.ndarray, size: int) -> np.ndarray:
    """(1, H, W) padded to a square with its minimum, then resized to (1, size, size), antialiased.

    Padding keeps what lies at the border (an effusion does); nothing is cut or distorted.
    """
    height, width = array.shape[-2:]
    rows, columns = padding(height, width)
    if rows != (0, 0) or columns != (0, 0):
        array = np.pad(array, ((0, 0), rows, columns), constant_values=array.min())
    if array.shape[-1] == size:
        return array
    resized = Image.fromarray(array[0]).resize((size, size), Image.BICUBIC)
    return np.asarray(resized)[None]


def unfit(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """What :func:`fit` did, undone: (S, S) to float32 (height, width)."""
    side = max(height, width)
    picture = Image.fromarray(np.ascontiguousarray(image, dtype=np.float32))
    resized = np.asarray(picture.resize((side, side), Image.BICUBIC))
    (top, _), (left, _) = padding(height, width)
    return resized[top : top + height, left : left + width]


def padding(height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Pixels (before, after) in rows and columns that make an image square."""
    side = max(height, width)
    return tuple(((side - n) // 2, side - n - (side - n) // 2) for n in (height, width))


def random_stream(*key: int) -> int:
    """A seed that is a function of ``key`` alone, well apart for neighbouring keys."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def shuffled_batches(length: int, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """Indices of the batches of an epoch: a function of the seed and the epoch alone."""
    stream = torch.Generator().manual_seed(random_stream(seed, 0, epoch))
    return list(torch.randperm(length, generator=stream).split(batch_size))


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
        raise UserError(str(error).strip().rsplit("UserError: ", 1)[-1]) from None


def as_it_is(batch: object) -> object:
    return batch
