"""Train, validate and test from one heap of images: by patient, and alike in both classes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from descargan import DISEASED, HEALTHY
from descargan.errors import UserError

SPLITS = ("Train", "Validate", "Test")


class Group(NamedTuple):
    """What is never divided: the images of one patient, as numbers (healthy, diseased)."""

    name: str
    numbers: tuple[int, int]


def group_by_patient(patients: Sequence[str], labels: Sequence[int]) -> list[Group]:
    """The patients in the order of their names, with their numbers of images in each class."""
    numbers: dict[str, list[int]] = {}
    for patient, label in zip(patients, labels, strict=True):
        numbers.setdefault(patient, [0, 0])[label] += 1
    return [Group(name, tuple(numbers[name])) for name in sorted(numbers)]


def stratified_split(
    groups: list[Group], shares: dict[str, float], seed: int, folders: tuple[str, str]
) -> dict[str, str]:
    """The split of each group, by name: a function of the groups, the shares and the seed alone.

    Patients come in random order, those with images of both classes first; each goes where its
    classes lack most of their share (after Sechidis et al. 2011, for groups). A split without an
    image of a class is served while there are patients left for it. ``folders`` name the classes
    in the error that there are too few patients.
    """
    shares = {split: share / sum(shares.values()) for split, share in shares.items()}
    images = np.array([group.numbers for group in groups], dtype=int).reshape(-1, 2)
    totals = images.sum(0)
    lacking = {split: share * np.ones(2) for split, share in shares.items()}
    left = (images > 0).sum(0)  # patients of each class that are not placed yet
    refuse_too_few(left, tuple(shares), folders)
    empty = {label: set(shares) for label in (HEALTHY, DISEASED)}
    split_of = {}
    for group in in_random_order(groups, seed):
        allowed = set(shares)
        present = [label for label in (HEALTHY, DISEASED) if group.numbers[label]]
        for label in present:
            if left[label] <= len(empty[label]):
                allowed &= empty[label]
            left[label] -= 1
        chosen = max(
            (split for split in shares if split in allowed),
            key=lambda split: sum(lacking[split][label] for label in present),
        )
        lacking[chosen] -= np.array(group.numbers) / totals
        for label in present:
            empty[label].discard(chosen)
        split_of[group.name] = chosen
    return split_of


def in_random_order(groups: list[Group], seed: int) -> list[Group]:
    """Those of both classes, of the healthy and of the diseased class alone, each shuffled."""
    rng = np.random.default_rng(seed)
    shuffled = [groups[i] for i in rng.permutation(len(groups))]
    return sorted(shuffled, key=lambda group: (not all(group.numbers), not group.numbers[HEALTHY]))


def refuse_too_few(
    patients: Sequence[int], splits: tuple[str, ...], folders: tuple[str, str]
) -> None:
    """Raise UserError where a class has fewer patients than there are splits."""
    for number, folder in zip(patients, folders, strict=True):
        if number < len(splits):
            raise UserError(
                f"no image for {splits[number]}/{folder} is left: {number} patients have images of "
                f"that class, and at least {len(splits)} are needed, one for each split (without "
                "--patient each image counts as a patient)"
            )
