"""The verdict of a test: what its intervals allow to say, and no more."""

import pytest

from descargan.conclusions import tables, verdict

COUNTS = {"intervals_over": "images", "images": {"healthy": 50, "diseased": 50}}


def entry(value: float, low: float, high: float, n: int = 50) -> dict:
    return {"value": value, "low": low, "high": high, "n": n}


def found(auprc: dict, *trivial: float, area: dict | None = None) -> dict:
    names = ("intensity", "smoothed intensity", "centre")
    maps = {name: of_map(entry(t, t, t)) for name, t in zip(names, trivial, strict=False)}
    area = area or entry(0.9, 0.8, 1.0)
    measured = {**of_map(auprc), "auroc_anomaly": area}
    outlined = auprc["n"] if maps else 0
    return {**COUNTS, "outlined": outlined, "metrics": measured, "trivial_maps": maps}


def of_map(auprc: dict) -> dict:
    return {"pixel_auroc": auprc, "pixel_auprc": auprc, "dice_best": auprc}


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ((0.7, 0.65, 0.75), "the maps find the disease better than any map that needs no network"),
        ((0.7, 0.55, 0.75), "the maps are not shown to find more"),
        ((0.5, 0.45, 0.55), "nothing found: a map that needs no network finds more"),
    ],
)
def test_maps_are_held_against_the_best_of_those_that_need_no_network(interval, said):
    sentence = verdict(found(entry(*interval), 0.3, 0.6, 0.1))
    assert sentence.startswith(said)
    assert "smoothed intensity: 0.600" in sentence
    assert "95 % interval {:.3f} to {:.3f}".format(*interval[1:]) in sentence


@pytest.mark.parametrize(
    ("area", "said"),
    [
        (entry(0.7, 0.6, 0.8), "the maps tell diseased test images from healthy ones"),
        (entry(0.7, 0.45, 0.8), "nothing found: the anomaly score does not tell"),
        (entry(float("nan"), float("nan"), float("nan")), "nothing found"),
    ],
)
def test_without_outlines_the_classes_say_whether_anything_was_found(area, said):
    assert verdict(found(entry(0.7, 0.6, 0.8), area=area)).startswith(said)


def test_of_few_outlined_images_the_classes_speak():
    sentence = verdict(found(entry(0.9, 0.8, 1.0, n=9), 0.3))
    assert sentence.startswith("the maps tell diseased")


def test_many_outlined_images_of_few_patients_are_few():
    few = {**found(entry(0.9, 0.8, 1.0, n=12), 0.3), "outlined": 1}
    assert verdict(few).startswith("the maps tell diseased")


def test_of_few_images_nothing_is_said():
    few = {**found(entry(0.9, 0.8, 1.0), 0.3), "images": {"healthy": 1, "diseased": 30}}
    sentence = verdict(few)
    assert sentence == "too few test images to judge: 1 healthy, fewer than 10"


def test_many_images_of_few_patients_are_few():
    few = {**found(entry(0.9, 0.8, 1.0), 0.3), "patients": {"healthy": 12, "diseased": 4}}
    few["intervals_over"] = "patients"
    assert verdict(few) == "too few test patients to judge: 4 diseased, fewer than 10"


def test_the_tables_hold_the_method_beside_the_trivial_maps():
    maps, classes = tables(found(entry(0.7, 0.65, 0.75), 0.3, 0.6), "these networks")
    assert [name for name, _ in maps.rows] == ["these networks", "intensity", "smoothed intensity"]
    assert maps.rows[0][1][1] == ("0.700", "0.650 to 0.750")
    assert classes.rows == [("AUROC of the anomaly score", [("0.900", "0.800 to 1.000")])]
    (alone,) = tables(found(entry(0.7, 0.65, 0.75)), "these networks")
    assert alone == classes


def test_a_method_of_the_name_of_a_trivial_map_keeps_its_row():
    maps, _ = tables(found(entry(0.7, 0.65, 0.75), 0.3), "intensity")
    assert [(name, cells[1].value) for name, cells in maps.rows] == [
        ("intensity", "0.700"),
        ("intensity", "0.300"),
    ]
