"""What a test comes to: a verdict in one sentence, and the small tables that it rests on."""

from collections.abc import Mapping

from descargan.reading import FEWEST
from descargan.report import Cell, Table
from descargan.scores import decimals

MAPS = {"pixel_auroc": "pixel AUROC", "pixel_auprc": "pixel AUPRC", "dice_best": "best Dice"}
CLASSES = {
    "auroc_anomaly": "AUROC of the anomaly score",
    "auroc_class": "AUROC of the classifier",
    "accuracy": "accuracy of the classifier",
    "mse_healthy": "MSE(a_h, r_h)",
}
OF_MAPS = (
    "How well the score map finds the diseased pixels: means over the outlined images, with 95 % "
    "intervals. The rows below the first need no network; a method that does not beat them has "
    "found nothing. Where darker pixels are read, the intensity is that of the negative. Best Dice "
    "is that of the threshold which is best for these very images."
)
OF_CLASSES = (
    "The anomaly score of an image is the mean of its score map; an AUROC of 0.5 is chance. The "
    "classifier is trained beside the maps, and its P(disease) is not calibrated. MSE(a_h, r_h) is "
    "how much healthy images are changed: 0 leaves them as they are."
)


def verdict(found: dict) -> str:
    """What a test shows, in a sentence without its full stop.

    ``found``: what :func:`descargan.testing.measure` gives. Where patients have several images,
    patients are what counts, outlined ones too: images of one are alike.
    """
    what = found["intervals_over"]
    few = [f"{number} {name}" for name, number in found[what].items() if number < FEWEST]
    if few:
        return f"too few test {what} to judge: {' and '.join(few)}, fewer than {FEWEST}"
    measured = found["metrics"]
    if found["outlined"] >= FEWEST:
        return of_pixels(measured["pixel_auprc"], found["trivial_maps"])
    area = measured["auroc_anomaly"]
    if not area["low"] > 0.5:
        return (
            "nothing found: the anomaly score does not tell diseased test images from healthy ones "
            f"(AUROC {in_words(area)})"
        )
    return (
        f"the maps tell diseased test images from healthy ones (AUROC {in_words(area)}); whether "
        "they show the disease, or what else the groups differ in, takes outlines to say"
    )


def of_pixels(ours: dict, trivial: Mapping[str, dict]) -> str:
    """How the maps compare with the best of those that need no network."""
    areas = {name: entries["pixel_auprc"]["value"] for name, entries in trivial.items()}
    best = max(areas, key=areas.get)
    if ours["low"] > areas[best]:
        said = "the maps find the disease better than any map that needs no network"
    elif ours["high"] < areas[best]:
        said = "nothing found: a map that needs no network finds more of the disease"
    else:
        said = "the maps are not shown to find more than a map that needs no network"
    return f"{said} (pixel AUPRC {in_words(ours)}; {best}: {areas[best]:.3f})"


def in_words(entry: dict) -> str:
    return f"{entry['value']:.3f}, 95 % interval {entry['low']:.3f} to {entry['high']:.3f}"


def tables(found: dict, method: str) -> list[Table]:
    """Maps by what they find, where there are outlines, and images by their classes."""
    measured = found["metrics"]
    of_classes = [(title, [cell(measured[n])]) for n, title in CLASSES.items() if n in measured]
    result = [Table(("classes", "value"), of_classes, OF_CLASSES)]
    if found["trivial_maps"]:
        methods = [(method, measured), *found["trivial_maps"].items()]
        rows = [(name, [cell(entries[n]) for n in MAPS]) for name, entries in methods]
        result.insert(0, Table(("maps", *MAPS.values()), rows, OF_MAPS))
    return result


def cell(entry: dict) -> Cell:
    value, low, high = (short(entry[key]) for key in ("value", "low", "high"))
    return Cell(value, f"{low} to {high}")


def short(value: float) -> str:
    return f"{value:.3f}" if abs(value) >= 0.001 or value == 0 else decimals(value)
