"""What --overwrite replaces: whole data sets of this program, and nothing that is read."""

import csv
import json

import numpy as np
import pytest
from conftest import assert_refused, program, succeed
from PIL import Image


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 256, (16, 16), dtype=np.uint8)
    Image.fromarray(image).save(path)


def snapshot(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files_in(folder)}


def files_in(folder):
    return [p for p in folder.rglob("*") if p.is_file()]


@pytest.fixture
def prepared(tmp_path):
    """12 images in a table and in two folders, with masks; o is a data set made of them."""
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "sick"])
        for number in range(12):
            name = f"i{number:02}.png"
            picture(tmp_path / "images" / name, number)
            picture(tmp_path / ("controls", "patients")[number % 2] / name, number)
            writer.writerow([name, number % 2])
    for number in range(1, 12, 2):
        (tmp_path / "masks").mkdir(exist_ok=True)
        mask = np.eye(16, dtype=np.uint8)
        Image.fromarray(255 * mask).save(tmp_path / "masks" / f"i{number:02}.png")
    with (tmp_path / "boxes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "x", "y", "width", "height"], ["i01.png", 2, 2, 9, 9]])
    succeed(*by_table(tmp_path))
    return tmp_path


def by_table(folder, **places):
    table, images = (
        places.get(n, folder / p) for n, p in (("table", "labels.csv"), ("images", "images"))
    )
    more = [v for name in ("boxes", "masks") if name in places for v in (f"--{name}", places[name])]
    return [
        *("prepare_table.py", "--table", table, "--images", images, "--image-column", "file"),
        *("--healthy", "sick=0", "--diseased", "sick=1", *more),
        *("--output", folder / "o", "--image-size", 16, "--workers", 1),
    ]


def by_folders(folder, **places):
    names = {"healthy": folder / "controls", "diseased": folder / "patients", **places}
    options = [v for name, place in names.items() for v in (f"--{name}", place)]
    return ["prepare_folders.py", "--output", folder / "o", "--image-size", 16, *options]


PLACES = {"table": "labels.csv", "images": "images", "boxes": "boxes.csv", "masks": "masks"}


@pytest.mark.parametrize("option", PLACES)
@pytest.mark.parametrize("linked", [False, True])
def test_what_a_table_is_prepared_of_is_never_replaced(prepared, option, linked):
    inside = prepared / "o" / "mine" / PLACES[option]
    inside.parent.mkdir()
    (prepared / PLACES[option]).rename(inside)
    place = prepared / "link" if linked else inside
    if linked:
        place.symlink_to(inside)
    before = snapshot(prepared / "o")
    result = program(*by_table(prepared, **{option: place}), "--overwrite")
    assert_refused(result, "--output", place, "to be read")
    assert snapshot(prepared / "o") == before


def test_images_of_a_split_that_is_not_wanted_are_never_replaced(prepared):
    table = prepared / "labels.csv"
    header, *lines = table.read_text().splitlines()
    lines = [f"{line},{'train' if n < 6 else 'test'}" for n, line in enumerate(lines)]
    table.write_text("\n".join([f"{header},split", *lines]))
    for number in range(6):
        image = prepared / "images" / f"i{number:02}.png"
        image.symlink_to(image.rename(prepared / "o" / image.name))
    before = snapshot(prepared / "o")
    words = [*by_table(prepared), "--split-column", "split", "--shares", 0, 0, 1, "--overwrite"]
    assert_refused(program(*words), "--output", "to be read")
    assert snapshot(prepared / "o") == before


@pytest.mark.parametrize("option", ["healthy", "diseased", "masks"])
@pytest.mark.parametrize("whole", [False, True])
def test_what_folders_are_prepared_of_is_never_replaced(prepared, option, whole):
    """Whether the folder is a link, or the files in it are."""
    name = {"healthy": "controls", "diseased": "patients"}.get(option, option)
    inside, place = prepared / "o" / name, prepared / "place"
    (prepared / name).rename(inside)
    if whole:
        place.symlink_to(inside)
    else:
        place.mkdir()
        for file in inside.iterdir():
            (place / file.name).symlink_to(file)
    before = snapshot(prepared / "o")
    result = program(*by_folders(prepared, **{option: place}), "--overwrite")
    assert_refused(result, "--output", prepared / "o")
    assert snapshot(prepared / "o") == before


def test_the_release_of_chexpert_is_never_replaced(prepared):
    (prepared / "labels.csv").rename(prepared / "o" / "train.csv")
    arguments = ["--chexpert-root", prepared / "o", "--output", prepared / "o", "--overwrite"]
    assert_refused(program("prepare_chexpert.py", *arguments), "train.csv", "to be read")
    assert (prepared / "o" / "train.csv").exists()


def test_the_folder_that_one_works_in_is_not_replaced(prepared, monkeypatch):
    before = snapshot(prepared / "o")
    for place, output in (("o", "."), ("o/Train", ".."), ("o/Train", prepared / "o")):
        monkeypatch.chdir(prepared / place)
        words = [*by_table(prepared), "--overwrite", "--output", output]
        assert_refused(program(*words), output, "change to another folder")
    assert snapshot(prepared / "o") == before


def test_the_synthetic_set_that_one_works_in_is_not_replaced(synthetic, monkeypatch):
    monkeypatch.chdir(synthetic)
    result = program("create_synthetic_dataset.py", "--output", ".", "--overwrite")
    assert_refused(result, "change to another folder")


def test_a_link_is_written_through(prepared):
    folder, link = prepared / "o", prepared / "link"
    link.symlink_to(folder)
    before = (folder / "manifest.csv").read_text()
    words = [*by_table(prepared), "--output", link]
    assert_refused(program(*words), link, "--overwrite")
    succeed(*words, "--seed", 1, "--overwrite")
    assert link.is_symlink()
    assert (folder / "manifest.csv").read_text() != before
    assert not list(prepared.glob(".*"))


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_a_link_that_leads_to_itself_is_refused(prepared, overwrite):
    link = prepared / "link"
    link.symlink_to(link)
    for words in (["create_synthetic_dataset.py"], by_table(prepared), by_folders(prepared)):
        assert_refused(program(*words, "--output", link, *overwrite), link, "--overwrite")


@pytest.mark.parametrize("script", ["create_synthetic_dataset.py", "prepare_folders.py"])
def test_a_folder_with_a_description_of_another_program_is_not_replaced(prepared, script):
    folder = prepared / "foreign"
    folder.mkdir()
    for name in ("dataset.json", "preparation.json"):
        (folder / name).write_text(json.dumps({"labels": {"0": "background"}, "numTraining": 2}))
    words = by_folders(prepared)[1:] if script == "prepare_folders.py" else []
    result = program(script, *words, "--output", folder, "--overwrite")
    assert_refused(result, folder, "is no data set of this program")
    assert len(files_in(folder)) == 2


def test_a_set_moved_away_by_a_killed_process_is_back_before_anything_is_decided(prepared):
    (prepared / "o").rename(prepared / ".o.unfinished-01234567.old")
    (prepared / ".o.unfinished-01234567").mkdir()
    assert_refused(program(*by_table(prepared)), "exists: pass --overwrite")
    assert (prepared / "o" / "manifest.csv").exists()
    assert not list(prepared.glob(".*"))
