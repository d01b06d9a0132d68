"""Two tests of the same images, image by image."""

import csv
import json

import numpy as np
import pytest
from conftest import assert_refused, program

from descargan.errors import UserError
from descargan.pairs import differences, read_rows, warn_of_reading
from descargan.reading import Reading


def rows(dice, probability):
    return [
        {"file": f"{i}.png", "class": i % 2, "dice": d, "probability": p}
        for i, (d, p) in enumerate(zip(dice, probability, strict=True))
    ]


def test_the_difference_of_pairs_is_surer_than_that_of_its_parts():
    """Images differ by far more than the tests do, whose difference is 0.1 on each."""
    dice = np.linspace(0, 0.8, 20)
    ours, theirs = rows(dice + 0.1, dice), rows(dice, dice)
    found = differences(ours, theirs)
    assert [found["dice"][key] for key in ("value", "low", "high")] == pytest.approx([0.1] * 3)
    assert found["dice"]["n"] == 20
    assert found["auroc_class"]["value"] == 0


def test_a_metric_over_all_images_is_compared_as_a_whole():
    ours, theirs = rows([""] * 4, [0.1, 0.9, 0.2, 0.8]), rows([""] * 4, [0.9, 0.1, 0.8, 0.2])
    found = differences(ours, theirs)
    assert found.keys() == {"auroc_class", "auprc_class"}
    assert found["auroc_class"]["value"] == 1


def written(folder, table):
    folder.mkdir()
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, table[0])
        writer.writeheader()
        writer.writerows(table)
    return folder


def test_rows_come_in_the_order_of_the_images(tmp_path):
    folder = written(tmp_path / "results", rows([0.1, 0.2], [0, 1]))
    assert [row["dice"] for row in read_rows(folder, ["1.png", "0.png"])] == ["0.2", "0.1"]


def test_a_test_of_other_images_is_refused(tmp_path):
    folder = written(tmp_path / "results", rows([0.1], [0]))
    with pytest.raises(UserError, match=r"other images: it lacks 7\.png"):
        read_rows(folder, ["7.png"])
    with pytest.raises(UserError, match="no table of a test"):
        read_rows(tmp_path, ["0.png"])


@pytest.mark.parametrize("line", ["0.png", "0.png,0,zero,0.5"])
def test_a_damaged_table_is_refused(tmp_path, line):
    (tmp_path / "metrics.csv").write_text(f"file,class,dice,probability\n{line}\n")
    with pytest.raises(UserError, match=r"metrics\.csv is no table of a test, or damaged"):
        read_rows(tmp_path, ["0.png"])


def test_a_diffusion_that_is_no_number_is_damage(tmp_path):
    (tmp_path / "metrics.json").write_text('{"diffusion_of_score_map": "a"}')
    with pytest.raises(UserError, match=r"metrics\.json is damaged: restore or remove it"):
        warn_of_reading(tmp_path, Reading(None), 64)


def test_a_test_against_itself_differs_by_nothing(trained, synthetic, tmp_path):
    common = ["--mode", "test", "--dataset-path", synthetic, "--save-dir", trained]
    common += ["--visdom", "off"]
    assert program("main.py", *common, "--results-dir", tmp_path / "a").returncode == 0
    result = program(
        "main.py", *common, "--results-dir", tmp_path / "b", "--against", tmp_path / "a"
    )
    assert f"less {tmp_path / 'a'}: pixel AUPRC" in result.stdout
    found = json.loads((tmp_path / "b" / "metrics.json").read_text())["differences"]
    assert {"pixel_auprc", "counterpart_mse", "auroc_anomaly"} <= found.keys()
    assert all(entry["value"] in (0, None) for entry in found.values())
    refused = program(
        "main.py", *common, "--results-dir", tmp_path / "b", "--against", tmp_path / "none"
    )
    assert_refused(refused, "metrics.csv is no table of a test")


LAYER, MOVED = Reading(0.1, sign=1, diffusion=0.03, cover=1.5), Reading(0.2)
PAIR = {"after": "runs/one", **MOVED.about, "reading_of_first": LAYER.about}
EARLIER = {name: value for name, value in PAIR.items() if name != "reading_of_first"}


@pytest.mark.parametrize(
    ("said", "ours", "warned"),
    [
        (PAIR, [MOVED, LAYER], False),
        (EARLIER, [MOVED, LAYER], False),  # which does not say how the first are read
        ({**LAYER.about, "reading_of_first": None}, [LAYER], False),
        (PAIR, [MOVED], True),
        (PAIR, [LAYER], True),
        (MOVED.about, [MOVED, LAYER], True),
        (EARLIER, [LAYER], True),
    ],
)
def test_a_pair_of_networks_reads_maps_in_two_ways(tmp_path, capsys, said, ours, warned):
    (tmp_path / "metrics.json").write_text(json.dumps({**said, "image_size": 64}))
    warn_of_reading(tmp_path, ours, 64)
    assert ("were read" in capsys.readouterr().err) == warned


def test_both_ways_are_named(tmp_path, capsys):
    (tmp_path / "metrics.json").write_text(json.dumps(PAIR))
    warn_of_reading(tmp_path, [MOVED], 64)
    assert (
        "were read by a diffusion of 0 and no cover or by a diffusion of 0.03 and a cover of 1.5, "
        "those of this test by a diffusion of 0 and no cover:"
    ) in capsys.readouterr().err
