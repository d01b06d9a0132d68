"""All options of a call, by what was typed: what the run in --save-dir hands down goes before the
recipe, the recipe before the defaults, and what was typed before all of them.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from descargan.checkpoints import Run, find_run, read_weights, sizes_of
from descargan.commands import command
from descargan.distributed import restarts
from descargan.errors import FileError, UserError, warn
from descargan.kinds import KINDS
from descargan.layout import has_class, read_preparation
from descargan.maps import MAP_KINDS, suits
from descargan.options import (
    BY_NETWORKS,
    FIELDS,
    MODES,
    RECIPES,
    Options,
    before,
    checked,
    fast_to_deformation,
    flagged,
    from_json,
    is_choice,
    works_in,
)
from descargan.pairs import read_rows

# Networks that come with the project: below the current folder, or beside the program; and the name
# of the folder beside it where those are that they come after.
SHIPPED = (Path("save_nets/pretrained"), Path(__file__).parents[1] / "save_nets" / "pretrained")
FIRST = "pretrained-first"
# What a resumed training does not take from its run: that of the call, and of the machine.
OF_THE_CALL = ("mode", "save_dir", "resume", "workers")


def settle(typed: Mapping[str, object]) -> Options:
    """All options, by those that were typed.

    A test takes what the weights depend on from the run in --save-dir, a resumed training all
    options of the run. Raises UserError where what was typed contradicts the run.
    """
    typed = dict(typed)
    if typed.get("after") is not None:  # it is stored, and looked for from other folders
        typed["after"] = Path(typed["after"]).absolute()
    recipe = RECIPES[typed.get("recipe", Options.recipe)]
    options = Options(**{**recipe, **typed})
    refuse_idle(typed, options.mode)
    refuse_of_paper(typed, options)
    if restarts() and options.resume == "off":
        options = replace(options, resume="auto")
    if options.mode == "predict" and options.input is None:
        raise UserError("--mode predict needs --input: an image or a folder of images")
    if options.maps is not None:
        options = replace(options, dataset=typed.get("dataset", "Folder"))
    elif options.mode != "train" or options.resume != "off":
        run = find_run(options.save_dir, typed.get("dataset"))
        run = run or Run(options.save_dir, options.dataset)
        if options.mode != "train":
            options = settle_use(options, typed, run)
        elif run.is_resumable():
            options = settle_resumed(options, typed, run)
        elif candidates := run.candidates():
            options = settle_resumed(options, typed, candidates[0])
            options = replace(options, translation="auto")
    if options.translation == "auto" and (options.recipe, options.networks) != ("fast", "compact"):
        raise UserError(
            "--translation auto chooses for --recipe fast and its networks: name a kind"
        )
    kind = KINDS[options.dataset]
    path = Path(kind.folder) if options.dataset_path is None else options.dataset_path
    options = as_prepared(options, path)
    inherited = options.healthy_class if "healthy_class" not in typed else None
    if inherited is not None and options.mode == "test" and not has_class(path, inherited):
        options = replace(options, healthy_class=None)  # another data set, with names of its own
    refuse_unused(typed, options)
    robust = options.recipe != "paper" and not kind.prepared
    options = replace(
        options,
        scaling=options.scaling or ("percentile" if robust else "minmax"),
        axis=options.axis or "axial",
        slices=options.slices or 0.0,
        dataset_path=path,
        results_dir=options.results_dir or results_folder(options),
        flip=kind.flip if options.flip is None else options.flip,
    )
    refuse_own_maps(options)
    if options.against is not None:
        read_rows(options.against, ())
    return options


def as_prepared(options: Options, path: Path) -> Options:
    """The options of a training, which hands down to predictions how its images were prepared."""
    if options.mode != "train" or KINDS[options.dataset].prepared:
        return options
    prepared = read_preparation(path)
    given = {name: getattr(options, name) for name in prepared}
    return replace(options, **{k: prepared[k] if v is None else v for k, v in given.items()})


def refuse_idle(typed: Mapping[str, object], mode: str) -> None:
    """Raise UserError where an option was typed that does nothing in the mode."""
    for name, value in typed.items():
        if (name, value) == ("visdom", "off"):  # so that one list of options serves every mode
            continue
        if not works_in(name, mode):
            others = " or ".join(other for other in MODES if works_in(name, other))
            raise UserError(
                f"--{name.replace('_', '-')} does nothing with --mode {mode}: leave it out; "
                f"it is for --mode {others}"
            )
        if typed.get("maps") is not None and not works_in(name, "maps"):
            raise UserError(
                f"--{name.replace('_', '-')} does nothing with --maps, which takes no networks: "
                "leave it out"
            )


def refuse_own_maps(options: Options) -> None:
    """Raise UserError where there are no maps to test, or where a test puts its own."""
    if options.maps is None:
        return
    if not options.maps.is_dir():
        raise FileError(f"{options.maps} is no folder: pass that of the maps to --maps")
    own = options.results_dir / "difference_maps"
    maps, written = options.maps.resolve(), own.resolve()
    if maps.is_relative_to(written) or written.is_relative_to(maps):
        raise UserError(
            f"--maps {options.maps} is, holds or lies in {own}, which this test writes anew: pass "
            "another --results-dir"
        )


def refuse_of_paper(typed: Mapping[str, object], options: Options) -> None:
    """Raise UserError where an option of the paper's networks was typed of a training of others.

    ``options``: by what was typed; a run that goes on may be told again what it has.
    """
    if options.mode != "train" or options.networks == "paper":
        return
    for name in ("save_memory", "generator_norm", "penalty_of"):
        if typed.get(name):
            raise UserError(
                f"--{name.replace('_', '-')} is for the paper's networks and does nothing with "
                "compact ones: leave it out"
            )
    # Of two kinds of change that are tried the second has the paper's networks.
    if typed.get("critic_steps", 1) != 1 and options.translation != "auto":
        raise UserError(
            "--critic-steps is for the paper's networks: compact ones take a step of the "
            "generator after each of the critic, so leave it out"
        )


def refuse_unused(typed: Mapping[str, object], options: Options) -> None:
    """Raise UserError where an option was typed that these images do not use.

    A test may repeat what its run says.
    """
    if "scaling" in typed and options.mode == "train" and KINDS[options.dataset].prepared:
        raise UserError(
            f"--scaling does nothing with --dataset {options.dataset}, whose images are in "
            "[-1, 1] as they are: leave it out"
        )


def results_folder(options: Options) -> Path:
    """Where a test or a prediction writes to: a folder of the run, which no other run has.

    What the networks that come with the project find goes to the current folder, and so does what
    is said of maps from files.
    """
    if options.maps is not None:
        return Path("results", "maps", options.maps.resolve().name)
    if is_shipped(options.save_dir):
        return Path("results", "pretrained", options.mode)
    return options.save_dir / "results" / options.mode


def is_shipped(folder: Path) -> bool:
    """Whether a folder is one of the networks that come with the project, or of their first."""
    folders = [x for shipped in SHIPPED for x in (shipped, shipped.with_name(FIRST))]
    return folder.resolve() in [shipped.resolve() for shipped in folders]


def settle_use(options: Options, typed: Mapping[str, object], run: Run) -> Options:
    """The options of a test or a prediction: sizes are read off the weights."""
    if "save_dir" not in typed and not run.is_used():
        run = shipped(run, options.mode)
    if not run.folder.is_dir():
        raise FileError(f"{run.folder} does not exist: train first, or pass another --save-dir")
    if is_shipped(run.folder) and not run.is_used():
        raise UserError(
            f"{run.folder} holds networks that know synthetic ellipses alone, none of "
            f"--dataset {run.dataset}: train on your own images first, into another --save-dir"
        )
    if run.candidates() and not run.generator.exists():
        raise UserError(
            f"the training in {run.folder} was stopped while it tried kinds of change: go on with "
            f"it first, with {command('main.py', '--resume', '--save-dir', run.folder)}"
        )
    weights = run.weights(options.weights)
    if options.weights == "best" and run.generator.exists() and not weights[0].exists():
        raise UserError(f"{run.folder} holds no best weights: leave --weights out, for the last")
    generator, discriminator = map(read_weights, weights)
    saved = saved_options(run)
    if saved:
        saved = {**{name: before(name) for name in flagged("inherited")}, **saved}
    for name in flagged("binding"):
        if saved.get(name) is not None and typed.get(name, saved[name]) != saved[name]:
            raise UserError(
                f"--{name.replace('_', '-')} is {saved[name]} in the run in {run.folder}, whose "
                "weights are no others': leave it out"
            )
    if options.after is not None and saved.get("after") is None:
        raise UserError(
            f"the run in {run.folder} was not trained to come after another: leave --after out"
        )
    inherited = {name: saved[name] for name in flagged("inherited") if name in saved}
    inherited |= sizes_of(generator, discriminator)
    size = inherited["image_size"]
    kind = MAP_KINDS.get(inherited.get("translation"), MAP_KINDS["image"])
    if not suits(kind, typed.get("image_size", size), size):
        more = " or more" if kind.changes_input else ""
        raise UserError(
            f"the networks in {run.folder} are for images of {size} x {size}{more}: leave "
            "--image-size out, or train others on images of that size"
        )
    inherited |= {"save_dir": run.folder, "dataset": run.dataset}
    return replace(options, **{k: v for k, v in inherited.items() if k not in typed})


def saved_options(run: Run) -> dict[str, object]:
    """The options that a run was trained with, empty where it keeps none.

    A folder of first networks that lies beside the run is one as seen from there.
    Raises FileError where one has a value that this version lacks, as a kind of map has.
    """
    saved = run.read_description()["options"]
    for name, value in saved.items():
        if name not in FIELDS:
            continue
        try:
            saved[name] = from_json(name, value)
        except TypeError:
            raise FileError(f"{run.options} is damaged: restore or remove it") from None
        if not is_choice(name, value):
            raise FileError(
                f"{run.options} says --{name.replace('_', '-')} {value}, which this version does "
                f"not have: take the one that trained it, or train anew with one of "
                f"{', '.join(FIELDS[name].metadata['choices'])}"
            )
    after = saved.get("after")
    if after is not None and not after.is_absolute():
        saved["after"] = (run.folder / after).resolve()
    return saved


def settle_resumed(options: Options, typed: Mapping[str, object], run: Run) -> Options:
    """The options of a run that goes on. What its file lacks was not there: the default then.

    A run that was told to train on CUDA goes on where there is none, too.
    Where the run has chosen the deformation recipe, and its fast one is typed again, a typed value
    of that which has given way is the recipe's, not the user's: see ``choice.with_recipe``.
    """
    saved = saved_options(run)
    if run.choice.exists() and typed.get("recipe") == "fast":
        gave_way = fast_to_deformation()
        typed = {n: v for n, v in typed.items() if (v, saved.get(n)) != gave_way.get(n)}
    if unknown := sorted(saved.keys() - FIELDS.keys()):
        warn(f"{run.options} holds options that this version lacks: {', '.join(unknown)}")
    free = flagged("free")
    fixed = {n: saved.get(n, before(n)) for n in FIELDS if n not in free}
    free_in_training = [n for n in free if works_in(n, "train") and n not in OF_THE_CALL]
    kept = {n: saved[n] for n in free_in_training if n in saved}
    if kept.get("device") == "cuda":
        kept["device"] = "auto"
    try:
        kept |= checked({"visdom_server": kept.get("visdom_server")})
    except UserError:  # earlier versions took any
        del kept["visdom_server"]
    resumed = {"resume": options.resume}
    options = Options(**{**resumed, **kept, **typed, **fixed, "dataset": run.dataset})
    if options.decay != "none" and options.epochs != kept.get("epochs", options.epochs):
        warn(f"the learning rate now falls over {options.epochs} epochs, not {kept['epochs']}")
    for name in (n for n in fixed if n in typed):
        had = taken(fixed[name], name, options.networks)
        if typed[name] not in (had, "auto"):  # auto: as it was chosen
            raise UserError(
                f"--{name.replace('_', '-')} is {had} in the run that --resume goes on with: "
                "leave it out, or train into another --save-dir"
            )
    return options


def taken(value: object, name: str, networks: str) -> object:
    """What a value of an option stands for; None for that which the networks take."""
    return BY_NETWORKS[networks].get(name, "not set") if value is None else value


def shipped(run: Run, mode: str) -> Run:
    """The weights that come with the project, if there are some for the kind of data.

    They know synthetic ellipses alone, so a prediction has to name them: raises UserError.
    """
    for folder in SHIPPED:
        pretrained = Run(folder, run.dataset)
        if not pretrained.is_used():
            continue
        if mode == "predict":
            raise UserError(
                f"{run.folder} holds no run: name one with --save-dir. The networks that come with "
                f"the project know synthetic ellipses alone: --save-dir {folder} takes them"
            )
        print(f"{run.folder} holds no run yet: these are the weights that come with the project")
        return pretrained
    return run
