"""Two tests of the same images: how far one differs from the other, with intervals of pairs."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from descargan import metrics, resampling
from descargan.errors import FileError, warn
from descargan.files import read_json, read_table
from descargan.names import printable
from descargan.reading import Reading, how_of_test, is_earlier, is_number
from descargan.scores import OVERALL, PER_IMAGE, Row

TABLE = "metrics.csv"
COMPARED = {*PER_IMAGE, *(name for _, _, columns in OVERALL.values() for name in columns)}


def read_rows(results: Path, files: Sequence[str]) -> list[Row]:
    """What a test found in each of ``files``. Raises UserError where it is of other images."""
    try:
        rows = {row["file"]: row for row in read_table(results / TABLE)}
        for name in COMPARED:
            column(list(rows.values()), name)
    except (OSError, KeyError, ValueError, TypeError):
        raise FileError(
            f"{results / TABLE} is no table of a test, or damaged: pass the results of one"
        ) from None
    missing = [file for file in files if printable(file) not in rows]
    if missing:
        raise FileError(f"{results} is a test of other images: it lacks {printable(missing[0])}")
    return [rows[printable(file)] for file in files]


def warn_of_images(results: Path, image_size: int, fingerprint: str) -> None:
    """Warn of a test of other files of the same names, as of another data set.

    ``fingerprint``: of those that are tested. Of another size :func:`warn_of_reading` speaks.
    """
    said = read_json(results / "metrics.json")
    differs = said.get("dataset_fingerprint", fingerprint) != fingerprint
    if differs and said.get("image_size", image_size) == image_size:
        warn(
            f"{printable(results)} is a test of other files of the same names, as of another data "
            "set: where they show other images, the differences mean nothing"
        )


def warn_of_reading(results: Path, readings: Sequence[Reading], image_size: int) -> None:
    """Warn of a test that read its difference maps otherwise, which alone changes pixel scores.

    Or that is one of images of another size. ``readings``: of the networks that are tested, and of
    those that come first; a test of an earlier version does not say how it read these.
    """
    said = read_json(results / "metrics.json")
    if said.get("image_size", image_size) != image_size:
        warn(
            f"{printable(results)} is a test at --image-size {said['image_size']}, this one at "
            f"{image_size}: pixel scores differ by that, too"
        )
    if said.get("after") and "reading_of_first" not in said:
        readings = readings[:1]
    hows = [how_of_test(said), *map(how_of_test, filter(None, [said.get("reading_of_first")]))]
    if not all(is_number(value) for how in hows for value in how.values()):
        raise FileError(f"{results / 'metrics.json'} is damaged: restore or remove it")
    theirs, ours = describe(hows), describe([reading._asdict() for reading in readings])
    if any(map(is_earlier, hows)):
        theirs = "by an earlier version"
    if theirs != ours:
        warn(
            f"the difference maps of {printable(results)} were read {theirs}, those of this test "
            f"{ours}: pixel scores differ by that, too (descargan.reading.Reading reads any map)"
        )


def describe(hows: Sequence[dict]) -> str:
    """How score maps were made by each of the networks, by the names in HOW, in words."""
    said = set()
    for how in hows:
        cover = how.get("cover")
        said.add(
            f"by a diffusion of {how.get('diffusion') or 0.0:g} and "
            + ("no cover" if cover is None else f"a cover of {cover:g}")
        )
    return " or ".join(sorted(said))


def differences(
    rows: Sequence[Row], others: Sequence[Row], groups: np.ndarray | None = None
) -> dict[str, dict[str, float]]:
    """Each metric that both tests have: what ``rows`` have more than ``others``, with its interval.

    ``groups``: what images are drawn together by, see :func:`metrics.with_interval`.
    """
    found = {}
    for name in PER_IMAGE:
        more = column(rows, name) - column(others, name)
        if not np.isnan(more).all():
            found[name] = metrics.with_interval(metrics.mean, more, groups=groups)
    for name, (_, statistic, (label, value)) in OVERALL.items():
        columns = column(rows, label), column(rows, value), column(others, value)
        if np.isnan(columns).any():
            continue
        compared = partial(resampling.gap, metrics.RESAMPLED[statistic])
        found[name] = resampling.interval(compared, *columns, groups=groups)
    return found


def column(rows: Sequence[Row], name: str) -> np.ndarray:
    """Numbers (N,) of a column; NaN where there is none."""
    values = [row.get(name, "") for row in rows]
    return np.array([np.nan if value == "" else float(value) for value in values])
