"""The split: by patient, alike in both classes, had wherever it can be had."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from descargan.errors import UserError
from descargan.splits import SPLITS, Group, group_by_patient, stratified_split

SHARES = dict(zip(SPLITS, (0.8, 0.1, 0.1), strict=True))
FOLDERS = ("Healthy control", "Diseased")


def singles(healthy, diseased):
    """One image a patient."""
    groups = [Group(f"h{i}", (1, 0)) for i in range(healthy)]
    return groups + [Group(f"d{i}", (0, 1)) for i in range(diseased)]


def numbers(groups, split_of):
    """Images (healthy, diseased) of each split."""
    return {
        split: tuple(sum(g.numbers[c] for g in groups if split_of[g.name] == split) for c in (0, 1))
        for split in SPLITS
    }


@pytest.mark.parametrize(
    ("healthy", "diseased", "wanted"),
    [
        (40, 40, [(32, 32), (4, 4), (4, 4)]),
        (10, 10, [(8, 8), (1, 1), (1, 1)]),
        (500, 20, [(400, 16), (50, 2), (50, 2)]),
        (5, 5, [(3, 3), (1, 1), (1, 1)]),
        (3, 3, [(1, 1), (1, 1), (1, 1)]),
    ],
)
def test_both_classes_have_their_shares_whatever_the_seed(healthy, diseased, wanted):
    groups = singles(healthy, diseased)
    for seed in range(20):
        found = numbers(groups, stratified_split(groups, SHARES, seed, FOLDERS))
        assert list(found.values()) == wanted


def test_two_patients_of_a_class_are_too_few_and_the_number_needed_is_said():
    with pytest.raises(UserError, match=r"Test/Diseased .* 2 patients .* at least 3"):
        stratified_split(singles(9, 2), SHARES, 0, FOLDERS)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(any), max_size=30),
    st.integers(0, 2**63 - 1),
)
def test_every_split_has_both_classes_where_three_patients_have_each(patients, seed):
    groups = [Group(str(i), pair) for i, pair in enumerate(patients)]
    if min(sum(g.numbers[c] > 0 for g in groups) for c in (0, 1)) < 3:
        with pytest.raises(UserError):
            stratified_split(groups, SHARES, seed, FOLDERS)
        return
    split_of = stratified_split(groups, SHARES, seed, FOLDERS)
    assert split_of.keys() == {g.name for g in groups}
    assert all(min(pair) > 0 for pair in numbers(groups, split_of).values())


def test_many_images_of_a_patient_count_as_images():
    """90 patients of 5 to 40 slices of both classes: the shares are those of the images."""
    groups = [Group(f"p{i:02}", (5 + 7 * i % 36, 1 + 11 * i % 20)) for i in range(90)]
    total = [sum(g.numbers[c] for g in groups) for c in (0, 1)]
    found = numbers(groups, stratified_split(groups, SHARES, 3, FOLDERS))
    for split, share in SHARES.items():
        assert found[split][0] / total[0] == pytest.approx(share, abs=0.03)
        assert found[split][1] / total[1] == pytest.approx(share, abs=0.03)


def test_the_seed_alone_decides():
    groups = singles(30, 30)
    first, again, other = (stratified_split(groups, SHARES, s, FOLDERS) for s in (1, 1, 2))
    assert first == again != other


def test_images_are_grouped_by_patient():
    groups = group_by_patient(["b", "a", "b", "b"], [1, 0, 0, 1])
    assert groups == [Group("a", (1, 0)), Group("b", (1, 2))]
