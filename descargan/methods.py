"""How each family of networks is trained. A family is an entry of METHODS and of --networks."""

from collections.abc import Callable
from typing import NamedTuple

from descargan.logistic import WARM_UP, logistic_step
from descargan.options import Options
from descargan.steps import Batch, Terms, TrainingState, wasserstein_step


class Method(NamedTuple):
    """What a training takes from its family of networks."""

    # One iteration, which the state has counted already, on a batch.
    step: Callable[[TrainingState, Batch, Options], Terms]
    # Whether maps may be read by one sign: the paper's are by both.
    signed: bool
    warm_up: int = 0  # iterations in which the learning rate rises to its value


METHODS = {
    "paper": Method(wasserstein_step, signed=False),
    "compact": Method(logistic_step, signed=True, warm_up=WARM_UP),
}
