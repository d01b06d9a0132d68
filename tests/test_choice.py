"""The choice of the kind of map, without outlines."""

import json
from pathlib import Path

import pytest
import torch
from conftest import assert_refused, program, succeed

from descargan import choice, data, logistic
from descargan.choice import judge_translations
from descargan.data import ImageDataset
from descargan.options import Options
from descargan.translator import Translations


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(data, "BATCHES", 4)
    monkeypatch.setattr(logistic, "CRITIC_ALONE", 2)
    monkeypatch.setattr(choice, "EPOCHS", 1)


def arguments(folder: Path, synthetic: Path) -> list:
    fixed = [
        "--recipe",
        "fast",
        "--translation",
        "auto",
        "--image-size",
        64,
        "--batch-size",
        4,
        "--visdom",
        "off",
    ]
    return ["main.py", *fixed, "--dataset-path", synthetic, "--save-dir", folder, "--log-every", 1]


class Translating:
    """Translations that change every image by ``change``; a judge that believes ``believed``."""

    def __init__(self, dataset: ImageDataset, change: float, believed: float = 0.0) -> None:
        self.dataset, self.change, self.believed = dataset, change, believed

    def translate_split(self, dataset, batch_size):
        for i in range(0, len(dataset), batch_size):
            images, truth, classes = dataset.__getitems__(
                list(range(len(dataset)))[i:][:batch_size]
            )
            difference = torch.full_like(images, self.change)
            probability = torch.zeros(len(images))
            yield (
                Translations(images, images - difference, difference, probability, None),
                truth,
                classes,
            )

    def classify(self, images):
        return torch.full((len(images),), 1 - self.believed)


def test_a_kind_is_as_good_as_a_judge_believes_it_less_what_it_changes_of_healthy_ones(synthetic):
    dataset = ImageDataset("Synthetic", synthetic, "validate", 64)
    kind = Translating(dataset, change=0.1)
    judge = Translating(dataset, change=0.0, believed=0.8)
    found = judge_translations(kind, judge, dataset, Options(batch_size=3))
    assert found == pytest.approx(0.8 - 0.1)


def test_the_best_kind_goes_on_and_is_recorded(short, synthetic, tmp_path, monkeypatch):
    monkeypatch.setattr(choice, "compare", lambda *_: {"veil": 0.2, "combined": 0.6})
    printed = succeed(*arguments(tmp_path, synthetic), "--epochs", 2).stdout
    assert "--translation combined suits the images best (veil 0.200, combined 0.600)" in printed
    chosen = json.loads((tmp_path / "choice_synthetic.json").read_text())
    assert chosen == {"translation": "combined", "scores": {"veil": 0.2, "combined": 0.6}}
    options = json.loads((tmp_path / "options_synthetic.json").read_text())["options"]
    assert (options["translation"], options["epochs"]) == ("combined", 2)
    lines = (tmp_path / "metrics_synthetic.jsonl").read_text().splitlines()
    assert [json.loads(x)["iteration"] for x in lines if '"losses"' in x] == list(range(1, 9))
    assert not (tmp_path / "candidates").exists()


def test_candidates_judge_each_other(short, synthetic, tmp_path):
    succeed(*arguments(tmp_path / "run", synthetic), "--epochs", 1)
    chosen = json.loads((tmp_path / "run" / "choice_synthetic.json").read_text())
    assert set(chosen["scores"]) == set(choice.CANDIDATES)
    assert chosen["scores"][chosen["translation"]] == max(chosen["scores"].values())
    assert all(-2 < score <= 1 for score in chosen["scores"].values())


def test_the_papers_networks_have_no_candidates(synthetic, tmp_path):
    result = program(*arguments(tmp_path, synthetic), "--networks", "paper")
    assert_refused(result, "--translation auto", "--networks compact")
