"""The numbers of a validation, where outlines are the ground truth."""

import numpy as np
import pytest
import torch
from PIL import Image

from descargan import metrics
from descargan.data import ImageDataset
from descargan.evaluation import validate
from descargan.models import Discriminator, Generator
from descargan.reading import Reading
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
