"""Patients that no option tells: by the headers of DICOM, else each file is one.

Codes stand for whom headers name, who is never written.
"""

import re
from collections import Counter
from pathlib import Path

from descargan.commands import join
from descargan.conversion import Item
from descargan.dicom import identity_of
from descargan.errors import warn

# Parts of paths that may name a patient, as --patient takes them.
GUESSES = (
    r"[^/]*\d(?=[^\d/]+\d[^/]*$)",  # p001 of p001_05.png
    r"[^/]*\d[^/]*(?=/)",  # p01 of p01/a.png
    r".*\d[^/]*(?=/)",  # site1/p01 of site1/p01/a.png
)
START = r"(?<![^/])"  # of a name: each guess begins there, and is not tried elsewhere in vain
OTHERWISE = "|[^/]+$"  # the file itself
MANY, SHARE = 6, 0.1  # patients of several files, and their least share of all files


def code_patients(items: list[Item]) -> list[Item]:
    """The items, with codes for the patients, else the studies, that headers of DICOM name.

    P0001, P0002, ... stand for them in the order of the items, and in the names of the images,
    P0001_0001 and so on. Items of other files, and of headers that name nobody, stay as they are.
    """
    codes: dict[str, str] = {}
    images: Counter[str] = Counter()
    result, alone = [], []
    for item in items:
        identity = identity_of(Path(item.source))
        known = identity and (identity.patient or identity.study)
        if known:
            code = codes.setdefault(known, f"P{len(codes) + 1:04}")
            images[code] += 1
            item = item._replace(patient=code, name=f"{code}_{images[code]:04}")
        else:
            alone.append(item.patient)
        result.append(item)
    if codes:
        print(f"{len(codes)} patients, as the headers of DICOM name them, are P0001 and so on")
    warn_of_shared_names(alone)
    return result


def warn_of_shared_names(files: list[str]) -> None:
    """Say where names look like several files of a patient, and each file counts as one."""
    files = list(dict.fromkeys(files))
    for guess in GUESSES:
        groups: dict[str, list[str]] = {}
        for file in files:
            if found := re.search(START + guess, file):
                groups.setdefault(found.group(), []).append(file)
        several = [group for group in groups.values() if len(group) > 1]
        if len(several) >= MANY and sum(map(len, several)) >= SHARE * len(files):
            pattern = guess if sum(map(len, groups.values())) == len(files) else guess + OTHERWISE
            first, second = several[0][:2]
            warn(
                f"each file counts as a patient: if {first} and {second} are of one, pass "
                f"{join(['--patient', pattern])}, else images of one are in training and in test"
            )
            return
