"""Networks that come after others, and learn what those leave: of two diseases in one group.

One kind of change suits one disease. What the first networks do not make healthy is another one,
or the same where they miss it, as their discriminator says: no labels are needed. The second
networks learn from all healthy images and from those alone. In tests and predictions they
translate the images where the first discriminator doubts their result less: see
``Translator.translate``.
"""

import torch

from descargan import DISEASED
from descargan.data import ImageDataset, evenly_spread
from descargan.errors import UserError
from descargan.options import Options
from descargan.settings import settle
from descargan.translator import Translator

COUNTED = 200  # diseased images, at most, that are looked at


def open_splits(options: Options, say: bool) -> tuple[ImageDataset, ImageDataset]:
    """The training and the validation split, without what networks that come first make healthy.

    ``say`` how many images are left. Raises UserError where no diseased one is.
    """
    first = None if options.after is None else Translator.first_of(options)
    splits = [ImageDataset.open(options, split) for split in ("train", "validate")]
    if first is not None:
        splits = [rest_of(split, first, options, say) for split in splits]
    return tuple(splits)


def rest_of(dataset: ImageDataset, first: Translator, options: Options, say: bool) -> ImageDataset:
    """The healthy images of a split, and the diseased ones that ``first`` does not make healthy."""
    diseased = (dataset.classes == DISEASED).nonzero().flatten()
    made_healthy = diseased[first.made_healthy(dataset, options.batch_size, diseased)]
    number, split = len(diseased) - len(made_healthy), dataset.split
    if not number:
        raise UserError(
            f"the networks of --after {options.after} make all {len(diseased)} diseased images of "
            f"split '{split}' healthy: nothing is left to learn, so leave it out"
        )
    if say:
        print(
            f"{number} of {len(diseased)} diseased images of '{split}' are left by {options.after}"
        )
    left = torch.ones(len(dataset), dtype=torch.bool)
    left[made_healthy] = False
    return dataset.only(left.nonzero().flatten())


def count_left(options: Options) -> tuple[int, int]:
    """How many diseased validation images a run does not make healthy, and of how many it is.

    At most COUNTED are looked at, evenly spread; none where its networks cannot come first.
    ``options``: those of its training.
    """
    given = {"mode": "test", "save_dir": options.save_dir, "dataset": options.dataset}
    settled = settle({**given, "dataset_path": options.dataset_path, "device": options.device})
    if settled.networks != "compact" or settled.after is not None:
        return 0, 0
    dataset = ImageDataset.open(settled, "validate")
    diseased = torch.tensor(evenly_spread(dataset, COUNTED, healthy=0))
    healthy = Translator.of(settled).made_healthy(dataset, settled.batch_size, diseased)
    return int((~healthy).sum()), len(healthy)
