"""What networks in training make of the validation split: the numbers and pictures of an epoch."""

import numpy as np
import torch
from torch import Tensor

from descargan import DISEASED, HEALTHY, losses, metrics
from descargan.data import ImageDataset, evenly_spread
from descargan.device import autocast
from descargan.layers import evaluating
from descargan.reading import DIFFUSION, Reading, are_too_few, count_values, describe_maps
from descargan.score_maps import choose_sign, cover_up, read, step, strengths
from descargan.translator import Translator

# Of a layer, from one that is plainly added to one of brightness 0.5, where images are in [-1, 1];
# and how many diseased images it is chosen by, at most.
COVERS = (0.0, 0.5, 1.0, 1.25, 1.5, 1.75, 2.0)
JUDGED = 50


def validate(
    translator: Translator, dataset: ImageDataset, batch_size: int, workers: int = 0
) -> dict[str, float]:
    """The numbers that say after each epoch how far training is, over the validation split.

    Accuracy of the classifier on real images, on images translated into their own class and into
    the other (the share taken for that class), Cohen's kappa on real images; MSE(a_h, r_h) of
    healthy images; where there is ground truth the localisation metrics, averaged over the diseased
    images; the threshold of the maps and the AUROC of the anomaly score, see ``reading.py``.
    "choice" is what the best weights are chosen by, without pixel labels: kappa times the share
    taken for the other class (the classifier is fooled, and worth fooling), minus the root of
    MSE(a_h, r_h) (what is healthy is kept).
    """
    labels, predicted, to_own, to_other, identity, located = [], [], [], [], [], []
    scores, of_healthy, of_diseased = [], 0, 0
    for batch, truth, classes in translator.translate_split(dataset, batch_size, workers):
        diseased, _ = translator.into(batch.images, DISEASED)
        translated = [
            (translator.classify(images) > 0.5).long().cpu() for images in (batch.healthy, diseased)
        ]
        own = torch.where(classes == HEALTHY, *translated)
        other = torch.where(classes == HEALTHY, *reversed(translated))
        labels.append(classes)
        predicted.append((batch.probability > 0.5).long().cpu())
        scores.append(batch.score.cpu())
        to_own.append(own == classes)
        to_other.append(other != classes)
        columns = (arrays(x) for x in (batch.difference, batch.score_map, truth))
        for c, difference, score, true in zip(classes.tolist(), *columns, strict=True):
            if c == HEALTHY:
                identity.append(np.square(difference).mean())
                of_healthy += count_values(score)
                continue
            of_diseased += count_values(score)
            if dataset.has_masks and true.any():  # which have no unit to compare differences in
                located.append(metrics.pixel_metrics(score, true))
            elif true.any():
                located.append(metrics.map_metrics(difference, true, score))
    labels, predicted = torch.cat(labels).numpy(), torch.cat(predicted).numpy()
    result = {
        "accuracy": metrics.accuracy(labels, predicted),
        "accuracy translated into own class": torch.cat(to_own).double().mean().item(),
        "accuracy translated into other class": torch.cat(to_other).double().mean().item(),
        "kappa": metrics.kappa(labels, predicted),
        "mse_healthy": float(np.mean(identity)),
    }
    in_unit = translator.reading.in_unit
    scores = torch.cat(scores).numpy()
    result |= describe_maps(of_healthy, of_diseased, labels, scores, in_unit, dataset.patients)
    fooled = result["kappa"] * result["accuracy translated into other class"]
    result["choice"] = fooled - result["mse_healthy"] ** 0.5
    for name in located[0] if located else ():
        values = np.array([values[name] for values in located])
        result[name] = float(np.nanmean(values)) if not np.isnan(values).all() else np.nan
    return result


def reading_of_disease(translator: Translator, dataset: ImageDataset, batch_size: int) -> Reading:
    """How the difference maps of compact networks are to be read, by the images of a split.

    Without outlines: by classes and by what the discriminator says.
    """
    sign, diseased = sign_of_disease(translator, dataset, batch_size)
    if translator.generator.kind.flow:  # edges in those maps lie beside those of the image
        return Reading(None, sign=sign)
    reading = Reading(None, sign=sign, diffusion=DIFFUSION)
    if not sign:
        return reading
    cover = cover_of_disease(translator, reading, dataset, batch_size, diseased)
    return reading.covering(cover)


def sign_of_disease(
    translator: Translator, dataset: ImageDataset, batch_size: int
) -> tuple[int, Tensor]:
    """How difference maps are to be read, by the classes of a split, without outlines.

    1 or -1 where most of the diseased images differ from healthy ones by what is brighter or darker
    in their maps, else 0 (``score_maps.choose_sign``), as where the patients are too few to say.
    Where it would be 0, only those whose translation passes for healthy are asked: what is drawn
    into the others, as those of a second disease, may be no sign of any. Returns it and the indices
    of the diseased images that were asked.
    """
    classes, patients = dataset.classes, dataset.patients
    healthy, diseased = ((classes == c).nonzero().flatten() for c in (HEALTHY, DISEASED))
    if are_too_few(classes, patients):
        return 0, diseased
    split = translator.translate_split(dataset, batch_size)
    of_images = torch.cat([strengths(batch.difference).cpu() for batch, *_ in split])
    if sign := choose_sign(of_images, classes):
        return sign, diseased
    diseased = diseased[translator.made_healthy(dataset, batch_size, diseased)]
    asked = torch.cat([healthy, diseased])
    too_few = are_too_few(classes[asked], patients[asked])
    return 0 if too_few else choose_sign(of_images[asked], classes[asked]), diseased


def cover_of_disease(
    translator: Translator,
    reading: Reading,
    dataset: ImageDataset,
    batch_size: int,
    diseased: Tensor,
) -> float:
    """The cover of those in COVERS whose layers, taken off diseased images, leave healthy ones.

    As classifier and critics of a compact discriminator say; ``reading`` is how else the maps are
    read, ``diseased`` the indices of images, of which JUDGED are looked at. The layers are as
    strong as what is drawn in their place alone: all of it would darken what is dark too much for
    the discriminator.
    """
    diseased = diseased[:: -(-len(diseased) // JUDGED)]
    doubts = dict.fromkeys(COVERS, 0.0)
    for batch, _, _ in translator.translate_split(dataset, batch_size, chosen=diseased):
        drawn = read(batch.difference, reading.sign)
        added, covering = (
            step(reading.covering(cover).layers(drawn, batch.images)) for cover in (0.0, 1.0)
        )
        for cover in COVERS:
            region = covering if cover else added
            layers = cover_up(region, region * drawn, reading.sign * batch.images, cover)
            doubts[cover] += doubt(translator, batch.images - reading.sign * layers) * len(layers)
    return min(COVERS, key=doubts.__getitem__)


@torch.inference_mode()
def doubt(translator: Translator, images: Tensor) -> float:
    """How far a compact discriminator is from taking images for real healthy ones, a mean."""
    with evaluating(translator.discriminator), autocast(translator.device, translator.amp):
        verdict = translator.discriminator(images)
    terms = (verdict.disease, verdict.fakeness[..., HEALTHY])
    return sum(losses.logistic_loss(term, 0.0).item() for term in terms)


def translate_examples(
    translator: Translator, examples: tuple[Tensor, Tensor, Tensor]
) -> dict[str, np.ndarray]:
    """Columns of the dashboard's pictures, each (B, H, W): see ``figures.example_figure``.

    ``examples``: images, ground truth and classes, as a data set gives them.
    """
    images, truth, classes = examples
    batch = translator.translate(images)
    diseased, _ = translator.into(batch.images, DISEASED)
    healthy_ones = (classes == HEALTHY).view(-1, 1, 1, 1).to(batch.images.device)
    other = torch.where(healthy_ones, diseased, batch.healthy)
    once = Translator(translator.generator, translator.discriminator, translator.device)
    back, _ = once.into(other, classes)
    columns = {
        "image": batch.images,
        "pseudo-healthy": batch.healthy,
        "pseudo-diseased": diseased,
        "reconstruction": back,
        "difference map": batch.difference,
    }
    if truth.any():  # NaN where the pixels of a diseased image are not known
        known = (classes == HEALTHY) | truth.flatten(1).any(dim=1)
        columns["ground truth"] = torch.where(known.view(-1, 1, 1, 1), truth, torch.nan)
    return {name: arrays(column) for name, column in columns.items()}


def example_batch(dataset: ImageDataset, each: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """A fixed batch of a split: ``each`` diseased images, then a healthy one, evenly spread."""
    return dataset.__getitems__(evenly_spread(dataset, each))


def arrays(batch: Tensor) -> np.ndarray:
    """(B, 1, H, W) as numpy (B, H, W)."""
    return batch[:, 0].cpu().numpy()
