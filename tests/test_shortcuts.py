"""Nuisance columns: evened out between the classes, and measured by what they alone tell."""

from collections import Counter

import numpy as np
import pytest

from descargan.errors import UserError
from descargan.shortcuts import levels, match, refuse_scattered, tell_apart


def kept_numbers(columns, labels, seed=0):
    kept = match(columns, labels, np.random.default_rng(seed))
    return kept, Counter((columns[i], labels[i]) for i in kept)


def test_a_matched_column_has_the_same_shares_in_both_classes():
    """342 of 500 healthy images are AP, but 45 of 90 diseased ones."""
    views = ["AP"] * 342 + ["PA"] * 158 + ["AP"] * 45 + ["PA"] * 45
    labels = [0] * 500 + [1] * 90
    assert kept_numbers(views, labels)[1] == {
        ("AP", 0): 158,
        ("PA", 0): 158,
        ("AP", 1): 45,
        ("PA", 1): 45,
    }


def test_a_value_that_one_class_lacks_goes():
    views = ["AP"] * 10 + ["PA"] * 10 + ["AP"] * 10
    labels = [0] * 20 + [1] * 10
    assert kept_numbers(views, labels)[1] == {("AP", 0): 10, ("AP", 1): 10}
    assert match(["AP", "PA"], [0, 1], np.random.default_rng(0)) == []


def test_the_first_images_kept_are_spread_like_all():
    """So that a most number of images cuts no value away."""
    views = ["AP"] * 300 + ["PA"] * 100 + ["AP"] * 300 + ["PA"] * 100
    kept, _ = kept_numbers(views, [0] * 400 + [1] * 400)
    first = [views[i] for i in kept if i < 400][:40]
    assert Counter(first) == {"AP": 30, "PA": 10}


def test_what_is_preferred_stays_before_the_rest_of_its_value():
    views = ["AP"] * 50 + ["PA"] * 50 + ["AP"] * 10 + ["PA"] * 10
    labels, preferred = [0] * 100 + [1] * 20, {0, 7, 49, 60, 99}
    assert preferred <= set(match(views, labels, np.random.default_rng(0), preferred))


def test_numbers_of_many_values_are_cut_at_their_quintiles():
    found = levels([str(age) for age in range(100)] + [""])
    assert Counter(found) == {**{f"quintile {i}": 20 for i in range(1, 6)}, "": 1}
    assert set(levels([f"{age:03}Y" for age in range(100)])) == set(found) - {""}


def test_a_decimal_comma_is_a_number():
    assert set(levels([f"{n},5" for n in range(100)])) == {f"quintile {i}" for i in range(1, 6)}


def test_numbers_may_be_unknown_of_most_images():
    found = levels([str(age) for age in range(40)] + [""] * 60)
    assert Counter(found) == {**{f"quintile {i}": 8 for i in range(1, 6)}, "": 60}


@pytest.mark.parametrize("unit", [" kg", "-01-02"])
def test_a_column_of_words_without_end_is_refused(unit):
    with pytest.raises(UserError, match="column 'weight' holds too many words, such as '7"):
        refuse_scattered("weight", [f"{70 + n}{unit}" for n in range(300)] + ["", ""])


@pytest.mark.parametrize(
    "values",
    [
        [f"{n},5" for n in range(300)],
        ["AP", "PA", ""],
        [f"scanner {n % 12}" for n in range(2400)] + ["scanner 99"],
        ["other"] * 80 + [f"scanner {n % 12}" for n in range(48)],
    ],
)
def test_numbers_and_few_words_are_not_refused(values):
    refuse_scattered("any", values)


def test_rare_values_of_many_are_taken_together():
    found = levels([f"scanner {i % 12}" for i in range(2400)] + ["scanner 99"])
    assert "other" in found
    assert len(set(found)) == 13


def test_a_column_that_gives_the_class_away_is_told_from_one_that_does_not():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 200)
    columns = {
        "scanner": np.where(labels == 1, "new", "old").astype(object),
        "sex": rng.choice(["F", "M"], 400).astype(object),
    }
    areas = tell_apart(columns, labels, [str(i) for i in range(400)], 0)
    assert areas["scanner"] == 1
    assert areas["sex"] == pytest.approx(0.5, abs=0.08)
    assert areas["all of them together"] == 1


def test_patients_do_not_help_to_tell_their_own_images():
    """Each patient has a scanner and many images: by images alone it would be learned by heart."""
    labels = np.repeat(np.arange(60) % 2, 5)
    patients = np.repeat([f"p{i}" for i in range(60)], 5)
    areas = tell_apart({"scanner": patients.astype(object)}, labels, patients, 0)
    assert areas["scanner"] == pytest.approx(0.5, abs=0.05)


def test_one_patient_of_a_class_gives_no_measure():
    column = {"sex": np.array(["F", "M", "F"], dtype=object)}
    assert tell_apart(column, np.array([0, 0, 1]), ["a", "b", "c"], 0) == {}
