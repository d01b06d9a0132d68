"""Tables of labels: which rows count as what, where their files are, and what is said of them."""

import csv
import gzip
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_refused, program
from PIL import Image

from descargan.conversion import Item
from descargan.errors import UserError
from descargan.locating import locate, name_of
from descargan.tables import (
    Selection,
    collect,
    holds,
    load_preset,
    parse_rules,
    patient_of,
    preset_names,
    read_boxes,
    read_rows,
)
from prepare_table import add_masks

NIH = ["Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age"]
NIH += ["Patient Gender", "View Position", "OriginalImage[Width", "Height]"]


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 256, (32, 32), dtype=np.uint8)
    Image.fromarray(image).save(path)


def write(path, header, rows, delimiter=","):
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def prepare(folder, *arguments):
    common = ["--output", folder / "out", "--image-size", 16, "--workers", 1]
    return program("prepare_table.py", *common, *arguments)


def succeed(folder, *arguments):
    result = prepare(folder, *arguments)
    assert result.returncode == 0, result.stderr
    return result


def manifest(folder):
    return {Path(r["source"]).name: r for r in rows(folder / "out" / "manifest.csv")}


def left_out(folder):
    return Counter(r["reason"] for r in rows(folder / "out" / "left_out.csv"))


@pytest.fixture
def labelled(tmp_path):
    """30 images of 15 patients: file, label, patient, split, view."""
    lines = []
    for number in range(30):
        name = f"i{number:02}.png"
        picture(tmp_path / "images" / name, number)
        patient = number % 15
        label = "sick|Other" if patient % 3 == 0 else "none"
        split = ("train", "val", "test")[patient // 3 % 3]
        view = "AP" if number % 2 else "PA"
        lines.append([name, label, f"q{patient}", split, view])
    header = ["file", "label", "patient", "split", "view"]
    write(tmp_path / "labels.csv", header, lines)
    return tmp_path


def general(folder, *arguments):
    return [
        *("--table", folder / "labels.csv", "--images", folder / "images"),
        *("--image-column", "file", "--healthy", "label=none", "--diseased", "label~sick"),
        *arguments,
    ]


@pytest.mark.parametrize(
    ("relation", "value", "cell", "wanted"),
    [
        ("=", "No Finding", " no finding ", True),
        ("=", "1", "1.0", True),
        ("=", "1", "-1.0", False),
        ("=", "", " ", True),
        ("=", "Effusion", "Effusion|Mass", False),
        ("~", "Effusion", "Effusion|Mass", True),
        ("~", "Effusion", "Pleural Effusion|Mass", False),
        ("~", "pleural effusion", "['cardiomegaly', 'pleural effusion']", True),
        ("~", "Mass", "Nodule, Mass", True),
    ],
)
def test_what_a_condition_holds_of(relation, value, cell, wanted):
    assert holds(relation, value, cell) == wanted


def test_any_condition_on_a_column_and_all_columns_must_be_met():
    rules = parse_rules(["a=1", "a=2", "b!=0", "c~x", "c!~y"], "--keep")

    def met(a, b, c):
        return all(rule.meets({"a": a, "b": b, "c": c}) for rule in rules)

    assert met("2", "1", "x|z")
    assert not met("3", "1", "x|z")
    assert not met("2", "0", "x")
    assert not met("2", "1", "x|y")


def test_a_text_without_a_relation_is_no_condition(labelled):
    result = prepare(labelled, *general(labelled), "--keep", "view")
    assert_refused(result, "--keep 'view' is no condition")


def test_patients_and_splits_of_the_table_are_kept(labelled):
    columns = ["--patient-column", "patient", "--split-column", "split"]
    succeed(labelled, *general(labelled, *columns))
    found = manifest(labelled)
    assert len(found) == 30
    for name, row in found.items():
        patient = int(name[1:3]) % 15
        assert row["patient"] == f"q{patient}"
        assert row["split"] == ("Train", "Validate", "Test")[patient // 3 % 3]
        assert row["class"] == ("Healthy control" if patient % 3 else "Diseased")


def test_a_split_that_the_column_lacks_is_taken_from_train(labelled):
    table = labelled / "labels.csv"
    table.write_text(table.read_text().replace(",val,", ",train,"))
    succeed(labelled, *general(labelled), "--patient-column", "patient", "--split-column", "split")
    for name, row in manifest(labelled).items():
        was_test = int(name[1:3]) % 15 // 3 % 3 == 2
        assert (row["split"] == "Test") == was_test
    assert Counter(r["split"] for r in manifest(labelled).values())["Validate"] >= 2


@pytest.mark.parametrize(
    ("shares", "kept"), [((0, 0, 1), {"Test"}), ((8, 1, 0), {"Train", "Validate"})]
)
def test_a_split_of_the_column_without_a_share_is_left_out(labelled, shares, kept):
    columns = ["--patient-column", "patient", "--split-column", "split", "--shares", *shares]
    result = succeed(labelled, *general(labelled, *columns))
    found = manifest(labelled)
    assert {row["split"] for row in found.values()} == kept
    assert all(("Train", "Validate", "Test")[int(n[1:3]) % 15 // 3 % 3] in kept for n in found)
    assert f"{30 - len(found)} of a split that is not wanted" in result.stdout


def test_train_is_drawn_from_for_a_split_that_the_column_lacks_though_it_has_no_share(labelled):
    table = labelled / "labels.csv"
    table.write_text(table.read_text().replace(",val,", ",train,"))
    columns = ["--patient-column", "patient", "--split-column", "split", "--shares", 0, 1, 0]
    succeed(labelled, *general(labelled, *columns))
    assert {row["split"] for row in manifest(labelled).values()} == {"Validate"}


def test_nothing_is_left_where_the_column_names_unwanted_splits_alone(labelled):
    table = labelled / "labels.csv"
    table.write_text(table.read_text().replace(",test,", ",val,").replace(",train,", ",val,"))
    columns = ["--patient-column", "patient", "--split-column", "split", "--shares", 0, 0, 1]
    refused = prepare(labelled, *general(labelled, *columns))
    assert_refused(refused, "no image is left of 30 (30 of a split that is not wanted)")


def test_a_patient_in_two_splits_is_refused(labelled):
    table = labelled / "labels.csv"
    table.write_text(table.read_text().replace("q0,train", "q0,test", 1))
    columns = ["--patient-column", "patient", "--split-column", "split"]
    for shares in ((8, 1, 1), (8, 1, 0), (0, 0, 1)):
        refused = prepare(labelled, *general(labelled, *columns), "--shares", *shares)
        assert_refused(refused, "patient q0", "--split-column")


def test_an_unknown_split_lists_the_known_ones(labelled):
    result = prepare(labelled, *general(labelled), "--split-column", "view")
    assert_refused(result, "'PA' of i00.png", "validate")


def test_a_pattern_names_the_patient_where_no_column_does(labelled):
    succeed(labelled, *general(labelled, "--patient", r"i(\d\d)"))
    assert manifest(labelled)["i07.png"]["patient"] == "07"


def test_rows_that_are_not_kept_have_their_reason(labelled):
    succeed(labelled, *general(labelled, "--keep", "view=PA"))
    assert left_out(labelled) == {"view is AP": 15}


def test_an_unknown_column_lists_the_known_ones(labelled):
    result = prepare(labelled, *general(labelled), "--keep", "View=PA")
    assert_refused(result, "no column 'View'", "'view'")


def test_a_condition_that_no_row_meets_says_what_the_column_holds(labelled):
    result = prepare(labelled, *general(labelled), "--diseased", "label=sick")
    assert_refused(result, "no row", "diseased", "none (20)", "sick|Other (10)")


@pytest.mark.parametrize(
    ("column", "more"), [("patient", ()), (None, ("--patient", r"i(?!07)\d+"))]
)
def test_a_row_whose_patient_is_unknown_is_left_out(labelled, column, more):
    lines = rows(labelled / "labels.csv")
    if column:
        lines[7][column] = " "
        more = ("--patient-column", column)
    write(labelled / "labels.csv", lines[0], [line.values() for line in lines])
    result = succeed(labelled, *general(labelled, *more))
    assert left_out(labelled) == {"no patient told": 1}
    assert "i07.png" in result.stderr


def test_rows_of_one_image_must_agree(labelled):
    """Three readers a film: i01 is healthy for one of them alone, i02 for both."""
    with (labelled / "labels.csv").open("a") as file:
        file.write("i01.png,sick,q1,train,AP\ni02.png,none,q2,train,AP\n")
    succeed(labelled, *general(labelled))
    assert left_out(labelled) == {"listed twice": 2, "its rows disagree": 1}
    assert "i01.png" not in manifest(labelled)
    assert "i02.png" in manifest(labelled)


def test_many_missing_files_are_an_error_and_few_are_listed(labelled):
    (labelled / "images" / "i00.png").unlink()
    succeed(labelled, *general(labelled))
    assert left_out(labelled) == {"missing file": 1}
    for number in range(1, 12):
        (labelled / "images" / f"i{number:02}.png").unlink()
    result = prepare(labelled, *general(labelled), "--overwrite")
    assert_refused(result, "12 of 30", "missing", labelled / "images")


def found(root, *cells):
    """The file below ``root`` of each cell of a table, its name where written, or how many fit."""
    places = locate(root, [list(cells)])
    result = []
    for cell in cells:
        place = places[cell]
        fits = len(place.paths)
        path = Path(place.paths[0]).relative_to(root).as_posix() if fits == 1 else fits
        result.append((path, name_of(place)) if fits == 1 else fits)
    return result if len(cells) > 1 else result[0]


def test_files_are_found_wherever_they_lie(tmp_path):
    for name in ("a/patient1/1.png", "batch 2/patient2/1.png", "deep/er/9.png", "x/8.png"):
        picture(tmp_path / name, 0)
    picture(tmp_path / "y" / "8.png", 0)
    assert found(tmp_path, "release/train/a/patient1/1.png") == ("a/patient1/1.png", "a_patient1_1")
    assert found(tmp_path, "release/patient2/1.png") == ("batch 2/patient2/1.png", "patient2_1")
    assert found(tmp_path, "release\\patient2\\1.png") == ("batch 2/patient2/1.png", "patient2_1")
    assert found(tmp_path, "9.png") == ("deep/er/9.png", "9")
    assert found(tmp_path, "9") == ("deep/er/9.png", "9")
    assert found(tmp_path, "patient3/1.png") == 0
    (tmp_path / "8").mkdir()
    assert found(tmp_path, "8") == 2
    assert found(tmp_path, "8.png") == 2


def test_a_mask_of_the_name_of_an_image_is_not_meant(tmp_path):
    for folder in ("images", "masks", "deep/Masks"):
        picture(tmp_path / folder / "1.png", 0)
    assert found(tmp_path, "1.png") == ("images/1.png", "1")
    assert found(tmp_path, "1") == ("images/1.png", "1")
    picture(tmp_path / "outlines" / "1.png", 0)
    assert found(tmp_path, "1.png") == 2
    (place,) = locate(tmp_path, [["1.png"]], tmp_path / "outlines").values()
    assert place.paths == [str(tmp_path / "images" / "1.png")]


def test_names_are_found_where_masks_lie_beside_the_images(tmp_path):
    picture(tmp_path / "a" / "1.png", 0)
    picture(tmp_path / "a" / "1_mask.png", 0)
    for masks in (tmp_path, tmp_path.parent):
        (place,) = locate(tmp_path, [["1"]], masks).values()
        assert place.paths == [str(tmp_path / "a" / "1.png")]


def test_names_are_found_in_a_folder_that_is_linked(tmp_path):
    picture(tmp_path / "store" / "1.png", 0)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "link").symlink_to(tmp_path / "store")
    assert found(tmp_path / "images", "1.png") == ("link/1.png", "1")


def test_names_are_whole_where_the_images_lie_in_the_current_folder(tmp_path, monkeypatch):
    picture(tmp_path / "a" / "00000003_000.png", 0)
    monkeypatch.chdir(tmp_path)
    cells = {"a/00000003_000.png": ".", "./a/00000003_000.png": ".", "00000003_000": "a"}
    for cell, root in cells.items():
        (place,) = locate(Path(root), [[cell]]).values()
        assert name_of(place).endswith("00000003_000")


def test_a_missing_file_is_never_another_patients(tmp_path):
    """Names repeat from folder to folder, one that is missing in p2 is left in p0 alone."""
    cells = [f"p{p}/{n}.png" for p in range(4) for n in range(5)]
    lost = {"p1/2.png", "p2/2.png", "p2/4.png", *(c for c in cells if c.startswith("p3/"))}
    for cell in set(cells) - lost:
        picture(tmp_path / cell, 0)
    right = [0 if c in lost else (c, c.removesuffix(".png").replace("/", "_")) for c in cells]
    assert found(tmp_path, *cells) == right
    assert found(tmp_path, *cells[::-1]) == right[::-1]


def test_a_table_of_one_folder_takes_no_file_of_another(tmp_path):
    picture(tmp_path / "healthy/1.png", 0)
    picture(tmp_path / "diseased/2.png", 0)
    assert found(tmp_path, "healthy/1.png", "healthy/2.png") == [("healthy/1.png", "healthy_1"), 0]
    assert found(tmp_path, "other/1.png", "other/2.png") == [0, 0]


def test_first_folders_that_all_cells_share_may_be_missing(tmp_path):
    picture(tmp_path / "train/p1/1.png", 0)
    picture(tmp_path / "valid/p2/1.png", 0)
    picture(tmp_path / "batch 2/valid/p3/1.png", 0)
    cells = ["release/train/p1/1.png", "release/valid/p2/1.png", "release/valid/p3/1.png"]
    names = ["train_p1_1", "valid_p2_1", "valid_p3_1"]
    places = ["train/p1/1.png", "valid/p2/1.png", "batch 2/valid/p3/1.png"]
    assert found(tmp_path, *cells) == list(zip(places, names, strict=True))


def test_joined_tables_may_have_several_first_folders_that_are_missing(tmp_path):
    for name in ("train/p1/1.png", "train/p2/1.png", "p4/1.png"):
        picture(tmp_path / name, 0)
    cells = ["a/train/p1/1.png", "a/train/p3/1.png", "b/train/p2/1.png", "b/train/p5/1.png"]
    first, second = ("train/p1/1.png", "train_p1_1"), ("train/p2/1.png", "train_p2_1")
    assert found(tmp_path, *cells, "c/p4/1.png") == [first, 0, second, 0, ("p4/1.png", "p4_1")]


def test_the_path_goes_before_files_of_that_name_in_folders(tmp_path):
    picture(tmp_path / "1.png", 0)
    picture(tmp_path / "a/1.png", 0)
    assert found(tmp_path, "1.png") == ("1.png", "1")


def test_a_name_is_not_searched_in_hidden_folders(tmp_path):
    picture(tmp_path / ".hidden/h.png", 0)
    assert found(tmp_path, "h.png") == 0


def test_the_name_of_a_volume_may_lack_both_its_suffixes(tmp_path):
    (tmp_path / "p1.nii.gz").touch()
    assert found(tmp_path, "p1", "p1.nii.gz") == [("p1.nii.gz", "p1")] * 2


def test_names_that_several_files_have_are_an_error_that_says_so(labelled):
    succeed(labelled, *general(labelled))
    (labelled / "images").rename(labelled / "a")
    shutil.copytree(labelled / "a", labelled / "images" / "a")
    shutil.move(labelled / "a", labelled / "images" / "b")
    result = prepare(labelled, *general(labelled), "--overwrite")
    assert_refused(result, "several files fit 30 of them", "'i00.png'")


def collected(folder, lines, columns=("file", "label"), names=("s0", "s1", "s2"), **more):
    """What is taken, as file and class, and what is left out, of a table of pictures."""
    for name in names:
        picture(folder / f"{name}.png", 0)
    table = write(folder / "t.csv", columns, lines)
    rules = (parse_rules([f"label={label}"], "--healthy") for label in ("none", "sick"))
    items, left_out = collect([table], folder, Selection("file", *rules, **more))
    return [(Path(item.source).name, item.label) for item in items], left_out


@pytest.mark.parametrize("other", ["sick", "unsure"])
def test_rows_that_write_one_file_in_two_ways_must_agree(tmp_path, other):
    lines = [("s0.png", "none"), ("s0", other), ("./s1.png", "none"), ("s1", "none")]
    taken, left_out = collected(tmp_path, [*lines, ("s2", "sick")])
    assert taken == [("s1.png", 0), ("s2.png", 1)]
    assert ("s0.png", "its rows disagree") in left_out
    assert ("s1", "listed twice") in left_out


def test_rows_that_are_not_kept_say_nothing_of_their_image(tmp_path):
    """Three readers, of whom one is asked."""
    lines = [("s0.png", "sick", "R2"), ("s0.png", "none", "R1"), ("s1.png", "sick", "R1")]
    lines += [("s1.png", "none", "R3"), ("s1.png", "sick", "R1")]
    keep = parse_rules(["reader=R1"], "--keep")
    taken, left_out = collected(tmp_path, lines, ("file", "label", "reader"), keep=keep)
    assert taken == [("s0.png", 0), ("s1.png", 1)]
    reasons = ["reader is R2", "reader is R3", "listed twice"]
    assert [reason for _, reason in left_out] == reasons


def test_a_column_of_keep_may_have_braces(tmp_path):
    lines = [("s0.png", "none", 1), ("s1.png", "sick", 1), ("s2.png", "sick", 4)]
    keep = parse_rules(["Grade {1-4}=1"], "--keep")
    taken, left_out = collected(tmp_path, lines, ("file", "label", "Grade {1-4}"), keep=keep)
    assert len(taken) == 2
    assert left_out == [("s2.png", "Grade {1-4} is 4")]


@pytest.mark.parametrize(
    ("cell", "patient"),
    [("5.0", "5"), ("5", "5"), ("05", "05"), ("1.2.0", "1.2.0"), ("a.0", "a.0")],
)
def test_the_patient_of_a_whole_number_has_no_decimals(cell, patient):
    selection = Selection("file", (), (), patient_column="id")
    assert patient_of("x.png", {"id": cell}, selection) == patient


@pytest.mark.parametrize("column", ["33.3 kg", "2021-03-04"])
def test_a_nuisance_column_of_words_without_end_is_refused(tmp_path, column):
    names = [f"s{n}" for n in range(30)]
    lines = [(f"s{n}.png", ("none", "sick")[n % 2], column.replace("3", str(n))) for n in range(30)]
    with pytest.raises(UserError, match="column 'extra' holds too many words, such as"):
        collected(tmp_path, lines, ("file", "label", "extra"), names, traits=("extra",))


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_are_divided_as_their_header_is(tmp_path, delimiter):
    table = write(tmp_path / "t.csv", ["a", "b"], [["1", "x y"]], delimiter)
    assert list(read_rows(table, ["b"])) == [{"a": "1", "b": "x y"}]


def test_compressed_tables_are_read(tmp_path):
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n"))
    assert list(read_rows(tmp_path / "t.csv.gz", ["b"])) == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize("damage", [slice(0, 60), slice(0, 30)])
def test_a_damaged_compressed_table_is_one_sentence(tmp_path, damage):
    whole = gzip.compress(b"a,b\n" + bytes(range(48, 58)) * 90 + b",1\n")
    rest = b"\xff" * 40 if damage.stop == 30 else b""
    (tmp_path / "t.csv.gz").write_bytes(whole[damage][:-20] + rest)
    with pytest.raises(UserError, match=r"t\.csv\.gz cannot be read"):
        list(read_rows(tmp_path / "t.csv.gz", ["a"]))


@pytest.mark.parametrize("content", [None, b"PK\3\4\xff\xfe\0", b""])
def test_what_is_no_table_is_one_sentence(tmp_path, content):
    if content is not None:
        (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"t\.csv"):
        list(read_rows(tmp_path / "t.csv", ["b"]))


def test_boxes_become_masks(labelled):
    lines = [["i00.png", "sick", 4, 8, 16, 8], ["i00.png", "other", 0, 0, 4, 4]]
    write(labelled / "boxes.csv", ["file", "what", "x", "y", "width", "height"], lines)
    boxes = ["--boxes", labelled / "boxes.csv", "--box-keep", "what=sick"]
    result = succeed(labelled, *general(labelled, *boxes))
    assert "1 of 10 diseased images are outlined" in result.stdout
    file = labelled / "out" / manifest(labelled)["i00.png"]["file"]
    with Image.open(file.parents[1] / "masks" / file.name) as mask:
        wanted = np.zeros((16, 16), np.uint8)
        wanted[4:8, 2:10] = 255
        np.testing.assert_array_equal(mask, wanted)


def test_a_box_out_of_its_image_leaves_it_out(labelled):
    lines = [["i00.png", 400, 800, 160, 80], ["i03.png", 1, 1, 9, 9]]
    write(labelled / "boxes.csv", ["file", "x", "y", "width", "height"], lines)
    succeed(labelled, *general(labelled, "--boxes", labelled / "boxes.csv"))
    assert any("out of the image of 32 x 32" in reason for reason in left_out(labelled))


def test_boxes_by_their_corners_and_rows_without_one(tmp_path):
    lines = [["a", 1, 2, 11, 22], ["b", "", "", "", ""], ["a", 5, 5, 6, 6]]
    table = write(tmp_path / "b.csv", ["id", "x_min", "y_min", "x_max", "y_max"], lines)
    assert read_boxes(table, "id", None, ()) == {"a": ((1, 2, 10, 20), (5, 5, 1, 1))}


def test_a_row_of_boxes_that_ends_early_has_none(tmp_path):
    header = ["x", "y", "width", "height", "file"]
    table = write(tmp_path / "b.csv", header, [[1, 2, 3, 4], [1, 2, 3, 4, "a"]])
    assert read_boxes(table, "file", None, ()) == {"a": ((1, 2, 3, 4),)}


@pytest.mark.parametrize(
    ("header", "row", "mention"),
    [
        (["file", "left", "top", "right", "bottom"], [1, 2, 3, 4], "has no columns x y width"),
        (["file", "x", "y", "width", "height"], [1, 2, "wide", 4], "is no four numbers"),
        (["file", "x", "y", "width", "height"], [1, "", 3, 4], "holds a box that is kept"),
    ],
)
def test_a_table_without_boxes_says_what_is_wrong_with_it(labelled, header, row, mention):
    table = write(labelled / "boxes.csv", header, [["i00.png", *row]])
    result = prepare(labelled, *general(labelled, "--boxes", table))
    assert_refused(result, table, mention)


def test_a_row_without_a_path_is_left_out(labelled):
    with (labelled / "labels.csv").open("a") as file:
        file.write(",none,q1,test,AP\n")
    succeed(labelled, *general(labelled))
    assert left_out(labelled)["no path"] == 1


def test_images_that_are_no_folder_are_named(labelled):
    arguments = general(labelled)
    arguments[arguments.index("--images") + 1] = labelled / "labels.csv"
    assert_refused(prepare(labelled, *arguments), labelled / "labels.csv", "--images")


def test_matching_that_leaves_nothing_of_a_class_says_so(labelled):
    """Each view shows one class alone."""
    lines = [[f"i{n:02}.png", n % 2, "AP" if n % 2 else "PA"] for n in range(30)]
    write(labelled / "labels.csv", ["file", "label", "view"], lines)
    classes = ["--healthy", "label=0", "--diseased", "label=1", "--match", "view"]
    where = ["--table", labelled / "labels.csv", "--images", labelled / "images"]
    result = prepare(labelled, *where, "--image-column", "file", *classes)
    assert_refused(result, "--match view leaves none that fits")


def test_masks_of_a_folder_serve_a_table_too(labelled):
    for number in (0, 3):
        mask = np.zeros((32, 32), bool)
        mask[:16] = True
        (labelled / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(labelled / "masks" / f"i{number:02}_seg.png")
    arguments = ["--masks", labelled / "masks", "--mask-suffix", "_seg"]
    succeed(labelled, *general(labelled, *arguments))
    assert len(list((labelled / "out").rglob("masks/*.png"))) == 2


def test_masks_serve_absolute_paths_of_images_too(tmp_path, monkeypatch):
    picture(tmp_path / "images/s1/7.png", 0)
    picture(tmp_path / "masks/s1/7.png", 0)
    monkeypatch.chdir(tmp_path)
    items = [Item(str(tmp_path / "images/s1/7.png"), "7", "7", 1)]
    (item,) = add_masks(items, Path("images"), Path("masks"), "")
    assert item.masks == ("masks/s1/7.png",)


def test_a_shortcut_is_reported_and_matching_takes_it_away(tmp_path):
    lines = []
    for number in range(120):
        diseased = number % 2
        view = "AP" if number % 12 < (9 if diseased else 4) else "PA"
        picture(tmp_path / f"{number}.png", number)
        lines.append([f"{number}.png", diseased, view])
    write(tmp_path / "labels.csv", ["file", "label", "view"], lines)
    common = ["--table", tmp_path / "labels.csv", "--image-column", "file"]
    common += ["--healthy", "label=0", "--diseased", "label=1", "--overwrite"]

    def shortcut(*arguments):
        result = succeed(tmp_path, *common, *arguments)
        assert "view" in result.stdout
        return json.loads((tmp_path / "out" / "preparation.json").read_text())["shortcuts"]["view"]

    assert shortcut("--nuisance", "view") > 0.65
    assert shortcut("--match", "view") < 0.55
    counts = Counter(
        (r["split"], r["class"], lines[int(n[:-4])][2]) for n, r in manifest(tmp_path).items()
    )
    for split in ("Train", "Validate", "Test"):
        shares = [
            counts[split, c, "AP"] / (counts[split, c, "AP"] + counts[split, c, "PA"])
            for c in ("Healthy control", "Diseased")
        ]
        assert shares[0] == pytest.approx(shares[1], abs=0.1)


def test_matching_keeps_the_outlined_images_of_the_test_split(tmp_path):
    lines, boxes = [], []
    for number in range(120):
        diseased = number % 3 > 0
        picture(tmp_path / f"{number}.png", number)
        split = ("train", "validate", "test")[number // 40]
        lines.append([f"{number}.png", int(diseased), "AP" if number % 4 else "PA", split])
        if diseased and number % 5 == 0:
            boxes.append([f"{number}.png", 2, 2, 20, 20])
    write(tmp_path / "labels.csv", ["file", "label", "view", "split"], lines)
    write(tmp_path / "boxes.csv", ["file", "x", "y", "width", "height"], boxes)
    arguments = ["--table", tmp_path / "labels.csv", "--image-column", "file", "--match", "view"]
    arguments += ["--healthy", "label=0", "--diseased", "label=1", "--split-column", "split"]
    succeed(tmp_path, *arguments, "--boxes", tmp_path / "boxes.csv")
    kept = manifest(tmp_path)
    gone = {r["source"] for r in rows(tmp_path / "out" / "left_out.csv")}
    assert gone
    in_test = {name for name, *_ in boxes if int(name.removesuffix(".png")) >= 80}
    assert in_test <= kept.keys()


@pytest.fixture
def nih(tmp_path):
    """The official layout: images_001/images/*.png, Data_Entry_2017.csv, BBox_List_2017.csv."""
    lines = []
    for number in range(24):
        name = f"{number // 2 + 1:08}_{number % 2:03}.png"
        picture(tmp_path / f"images_{number % 3 + 1:03}" / "images" / name, number)
        finding = ("No Finding", "Effusion|Mass")[number // 2 % 2]
        lines.append(
            [name, finding, number % 2, number // 2 + 1, 50 + number, "MF"[number % 2], "PA"]
        )
    lines.append(["00000099_000.png", "Mass", 0, 99, 60, "F", "AP"])
    write(tmp_path / "Data_Entry_2017.csv", NIH, lines)
    header = ["Image Index", "Finding Label", "Bbox [x", "y", "w", "h]", "", "", ""]
    boxes = [["00000002_000.png", "Effusion", 8, 8, 16, 16, "", "", ""]]
    boxes += [["00000002_001.png", "Mass", 8, 8, 16, 16, "", "", ""]]
    write(tmp_path / "BBox_List_2017.csv", header, boxes)
    return tmp_path


def test_the_preset_of_nih(nih):
    arguments = ["--preset", "nih", "--table", nih / "Data_Entry_2017.csv"]
    succeed(nih, *arguments, "--boxes", nih / "BBox_List_2017.csv")
    found = manifest(nih)
    assert len(found) == 24
    assert found["00000002_001.png"]["patient"] == "2"
    assert found["00000002_001.png"]["class"] == "Images showing effusion"
    assert left_out(nih) == {"neither class": 1}
    assert len(list((nih / "out").rglob("masks/*.png"))) == 1
    summary = json.loads((nih / "out" / "preparation.json").read_text())
    assert summary["shortcuts"].keys() >= {"Patient Gender", "Patient Age", "View Position"}


def test_an_output_among_the_images_is_not_read_again(nih):
    arguments = ["--preset", "nih", "--table", nih / "Data_Entry_2017.csv"]
    succeed(nih, *arguments)
    first = (nih / "out" / "manifest.csv").read_text()
    succeed(nih, *arguments, "--overwrite")
    assert (nih / "out" / "manifest.csv").read_text() == first


def test_another_finding_of_a_preset(nih):
    arguments = ["--preset", "nih", "--table", nih / "Data_Entry_2017.csv", "--finding", "Mass"]
    result = prepare(nih, *arguments)
    assert result.returncode == 0, result.stderr
    assert {r["class"] for r in manifest(nih).values()} >= {"Images showing mass"}


@pytest.mark.parametrize("name", preset_names())
def test_presets_name_their_source(name):
    assert load_preset(name).selection.columns()
    data = json.loads((Path(__file__).parents[1] / "descargan" / "presets.json").read_text())
    assert "et al." in data[name]["source"]


@pytest.mark.parametrize(
    ("missing", "mention"),
    [("--image-column", "--image-column"), ("--healthy", "--healthy"), ("--table", "--table")],
)
def test_without_a_preset_the_columns_are_needed(labelled, missing, mention):
    arguments = general(labelled)
    at = arguments.index(missing)
    assert_refused(prepare(labelled, *arguments[:at], *arguments[at + 2 :]), mention)


def test_an_output_that_holds_the_images_is_refused(labelled):
    succeed(labelled, *general(labelled))
    moved = labelled / "out" / "images"
    (labelled / "images").rename(moved)
    arguments = [*general(labelled), "--images", moved, "--overwrite"]
    assert_refused(prepare(labelled, *arguments), "--output", "to be read")
    assert moved.is_dir()
