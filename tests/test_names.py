"""Names of results: none too long for a disk, no two the same."""

import os

import pytest

from descargan.names import map_names, printable, result_name


def test_a_map_is_named_by_the_path_of_its_image():
    assert map_names(["test/healthy/0000.npy", "test/sick/a.b.png"]) == [
        "test_healthy_0000.npy",
        "test_sick_a.b.npy",
    ]


@pytest.mark.parametrize(
    "names",
    [
        ["test/a/k.png", "test/a/k.jpg", "test/a/k.bmp"],
        ["test/a/k.png", "test/a/K.png"],
        ["test/a/b_k.png", "test/a_b/k.png"],
        ["test/a/" + "x" * 245 + "1.png", "test/a/" + "x" * 245 + "2.png"],
    ],
)
def test_no_two_maps_have_one_name(names):
    maps = map_names(names)
    assert len({name.lower() for name in maps}) == len(names)
    assert all(name.endswith(".npy") and len(name) <= 255 for name in maps)


@pytest.mark.parametrize("name", ["x" * 251 + ".png", "ß" * 120 + ".png", "x" * 245 + ".png"])
def test_a_long_name_has_room_for_its_ending(name):
    found = result_name(name, ".overlay.png")
    assert found.endswith(".overlay.png")
    assert len(os.fsencode(found)) <= 255


def test_a_name_that_fits_stays_as_it_is():
    assert result_name("scan.png", ".map.npy") == "scan.png.map.npy"


def test_bytes_that_are_no_text_can_be_written():
    assert printable(os.fsdecode(b"caf\xe9.png")) == "caf\\udce9.png"
