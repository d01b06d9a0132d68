"""Weights and training states on disk: the one place where they are written and read.

Everything is written to a temporary file and renamed, so that a file is old or new, never half.
Beside each file stands its checksum, ``FILE.sha256``. Everything is read with
``weights_only=True``: tensors and plain values, never arbitrary objects.
"""

import contextlib
import hashlib
import io
import json
import pickle
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from descargan.errors import FileError, UserError, warn
from descargan.files import (
    remove_halves,
    without_nan,
    write_atomically,
    write_json_lines,
    write_lines,
)
from descargan.kinds import KINDS
from descargan.models import SIZE_MULTIPLE

STATE_VERSION = 1
PREVIOUS = ".previous"
RECORDED = {"kind", "iteration", "epoch"}  # in every line of a metrics history
CANDIDATES = ("layer", "fine-deformation")  # the kinds of map that --translation auto chooses from

# Our module names, by those of the official weights ("g" and "k": gesund and krank, German for
# healthy and diseased). There, a block after upsampling is (upsample, convolution), batch norm.
OFFICIAL_NAMES = (
    (r"^up(\d)\.0\.1\.", r"up\1.0."),
    (r"^conv5\.", "merge2."),
    (r"^conv6\.", "merge1."),
    (r"^conv7_g\.", "heads.0."),
    (r"^conv7_k\.", "heads.1."),
    (r"^conv_g\.(\d)\.", r"critics.0.\1."),
    (r"^conv_k\.(\d)\.", r"critics.1.\1."),
    (r"^(critics\.\d\.2)\.0\.", r"\1."),
    (r"^conv2\.", "classifier."),
    (r"^linearclass\.1\.", "classifier.4."),
    (r"^linearclass\.4\.", "classifier.7."),
)


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the official release, recognised by their keys, under our names; others as is."""
    if not all(key.startswith("module.") for key in state):
        return dict(state)
    renamed = {}
    for key, value in state.items():
        key = key.removeprefix("module.")
        for pattern, name in OFFICIAL_NAMES:
            key = re.sub(pattern, name, key)
        renamed[key] = value
    return renamed


def load_weights(module: nn.Module, path: Path) -> None:
    """Load weights of this project, or of the official release, into ``module``.

    Raises UserError where the file is missing, broken, foreign or of other networks, as far as the
    tensors or the options stored beside them tell; ``module`` is unchanged then.
    """
    fill(module, read_weights(path), path)


def fill(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load weights that were read from ``path`` into ``module``. Raises UserError as above."""
    refuse_other_options(module, path)
    own = module.state_dict()
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or unknown:
        example = f"lacks {missing[0]}" if missing else f"has an unknown {unknown[0]}"
        raise UserError(
            f"{path} holds no weights of a {type(module).__name__.lower()} of this recipe and "
            f"version: it {example}"
        )
    for key, value in own.items():
        if state[key].shape != value.shape:
            raise UserError(
                f"{path} does not fit: {key} is {tuple(state[key].shape)} there and "
                f"{tuple(value.shape)} here; see --image-size, --base-filters, --critic-filters"
            )
    module.load_state_dict(state)


def refuse_other_options(module: nn.Module, path: Path) -> None:
    """Raise UserError where ``module`` is built otherwise than what the weights were trained as."""
    match = re.fullmatch(r"net[GD]_(\w+?)(_best)?\.pt", path.name)
    saved = Run(path.parent, match[1]).read_description()["options"] if match else {}
    for attribute, name in (("translation", "translation"), ("norm", "generator_norm")):
        own = getattr(module, attribute, None)
        if own is not None and saved.get(name, own) != own:
            raise UserError(
                f"{path} was trained with {name} '{saved[name]}', not '{own}': build the network "
                f"with {attribute}='{saved[name]}'"
            )


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights in a file, under our names, finite. Raises UserError."""
    state = read_file(path)
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise FileError(f"{path} holds no weights, but something else: pass another --save-dir")
    for key, value in state.items():
        if not torch.isfinite(value).all():
            raise FileError(f"{path} holds NaN or infinity in {key}: train again or restore it")
    return from_official(state)


def sizes_of(generator: Mapping[str, Tensor], discriminator: Mapping[str, Tensor]) -> dict:
    """Options of the networks that weights (under our names) belong to, read off their shapes.

    Raises UserError where they are none of ours.
    """
    if "size" in discriminator:
        return {"networks": "compact", "image_size": int(discriminator["size"])}
    try:
        filters = len(generator["down0.0.0.weight"])
        critic_filters = len(discriminator["encoder.0.0.weight"])
        cells = discriminator["classifier.4.weight"].shape[1] / (16 * critic_filters)
    except (KeyError, IndexError) as error:
        raise UserError(f"the weights are no generator and discriminator: no {error}") from error
    size = round(cells**0.5) * SIZE_MULTIPLE
    return {"base_filters": filters, "critic_filters": critic_filters, "image_size": size}


def read_file(path: Path) -> object:
    """Tensors and plain values that torch.save wrote, on the CPU. Raises UserError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileError(f"{path} does not exist: train first, or pass --save-dir") from None
    sums = checksum_path(path)
    if sums.is_file() and hashlib.sha256(content).hexdigest() not in read_digests(sums):
        raise FileError(f"{path} is damaged, its checksum differs: restore it or train again")
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise FileError(
            f"{path} is no checkpoint of tensors and plain values; nothing else is read"
        ) from None
    except Exception as error:  # a damaged file can raise anything
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise FileError(f"{path} is damaged or no checkpoint ({reason}): restore it") from error


def write_file(path: Path, value: object, previous: Path | None = None) -> None:
    """torch.save atomically, with the checksum beside it; the old file is kept as ``previous``."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    content = buffer.getvalue()
    # The checksum goes first, beside those of the files still there, which are forgotten at last:
    # whenever the program dies, what is on disk is known.
    sums, known = checksum_path(path), known_digests(path, previous)
    digest = hashlib.sha256(content).hexdigest()
    write_lines(sums, [digest, *known])
    write_atomically(path, content, previous)
    write_lines(sums, [digest, *known[:1]])


def known_digests(path: Path, previous: Path | None) -> list[str]:
    """Checksums of a file and of its previous version, where these are whole.

    As they were written, two of them; more are of a write that died, and then the files are read.
    """
    sums = checksum_path(path)
    listed = read_digests(sums) if sums.is_file() else []
    if len(listed) == 2:
        return listed
    found = []
    for file in (path, previous):
        if file is not None and file.is_file():
            with file.open("rb") as stream:
                found.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return [digest for digest in found if digest in listed or not listed]


def read_digests(sums: Path) -> list[str]:
    """What a file of checksums holds, whatever that is."""
    return sums.read_text(errors="replace").split()


@contextlib.contextmanager
def stored_arrays(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """The arrays of an .npz file, for a block that takes them out.

    Raises FileNotFoundError where there is none, and UserError where what the block takes is not
    whole.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            yield arrays
    except FileNotFoundError:
        raise
    except Exception as error:  # decoders raise anything on broken files
        raise FileError(f"{path} is damaged: restore or remove it") from error


def checksum_path(path: Path) -> Path:
    """Where the checksums of a file, and of its previous version, stand."""
    return path.with_name(path.name.removesuffix(PREVIOUS) + ".sha256")


class Run:
    """The files of one run in a folder: weights, training state, options and metrics history."""

    def __init__(self, folder: Path, dataset: str) -> None:
        name = dataset.lower()
        self.folder = folder
        self.dataset = dataset
        self.generator = folder / f"netG_{name}.pt"
        self.discriminator = folder / f"netD_{name}.pt"
        self.best_generator = folder / f"netG_{name}_best.pt"
        self.best_discriminator = folder / f"netD_{name}_best.pt"
        self.state = folder / f"training_{name}.pt"
        self.previous_state = folder / f"training_{name}.pt{PREVIOUS}"
        self.options = folder / f"options_{name}.json"
        self.metrics = folder / f"metrics_{name}.jsonl"
        self.examples = folder / f"examples_{name}.npz"
        self.picture = folder / f"examples_{name}.png"
        self.reading = folder / f"reading_{name}.json"  # see reading.py
        self.likeness = folder / f"likeness_{name}.npz"  # see likeness.py
        self.lock = folder / f"training_{name}.lock"
        self.choice = folder / f"choice_{name}.json"  # see choice.py

    def candidate(self, kind: str) -> "Run":
        """The run of a kind of map, until one of CANDIDATES is chosen."""
        return Run(self.folder / "candidates" / kind, self.dataset)

    def candidates(self) -> list["Run"]:
        """Those that have begun, of a choice that has not been made."""
        return [run for kind in CANDIDATES if (run := self.candidate(kind)).is_resumable()]

    def remove_remains(self) -> None:
        """Remove what a process that was killed may have left, as the one that writes to the run.

        That is halves of files, and the candidates of a choice that has been made.
        """
        for path in vars(self).values():
            if isinstance(path, Path) and path != self.folder:
                remove_halves(path)
                remove_halves(checksum_path(path))
        if self.choice.exists() and self.is_resumable():
            shutil.rmtree(self.folder / "candidates", ignore_errors=True)

    def is_resumable(self) -> bool:
        return self.state.exists() or self.previous_state.exists()

    def has_begun(self) -> bool:
        """Whether there is a training to go on with."""
        return self.is_resumable() or bool(self.candidates())

    def is_used(self) -> bool:
        return self.has_begun() or self.generator.exists() or self.discriminator.exists()

    def save(self, training: dict) -> None:
        """Write the training state, then the weights alone: the generator's are the averaged."""
        write_file(self.state, {"version": STATE_VERSION, **training}, self.previous_state)
        write_file(self.generator, training.get("averaged", training["generator"]))
        write_file(self.discriminator, training["discriminator"])

    def save_best(self, generator: dict, discriminator: dict) -> None:
        """Keep weights beside the last ones."""
        write_file(self.best_generator, generator)
        write_file(self.best_discriminator, discriminator)

    def weights(self, which: str) -> tuple[Path, Path]:
        """Files of the generator and the discriminator, "last" or "best"."""
        if which == "best":
            return self.best_generator, self.best_discriminator
        return self.generator, self.discriminator

    def digest(self) -> str:
        """SHA-256 of the last weights: tells whether they are those that they were."""
        files = self.generator, self.discriminator
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()

    def load_state(self) -> dict:
        """The newest training state that is whole; says so where that is the previous one.

        Raises UserError where there is none.
        """
        try:
            return self.read_state(self.state)
        except UserError as error:
            if not self.previous_state.exists():
                raise
            state = self.read_state(self.previous_state)
            warn(f"{error}; going on from {self.previous_state}")
            return state

    def read_state(self, path: Path) -> dict:
        state = read_file(path)
        if not isinstance(state, dict) or state.get("version") != STATE_VERSION:
            raise FileError(
                f"{path} is no training state of version {STATE_VERSION}: "
                "train into another --save-dir"
            )
        return state

    def read_description(self) -> dict:
        """Options and versions that the run was trained with, empty where not saved.

        And the digest of the weights that it comes after, if any.
        """
        try:
            description = json.loads(self.options.read_text())
            return {
                "options": dict(description["options"]),
                "versions": dict(description["versions"]),
                "first_weights": description.get("first_weights"),
            }
        except FileNotFoundError:
            return {"options": {}, "versions": {}}
        except (ValueError, KeyError, TypeError):
            raise FileError(f"{self.options} is damaged: restore or remove it") from None

    def append_metrics(self, record: dict) -> None:
        """Add a line to the metrics history; NaN is written as null."""
        with self.metrics.open("a") as file:
            file.write(json.dumps(without_nan(record)) + "\n")

    def read_metrics(self) -> list[dict]:
        """The metrics history, without a line cut off by a crash, or damaged otherwise."""
        records = []
        if self.metrics.is_file():
            for line in self.metrics.read_bytes().splitlines():
                with contextlib.suppress(ValueError):
                    records.append(json.loads(line))
        return [x for x in records if isinstance(x, dict) and x.keys() >= RECORDED]

    def rewind_metrics(self, iteration: int) -> None:
        """Forget what was recorded after ``iteration``, where training goes on."""
        kept = [r for r in self.read_metrics() if r["iteration"] <= iteration]
        write_json_lines(self.metrics, kept)


def find_run(
    folder: Path, dataset: str | None = None, is_one: Callable[[Run], bool] = Run.is_used
) -> Run | None:
    """The run in a folder, of the kind of data where that is named; None where there is none.

    ``is_one``: by what it counts as one. Raises UserError where there are several kinds and none is
    named.
    """
    kinds = KINDS if dataset is None else (dataset,)
    found = [run for kind in kinds if is_one(run := Run(folder, kind))]
    if len(found) > 1:
        names = " and ".join(run.dataset for run in found)
        raise UserError(f"{folder} holds runs of {names}: name one with --dataset")
    return found[0] if found else None
