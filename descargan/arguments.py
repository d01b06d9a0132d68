"""The command line of main.py, parsed once, to what was typed; ``settings.py`` settles the rest."""

import argparse
from collections.abc import Sequence

from descargan.cli import Parser
from descargan.options import FIELDS

PARSING = ("help", "type", "choices", "metavar", "nargs", "const")  # keywords of argparse
DESCRIPTION = """\
Train or test DeScarGAN: translate images of patients into healthy ones, and show where they differ.

examples:
  python main.py                                              train on ./warp-set
  python main.py --mode test                                  test what was trained
  python main.py --dataset-path DIR --save-dir runs/one       another data set, another run
  python main.py --resume --save-dir runs/one                 go on with it
  python main.py --mode predict --input FILE_OR_FOLDER        images without labels
"""


def build_parser() -> Parser:
    """A parser of one option for each field of Options, which gives what was typed alone."""
    parser = Parser(
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    group = parser
    for name, entry in FIELDS.items():
        about = entry.metadata
        if title := about.get("group"):
            group = parser.add_argument_group(title)
        settings = {key: about[key] for key in PARSING if key in about}
        flags = ["--" + name.replace("_", "-"), *about.get("aliases", ())]
        if about.get("both_ways"):
            settings["action"] = argparse.BooleanOptionalAction
        elif isinstance(entry.default, bool):
            settings["action"] = "store_true"
        group.add_argument(*flags, dest=name, **settings)
    return parser


def typed_options(arguments: Sequence[str] | None = None) -> dict[str, object]:
    """What a command line names (that of the process by default). Raises UserError."""
    return vars(build_parser().parse_args(arguments))
