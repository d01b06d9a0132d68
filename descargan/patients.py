"""Patients by the headers of DICOM, and codes for them: who they are is never written."""

from collections import Counter
from pathlib import Path

from descargan.conversion import Item
from descargan.dicom import identity_of


def code_patients(items: list[Item]) -> list[Item]:
    """The items, with codes for the patients, else the studies, that headers of DICOM name.

    P0001, P0002, ... stand for them in the order of the items, and in the names of the images,
    P0001_0001 and so on. Items of other files, and of headers that name nobody, stay as they are.
    """
    codes: dict[str, str] = {}
    images: Counter[str] = Counter()
    result = []
    for item in items:
        identity = identity_of(Path(item.source))
        known = identity and (identity.patient or identity.study)
        if known:
            code = codes.setdefault(known, f"P{len(codes) + 1:04}")
            images[code] += 1
            item = item._replace(patient=code, name=f"{code}_{images[code]:04}")
        result.append(item)
    if codes:
        print(f"{len(codes)} patients, as the headers of DICOM name them, are P0001 and so on")
    return result
