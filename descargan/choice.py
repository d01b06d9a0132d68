"""Which kind of map a data set wants: each is trained for a short while, and they judge each other.

Neither outlines nor a user who knows what the disease does are needed. A generator can deceive the
classifier that it was trained against by a change that means nothing; one that learnt beside
another generator is not deceived by it. So a kind is as good as what the other kind's classifier
takes for healthy, less what it changes of healthy images.
"""

import shutil
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import torch

from descargan import DISEASED, HEALTHY
from descargan.checkpoints import Run
from descargan.data import ImageDataset
from descargan.distributed import Process, largest
from descargan.errors import UserError
from descargan.files import write_json
from descargan.options import Options
from descargan.training import TrainingResult, train
from descargan.translator import Translator

CANDIDATES = ("veil", "combined")
EPOCHS = 4


def train_best_kind(options: Options, device: torch.device, process: Process) -> TrainingResult:
    """Train every candidate for EPOCHS, go on with the best to the end, and say which it is.

    The candidates are in ``candidates/`` in the folder of the run until one is chosen; after a stop
    the same call goes on with them. ``choice_DATASET.json`` keeps the scores.
    Raises UserError for networks that do not draw the candidates.
    """
    if options.networks != "compact":
        raise UserError("--translation auto chooses for --networks compact alone: name a kind")
    folders = {kind: options.save_dir / "candidates" / kind for kind in CANDIDATES}
    short = replace(options, resume="auto", visdom="off", epochs=min(EPOCHS, options.epochs))
    for kind, folder in folders.items():
        if process.is_first:
            print(f"what does the disease do? {short.epochs} epochs of --translation {kind}")
        result = train(replace(short, translation=kind, save_dir=folder), device, process)
        if result.stopped_by:
            return result
    scores = compare(options, folders)
    largest(0, device, process)  # all have read the candidates before they are moved
    best = max(scores, key=scores.__getitem__)
    if process.is_first:
        said = ", ".join(f"{kind} {score:.3f}" for kind, score in scores.items())
        print(f"--translation {best} suits the images best ({said}): going on with it")
        take_over(folders[best], options)
        chosen = {"translation": best, "scores": scores}
        write_json(Run(options.save_dir, options.dataset).choice, chosen)
    largest(0, device, process)
    return train(replace(options, translation=best, resume="on"), device, process)


def compare(options: Options, folders: dict[str, Path]) -> dict[str, float]:
    """The score of the kinds whose runs are in ``folders``: the mean over the others as judges."""
    validation = ImageDataset.open(options, "validate")
    translators = {
        kind: Translator.of(replace(options, translation=kind, save_dir=folder, weights="last"))
        for kind, folder in folders.items()
    }
    scores: dict[str, list[float]] = {kind: [] for kind in folders}
    for kind, judge in permutations(folders, 2):
        found = judge_translations(translators[kind], translators[judge], validation, options)
        scores[kind].append(found)
    return {kind: float(np.mean(values)) for kind, values in scores.items()}


def judge_translations(
    translator: Translator, judge: Translator, dataset: ImageDataset, options: Options
) -> float:
    """How far what is diseased becomes healthy to ``judge``, less how far what is healthy changes.

    The mean probability of health that the judge's classifier gives translations of diseased
    images, minus the root of MSE(a_h, r_h).
    """
    healthy, changes = [], []
    for batch, _, classes in translator.translate_split(dataset, options.batch_size):
        diseased = classes == DISEASED
        healthy.append(1 - judge.classify(batch.healthy).cpu()[diseased])
        changes.append(batch.difference.square().mean(dim=(1, 2, 3)).cpu()[classes == HEALTHY])
    return (torch.cat(healthy).mean() - torch.cat(changes).mean().sqrt()).item()


def take_over(folder: Path, options: Options) -> None:
    """Make the run in ``folder`` that of the options, its training state last; forget the others.

    A run without a state starts anew, so that half of a copy is none.
    """
    state = Run(folder, options.dataset).state
    files = sorted(folder.iterdir(), key=lambda path: path == state)
    for path in files:
        shutil.copy2(path, options.save_dir / path.name)
    shutil.rmtree(folder.parent)
