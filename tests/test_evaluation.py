"""The numbers of a validation, where outlines are the ground truth."""

import numpy as np
import pytest
import torch
from PIL import Image

from descargan import DISEASED, HEALTHY, compact, evaluation, metrics, reading
from descargan.data import ImageDataset
from descargan.evaluation import reading_of_disease, translate_examples, validate
from descargan.models import Discriminator, Generator
from descargan.reading import Reading
from descargan.translations import Translations
from descargan.translator import Translator


@pytest.fixture
def outlined(tmp_path):
    """A split of two images of each class, with a mask of each diseased one."""
    rng = np.random.default_rng(0)
    for i, c in enumerate(("healthy", "healthy", "sick", "sick")):
        image, mask = rng.integers(0, 256, (64, 64), np.uint8), np.zeros((64, 64), np.uint8)
        mask[10 : 20 + 5 * i, 30:50] = 255
        folders = (c, "masks") if c == "sick" else (c,)
        for folder, picture in zip(folders, (image, mask), strict=False):
            path = tmp_path / "validate" / folder / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
    return ImageDataset("Folder", tmp_path, "validate", 64)


def test_the_pixels_of_a_diseased_image_without_outline_are_not_shown_as_known(outlined):
    outlined.masks[2].unlink()
    dataset = ImageDataset("Folder", outlined.root, "validate", 64)
    networks = Generator(base_filters=2), Discriminator(base_filters=2, image_size=64)
    columns = translate_examples(Translator(*networks), dataset.__getitems__([0, 2, 3]))
    healthy, unknown, known = columns["ground truth"]
    assert np.isnan(unknown).all()
    assert not healthy.any()
    np.testing.assert_array_equal(np.unique(known), (0, 1))
    assert known.sum() == 25 * 20


def test_pixels_are_scored_by_outlines_and_no_difference_is_compared_with_one(outlined):
    torch.manual_seed(0)
    translator = Translator(Generator(base_filters=2), Discriminator(base_filters=2, image_size=64))
    translator.reading = Reading(None, sign=1)
    found = validate(translator, outlined, batch_size=3)
    images, truth, _ = outlined.__getitems__([2, 3])
    scores = translator.translate(images).score_map
    pairs = list(zip(truth[:, 0].numpy() > 0, scores[:, 0].numpy(), strict=True))
    assert found["pixel_auroc"] == pytest.approx(np.mean([metrics.auroc(*p) for p in pairs]))
    assert found["pixel_auprc"] == pytest.approx(np.mean([metrics.auprc(*p) for p in pairs]))
    assert not {"map_ssim", "map_mse"} & found.keys()
    shown = reading.level_of(reading.count_values(scores.numpy()))
    assert found["level"] == pytest.approx(shown)  # of the diseased images alone


@pytest.mark.parametrize(("patients", "judged"), [("abcd", True), ("aabb", False)])
def test_the_verdict_of_a_run_is_over_patients(outlined, monkeypatch, patients, judged):
    monkeypatch.setattr(reading, "FEWEST", 2)
    names = [path.relative_to(outlined.root).as_posix() for path in outlined.paths]
    lines = [f"{name},{patient}\n" for name, patient in zip(names, patients, strict=True)]
    (outlined.root / "manifest.csv").write_text("file,patient\n" + "".join(lines))
    dataset = ImageDataset("Folder", outlined.root, "validate", 64)
    networks = Generator(base_filters=2), Discriminator(base_filters=2, image_size=64)
    found = validate(Translator(*networks), dataset, batch_size=3)
    assert np.isfinite(found["auroc_anomaly_low"]) == judged


class Waves:
    """Translations of waves, half of them under fluid of one level, or 0 with something added.

    The generator takes off a blob that is strongest in the middle.
    """

    def __init__(self, level: float, sign: int) -> None:
        y, x = torch.meshgrid(*2 * [torch.linspace(-1, 1, 64)], indexing="ij")
        self.truth = -0.6 * torch.cos(15 * x).expand(20, 1, 64, 64)
        self.classes = torch.tensor([HEALTHY, DISEASED] * 10)
        ill = (self.classes == DISEASED).view(-1, 1, 1, 1)
        alpha = 0.5 * ill * ((y.abs() < 0.4) & (x.abs() < 0.6))
        added = alpha * (level - self.truth) if level else 0.4 * alpha
        drawn = alpha * torch.exp(-(x**2 + y**2) / 0.6)
        images = sign * (self.truth + added)
        difference = sign * drawn * (2 - images)
        difference *= added.sum() / drawn.mul(2 - images).sum()
        self.patients = np.arange(20)
        self.truth, certain = sign * self.truth, self.classes.float()
        unread = difference, certain  # score map and anomaly score, which nothing here takes
        self.batch = Translations(images, images - difference, difference, certain, None, *unread)
        self.generator = compact.Generator(1, "layer")

    def translate_split(self, dataset, batch_size, workers=0, chosen=None):
        seen = torch.arange(len(self.classes)) if chosen is None else chosen
        columns = (None if x is None else x[seen] for x in self.batch)
        self.seen = seen
        yield Translations(*columns), self.truth[seen], self.classes[seen]

    def suspicion(self, images):
        return torch.full((len(images),), -1.0)

    def made_healthy(self, dataset, batch_size, chosen):
        self.seen = chosen
        return self.suspicion(chosen) < 0

    def doubt(self, translator, images):
        """That of a discriminator that knows the healthy images."""
        return (images - self.truth[self.seen]).square().mean().item()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("level", "cover"), [(0.5, 2.0), (0.7, 1.5), (1.0, 1.0), (2.0, 0.5), (0.0, 0.0)]
)
def test_how_a_layer_covers_is_chosen_by_the_discriminator(monkeypatch, sign, level, cover):
    waves = Waves(level, sign)
    monkeypatch.setattr(evaluation, "doubt", waves.doubt)
    diffusion = 0.03 if cover else 0.04  # what shines through a layer that covers is mottled
    assert reading_of_disease(waves, waves, 10) == Reading(None, "", sign, diffusion, cover)


def test_where_images_disagree_those_that_are_made_healthy_are_asked(monkeypatch):
    """As those of another disease, into which the generator draws what it is not."""
    waves = Waves(0.7, 1)
    others = torch.arange(len(waves.classes)) % 4 == 3  # half of the diseased ones
    others = others & (waves.classes == DISEASED)
    waves.batch.difference[others] *= -1
    monkeypatch.setattr(evaluation, "doubt", waves.doubt)
    monkeypatch.setattr(reading, "FEWEST", 5)
    assert reading_of_disease(waves, waves, 10).sign == 0
    monkeypatch.setattr(waves, "suspicion", lambda images: others[waves.seen].float() - 0.5)
    assert reading_of_disease(waves, waves, 10) == Reading(None, "", 1, 0.03, 1.5)


def test_where_most_agree_all_are_asked(monkeypatch):
    """Whatever the discriminator says of their translations."""
    waves = Waves(0.7, 1)
    monkeypatch.setattr(evaluation, "doubt", waves.doubt)
    monkeypatch.setattr(waves, "suspicion", lambda images: torch.ones(len(images)))
    assert reading_of_disease(waves, waves, 10) == Reading(None, "", 1, 0.03, 1.5)


def test_what_a_layer_of_few_images_covers_is_not_known(monkeypatch):
    waves = Waves(0.8, 1)
    monkeypatch.setattr(reading, "FEWEST", 11)
    assert reading_of_disease(waves, waves, 10) == Reading(None, sign=0, diffusion=0.04)


def test_images_of_few_patients_give_no_sign():
    waves = Waves(0.8, 1)
    waves.patients = np.arange(20) // 4
    assert reading_of_disease(waves, waves, 10).sign == 0


def test_maps_of_what_moves_are_read_as_they_are():
    waves = Waves(0.8, 1)
    waves.generator = compact.Generator(1, "combined")
    assert reading_of_disease(waves, waves, 10) == Reading(None, sign=1)


def test_a_discriminator_doubts_what_it_takes_for_diseased_or_for_fake():
    torch.manual_seed(0)
    networks = compact.Generator(1, "layer"), compact.Discriminator(1, 64)
    translator, images = Translator(*networks), torch.rand(3, 1, 64, 64)
    before = evaluation.doubt(translator, images)
    for exit_ in networks[1].exits:
        torch.nn.init.zeros_(exit_.weight)
        exit_.bias.data = torch.tensor([-9.0, 9.0, 0.0])  # disease, and realness of either class
    assert before > 1
    assert evaluation.doubt(translator, images) == pytest.approx(0, abs=1e-3)
