"""Which kind of map a data set wants: each is trained for a short while, and the better goes on.

A disease adds to an image, or moves tissue; a user need not know which. What is added is found by
the fast recipe's networks and losses, what moves by the deformation recipe's. Each is judged
by how many translations its classifier takes for the other class, less what becomes of healthy
images, and by how well its maps tell the classes apart. No outlines are needed.
"""

import shutil
from dataclasses import replace

import torch

from descargan.checkpoints import CANDIDATES, Run
from descargan.distributed import Process, largest
from descargan.errors import warn
from descargan.files import write_json
from descargan.models import check_size
from descargan.options import RECIPES, Options, fast_to_deformation
from descargan.training import TrainingResult, train

EPOCHS = {"layer": 4, "fine-deformation": 5}  # of the short training: the latter begins later


def with_recipe(options: Options, kind: str) -> Options:
    """The options of the recipe that finds this kind of change, but for what was typed.

    A value counts as typed where it is not that of the fast recipe, whose options these are.
    """
    changes = {}
    if kind == RECIPES["deformation"]["translation"]:
        values = fast_to_deformation().items()
        changes = {name: new for name, (old, new) in values if getattr(options, name) == old}
    return replace(options, **{**changes, "translation": kind})


def train_best_kind(options: Options, device: torch.device, process: Process) -> TrainingResult:
    """Train every kind of CANDIDATES for its EPOCHS, and the best of them to the end.

    It goes on from where it was, so that its weights are those of a training that names it. Until
    then the candidates lie in ``candidates/`` in the folder of the run, and a training that was
    stopped goes on with them. ``choice_DATASET.json`` keeps what each reached.
    """
    check_size(2 * (options.image_size,))  # of the candidates with the paper's networks
    run = Run(options.save_dir, options.dataset)
    scores: dict[str, float] = {}
    learnt = False
    for kind in CANDIDATES:
        if process.is_first:
            print(f"What does the disease do? A short training of --translation {kind} first:")
        folder = run.candidate(kind).folder
        short = replace(with_recipe(options, kind), save_dir=folder, resume="auto")
        result = train(short, device, process, EPOCHS[kind])
        if result.stopped_by:
            return result
        scores[kind] = worth(result)
        learnt = learnt or any("generator/total" in line for line in result.history)
    best = CANDIDATES[largest(best_place(scores, process), device, process)]
    if process.is_first:
        if not learnt:
            warn(
                f"no generator has learnt anything in {options.epochs} epochs, so the choice means "
                "nothing: pass more --epochs, or name a --translation"
            )
        reached = ", ".join(f"{kind} {score:.3f}" for kind, score in scores.items())
        print(f"--translation {best} suits these images best ({reached}): it goes on to the end")
        write_json(run.choice, {"translation": best, "scores": scores})
        take_over(run.candidate(best), run)
    largest(0, device, process)  # the others wait until it has moved
    return train(replace(with_recipe(options, best), resume="on"), device, process)


def worth(result: TrainingResult) -> float:
    """What a candidate reached at its last validation: its choice, if its maps tell the classes.

    A generator may deceive the classifier by what is not the disease. It does so in healthy images,
    too, and then the anomaly score does not know them: so times 2 AUROC - 1 of that score.
    """
    reached = [x for x in result.history if x.get("choice") is not None]
    if not reached:
        return -1.0
    choice, auroc = reached[-1]["choice"], reached[-1].get("auroc_anomaly") or 0.5
    return min(choice, choice * max(2 * auroc - 1, 0.0))


def best_place(scores: dict[str, float], process: Process) -> int:
    """The place of the best candidate, as the first process sees it; 0 to the others."""
    return CANDIDATES.index(max(scores, key=scores.__getitem__)) if process.is_first else 0


def take_over(candidate: Run, run: Run) -> None:
    """Make a candidate's files those of the run, its training state last.

    Until the state is there, in one step, the run has not begun, so that half of a copy is none.
    The training that goes on with it removes the candidates: ``Run.remove_remains``.
    """
    states = (candidate.state, candidate.previous_state)
    for path in candidate.folder.iterdir():
        if path.is_file() and path not in states:
            shutil.copy2(path, run.folder / path.name)
    candidate.state.replace(run.state)
