"""What the paper's maps find, read coarsely: ``benchmarks/paper_maps.py``."""

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import paper_maps
from benchmarks.paper_maps import FLIPS, of_running_statistics, read, read_generator, translate
from descargan import HEALTHY
from descargan.errors import UserError
from descargan.layers import BatchNorm
from descargan.models import Generator

PLACES = ((12, 40), (44, 20))


@pytest.fixture
def truths():
    """Ground truth (2, 64, 64): lines of either sign about two places."""
    truths = np.zeros((2, 64, 64), np.float32)
    for truth, (x, y) in zip(truths, PLACES, strict=True):
        truth[y - 8 : y + 8 : 4, x - 8 : x + 8] = 1
        truth[y - 6 : y + 8 : 4, x - 8 : x + 8] = -1
    return truths


def test_a_blob_over_the_disease_is_near_it_and_no_line_of_it(truths):
    blobs = np.zeros_like(truths)
    for blob, (x, y) in zip(blobs, PLACES, strict=True):
        blob[y - 8 : y + 8, x - 8 : x + 8] = 1
    plain, *_, near = read(blobs, truths)
    assert near == "1.000"
    assert plain.endswith(", 0.500")  # every second row of it is diseased


def test_a_blob_elsewhere_is_not_near_the_disease(truths):
    assert read(truths[::-1], truths)[-1] == "0.000"


def test_the_truth_is_found_line_by_line_and_less_so_smoothed(truths):
    plain, *smoothed, near = read(truths, truths)
    assert (plain, near) == ("1.000, 1.000", "1.000")
    assert all(float(cell.split(", ")[1]) < 0.7 for cell in smoothed)


def test_running_statistics_are_those_that_were_kept():
    norm = BatchNorm(1)
    norm.running_mean.fill_(1.0)
    norm.running_var.fill_(4.0)
    network = of_running_statistics(nn.Sequential(norm))
    torch.testing.assert_close(
        network(torch.full((1, 1, 2, 2), 5.0)), torch.full((1, 1, 2, 2), 2.0)
    )


def test_translations_in_training_mode_keep_the_statistics_as_they_are():
    generator = Generator(1, 4).train()
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    translate(generator, torch.rand(2, 1, 64, 64), HEALTHY, FLIPS)
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())


def test_a_file_without_a_generator_is_named(trained):
    with pytest.raises(UserError, match=r"netD_synthetic\.pt holds no generator"):
        read_generator(trained / "netD_synthetic.pt", "batch")


def test_all_readings_of_a_generator_are_printed_and_drawn(
    trained, synthetic, tmp_path, monkeypatch, capsys
):
    picture = tmp_path / "maps.png"
    words = trained / "netG_synthetic.pt", "--dataset-path", synthetic, "--figure", picture
    monkeypatch.setattr("sys.argv", ["paper_maps", *map(str, words)])
    paper_maps.main()
    _, _, *rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 6
    assert "1.000, 1.000" in rows[-1]
    assert picture.stat().st_size
