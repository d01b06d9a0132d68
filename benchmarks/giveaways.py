"""What tells the classes of a data set apart without anatomy: a shortcut that a network would take.

    python -m benchmarks.giveaways my-data --patient '^(p[0-9]+)'

prints the AUROC of classifiers that see nothing but the brightness, the contrast, the histogram,
the border or the corners of the training images: logistic regression and a random forest, five
folds by patient. About 0.5 is chance. A disease may be seen by the histogram, since a lesion is
bright; it is hardly seen by the border and the corners, where markers and collimators are.
"""

import argparse
import sys
from collections.abc import Iterator

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.linked import add_data, kind_of, read_entries
from benchmarks.runs import header, row
from descargan.cli import Parser, run
from descargan.data import ImageDataset, corners
from descargan.splits import group_by_patient, stratified_split

FOLDS = 5
BORDER = 1 / 16  # of the side


def describe(image: np.ndarray) -> dict[str, np.ndarray]:
    """An image (H, W) in [-1, 1] in a few numbers of each kind."""
    size = image.shape[0]
    wide = int(BORDER * size)
    inside = np.zeros(image.shape, bool)
    inside[wide:-wide, wide:-wide] = True
    border = image[~inside]
    return {
        "brightness (mean)": np.array([image.mean()]),
        "contrast (sd, min, max)": np.array([image.std(), image.min(), image.max()]),
        "histogram (16 bins)": np.histogram(image, 16, (-1.1, 1.1))[0] / image.size,
        "border (mean, sd, min, max)": summary(border),
        "corners (mean, sd, min, max of each)": np.concatenate(
            [summary(x) for x in corners(image)]
        ),
    }


def summary(values: np.ndarray) -> np.ndarray:
    return np.array([values.mean(), values.std(), values.min(), values.max()])


def folds_of(patients: list[str], labels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices to fit and to score, of each fold; no patient is in both."""
    shares = {str(fold): 1.0 for fold in range(FOLDS)}
    fold_of = stratified_split(group_by_patient(patients, labels), shares, 0, ("healthy", "other"))
    fold = np.array([fold_of[patient] for patient in patients])
    return ((np.flatnonzero(fold != f), np.flatnonzero(fold == f)) for f in shares)


def tell_apart(inputs: np.ndarray, labels: np.ndarray, patients: list[str]) -> list[float]:
    """AUROC of both classifiers on patients that they were not fitted to, the mean over folds."""
    models = (
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        RandomForestClassifier(100, min_samples_leaf=5, random_state=0),
    )
    areas = []
    for model in models:
        scores = []
        for fitting, scoring in folds_of(patients, labels):
            model.fit(inputs[fitting], labels[fitting])
            probability = model.predict_proba(inputs[scoring])[:, 1]
            scores.append(roc_auc_score(labels[scoring], probability))
        areas.append(float(np.mean(scores)))
    return areas


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data(parser)
    parser.add_argument("--image-size", type=int, default=64, metavar="N", help="default: 64")
    options = parser.parse_args()
    entries = read_entries(options.data, "train", options.patient)
    dataset = ImageDataset(kind_of(options.data), options.data, "train", options.image_size)
    images, _, classes = dataset.__getitems__(range(len(dataset)))
    described = [describe(image[0]) for image in images.numpy()]
    patients = [entry.patient for entry in entries]
    print(f"{len(images)} training images of {len(set(patients))} patients")
    print(header(["AUROC of the class by", "logistic regression", "random forest"]))
    for name in described[0]:
        inputs = np.stack([numbers[name] for numbers in described])
        areas = tell_apart(inputs, classes.numpy(), patients)
        print(row([name, *(f"{area:.2f}" for area in areas)]))


if __name__ == "__main__":
    sys.exit(run(main))
