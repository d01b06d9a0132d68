"""Nuisance columns: what tells the classes apart without the disease (view, sex, scanner, age).

A network that can use such a shortcut does, and its map shows the shortcut.
"""

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from descargan.errors import UserError
from descargan.splits import group_by_patient, stratified_split

MOST_LEVELS = 10  # numbers of more values than these are cut at their quintiles
RARE = 0.01  # levels of a smaller share of the images are taken together
FOLDS = 5


def levels(values: Sequence[str]) -> np.ndarray:
    """The level of each value, (N,) of str: the value, its quintile, or 'other' where rare."""
    cells = np.array([value.strip() for value in values], dtype=object)
    counts = Counter(cells)
    if len(counts) <= MOST_LEVELS:
        return cells
    numbers = np.array([as_number(value) for value in cells])
    known = np.isfinite(numbers)
    if known[cells != ""].mean() > 0.5:
        cuts = np.quantile(numbers[known], (0.2, 0.4, 0.6, 0.8))
        names = np.array([f"quintile {i}" for i in range(1, 6)], dtype=object)
        return np.where(known, names[np.searchsorted(cuts, numbers, side="right")], "")
    rare = {value for value, count in counts.items() if count < RARE * len(cells)}
    return np.array(["other" if value in rare else value for value in cells], dtype=object)


def as_number(text: str) -> float:
    """A number, also 33,3 and an age such as 061Y; NaN where it is none."""
    try:
        return float(text.removesuffix("Y").replace(",", "."))
    except ValueError:
        return np.nan


def refuse_scattered(name: str, values: Sequence[str]) -> None:
    """Raise UserError where most images of a column of words are alone, or rare, in their level.

    Numbers with a unit and dates are such words: as levels they would tell nothing of the classes.
    """
    known = [value.strip() for value in values if value.strip()]
    found = levels(known)
    counts = Counter(found)
    scattered = [
        value
        for value, level in zip(known, found, strict=True)
        if counts[level] == 1 or (level == "other" and value != level)
    ]
    if len(set(known)) > MOST_LEVELS and len(scattered) > 0.5 * len(known):
        raise UserError(
            f"column {name!r} holds too many words, such as {scattered[0]!r}, to compare the "
            "classes by it: write numbers without units, or few words (see --match and --nuisance)"
        )


def match(
    levels: Sequence,
    labels: Sequence[int],
    rng: np.random.Generator,
    preferred: Collection[int] = (),
) -> list[int]:
    """Indices that are kept so that each level has the same share in both classes.

    Levels that one class lacks go. Of the ratios of healthy to diseased images that some level has
    by itself, the one is taken that keeps most, by the harmonic mean of the two classes. Which
    images stay is drawn, the indices ``preferred`` before others; the first ones of each class are
    spread over the levels like all of them.
    """
    members: dict = {}
    for index, (level, label) in enumerate(zip(levels, labels, strict=True)):
        members.setdefault(level, ([], []))[label].append(index)
    common = [pair for pair in members.values() if all(pair)]
    if not common:
        return []
    sizes = np.array([[len(healthy), len(diseased)] for healthy, diseased in common], float)
    ratios = sizes[:, 0] / sizes[:, 1]

    def kept_at(ratio: float) -> np.ndarray:
        diseased = np.minimum(sizes[:, 1], sizes[:, 0] / ratio)
        return np.stack([diseased * ratio, diseased], 1)

    best = max(np.unique(ratios), key=lambda ratio: 1 / (1 / kept_at(ratio).sum(0)).sum())
    wanted = np.floor(kept_at(best) + 1e-6).astype(int)
    wanted[(wanted == 0).any(1)] = 0
    kept = []
    for pair, numbers in zip(common, wanted, strict=True):
        for group, number in zip(pair, numbers, strict=True):
            drawn = sorted(rng.permutation(group), key=lambda index: index not in preferred)
            chosen = drawn[:number]
            kept += [((rank + 0.5) / number, int(index)) for rank, index in enumerate(chosen)]
    return [index for _, index in sorted(kept)]


def tell_apart(
    columns: dict[str, np.ndarray], labels: np.ndarray, patients: Sequence[str], seed: int
) -> dict[str, float]:
    """AUROC of the class by each column's levels alone, and by all of them together.

    Logistic regression on one column a level, scored on patients that it was not fitted to (five
    folds, or as many as the smaller class has patients; none below two): 0.5 is chance.
    """
    groups = group_by_patient(patients, labels)
    folds = min(FOLDS, *(sum(group.numbers[label] > 0 for group in groups) for label in (0, 1)))
    if folds < 2 or not columns:
        return {}
    shares = {str(fold): 1.0 for fold in range(folds)}
    fold_of = stratified_split(groups, shares, seed, ("", ""))
    part = np.array([fold_of[patient] for patient in patients])
    parts = [(np.flatnonzero(part != fold), np.flatnonzero(part == fold)) for fold in shares]
    inputs = {name: one_hot(column) for name, column in columns.items()}
    if len(inputs) > 1:
        inputs["all of them together"] = np.concatenate(list(inputs.values()), axis=1)
    return {name: round(cross_validated(x, labels, parts), 3) for name, x in inputs.items()}


def one_hot(column: np.ndarray) -> np.ndarray:
    """float32 (N, number of levels)."""
    names, index = np.unique(column.astype(str), return_inverse=True)
    return np.eye(len(names), dtype=np.float32)[index]


def cross_validated(inputs: np.ndarray, labels: np.ndarray, parts: list) -> float:
    """Mean over the parts (fitting, scoring indices) of the AUROC on what was not fitted."""
    areas = []
    for fitting, scoring in parts:
        model = LogisticRegression(max_iter=200).fit(inputs[fitting], labels[fitting])
        areas.append(roc_auc_score(labels[scoring], model.decision_function(inputs[scoring])))
    return float(np.mean(areas))
