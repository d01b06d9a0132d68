"""The documents are true: their blocks run from top to bottom, or are held against the programs.

Each document starts in a folder of its own, as a fresh clone is, with pictures as a user may have
them. What would take minutes is shrunk by SMALLER, the one table of substitutions.
"""

import contextlib
import csv
import importlib
import io
import re
import runpy
import shlex
import shutil
import sys
import tomllib
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import pydicom
import pytest
from conftest import ROOT, succeed
from PIL import Image
from torch.distributed.run import get_args_parser

import descargan
from descargan import data
from descargan.arguments import build_parser
from descargan.options import BY_NETWORKS, RECIPES, Options, by_networks

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTS += [*sorted((ROOT / "save_nets").rglob("*.md")), ROOT / "benchmarks" / "README.md"]

# What is added to a command of a document: last in the line, it goes before what stands there.
SMALLER = {
    "create_synthetic_dataset.py": "--image-size 64 --train 3 --validate 2 --test 2 --workers 1",
    "prepare_folders.py": "--image-size 64 --workers 1 --shares 4 3 3",
    "prepare_table.py": "--image-size 64 --workers 1 --shares 4 3 3",
    "prepare_chexpert.py": "--image-size 64 --workers 1 --shares 4 3 3",
    "main.py": "--image-size 64 --base-filters 2 --critic-filters 2 --epochs 1 --visdom off",
    "main.py --mode test": "--visdom off",
    "main.py --mode predict": "",
}

# A block with such a line wants another machine or hours: it is held against programs and files.
ELSEWHERE = r"(make |pip |torchrun |srun |#SBATCH |python -m (venv|descargan\.)|.*benchmark)"

PROGRAMS = [*(command for command in SMALLER if " " not in command), "descargan.dashboard"]


def parser_of(program: str) -> ArgumentParser:
    module = "descargan.arguments" if program == "main.py" else program.removesuffix(".py")
    return importlib.import_module(module).build_parser()


class Block(NamedTuple):
    """A fenced block of a document."""

    language: str
    text: str

    def commands(self) -> list[str]:
        """Command lines: continued ones joined, without comments, but with SLURM's."""
        lines = self.text.replace("\\\n", " ").splitlines()
        lines = [re.sub(r"(^|\s)#(?!SBATCH).*", "", line).strip() for line in lines]
        return [line for line in lines if line]


def blocks(document: Path) -> list[Block]:
    fenced = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    return [Block(*found) for found in fenced.findall(document.read_text())]


def name(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=name)


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder as a fresh clone is, and beside the project's files those of a user."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data, "BATCHES", 3)
    for folder in ("pretrained", "pretrained-first"):
        shutil.copytree(ROOT / "save_nets" / folder, Path("save_nets", folder))
    rng = np.random.default_rng(0)

    def picture(path: str) -> str:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (70, 64), np.uint8)).save(path)
        return path

    picture("scan.png")
    rows = [("Path", "Frontal/Lateral", "AP/PA", "No Finding", "Pleural Effusion")]
    for i in range(2):
        picture(f"new-images/{i}.png")
    for i in range(16):
        picture(f"controls/control{i}.png")
        picture(f"patients/patient{i}.png")
        path = picture(f"CheXpert-v1.0-small/train/patient{i:05}/study1/view1_frontal.jpg")
        rows.append((path, "Frontal", "AP", *(("1.0", "") if i < 8 else ("", "1.0"))))
    with Path("CheXpert-v1.0-small/train.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    make_medical(picture)


def make_medical(picture: Callable[[str], str]) -> None:
    """DICOM, volumes, slices with outlines, and a table with boxes."""
    rng = np.random.default_rng(1)
    dicom = pydicom.dcmread(Path(pydicom.__file__).parent / "data/test_files/MR_small.dcm")
    ball = np.linalg.norm(np.mgrid[-1:1:16j, -1:1:18j, -1:1:4j], axis=0) < 0.9
    for i in range(6):
        group = ("controls", "patients")[i % 2]
        dicom.PatientID, dicom.SeriesInstanceUID = f"{i}", f"1.2.{i}"
        dicom.PixelData = rng.integers(0, 2000, (64, 64), np.uint16).tobytes()
        Path("dicom", group).mkdir(parents=True, exist_ok=True)
        dicom.save_as(f"dicom/{group}/IM{i}")
        array = 500 * ball + rng.normal(0, 9, ball.shape)
        names = [f"volumes/{group}/p{i}.nii.gz"]
        names += ["volumes/masks/" + Path(names[0]).name] * (group == "patients")
        for name, content in zip(names, (array, ball), strict=False):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(content.astype(np.float32), np.eye(4)), name)
    mask = np.zeros((70, 64), np.uint8)
    mask[20:40, 20:40] = 255
    slices = {
        "train": ("01_07", "02_11"),
        "validate": ("03_02", "04_11"),
        "test": ("05_02", "06_11"),
    }
    for split, (healthy, diseased) in slices.items():
        picture(f"brain/{split}/healthy/p{healthy}.png")
        picture(f"brain/{split}/tumour/p{diseased}.png")
        if split != "train":
            Path(f"brain/{split}/masks").mkdir()
            Image.fromarray(mask).save(f"brain/{split}/masks/p{diseased}.png")
    labels, boxes = ["file,patient,findings,view"], ["file,x,y,width,height"]
    for i in range(12):
        finding = ("No Finding", "Mass|Pneumonia")[i % 2]
        picture(f"xrays/{i}.png")
        labels.append(f"{i}.png,{i},{finding},{('AP', 'PA')[i // 2 % 2]}")
        boxes += [f"{i}.png,10,12,30,20"] * (i % 2)
    Path("xrays/labels.csv").write_text("\n".join(labels) + "\n")
    Path("xrays/boxes.csv").write_text("\n".join(boxes) + "\n")


@each_document
def test_no_block_of_a_document_is_passed_over(document):
    text, found = document.read_text(), blocks(document)
    assert text.count("```") == 2 * len(found)
    assert not re.search(r"\n\n(    |\t)", text), "a block without a fence"
    assert {block.language for block in found} <= CHECKS.keys()


@each_document
def test_the_blocks_of_a_document_hold_from_top_to_bottom(document, clone, monkeypatch):
    for function, command in (("train", "main.py"), ("test", "main.py --mode test")):
        monkeypatch.setattr(descargan, function, smaller(getattr(descargan, function), command))
    names = {"__name__": "__main__"}
    for block in blocks(document):
        CHECKS[block.language](block, names)


def run_or_check(block: Block, _: dict) -> None:
    lines = block.commands()
    check = any(re.match(ELSEWHERE, line) for line in lines)
    for line in lines:
        check_command(line) if check else run_command(line)


def run_command(line: str) -> None:
    """A command of the project, shrunk; a size that is typed stays."""
    python, script, *words = shlex.split(line)
    assert python == "python", line
    if script == "-m":
        run_as_main(runpy.run_module, words)
    else:
        mode = re.search(" --mode (test|predict)", line)
        smaller = SMALLER[script + (mode.group() if mode else "")]
        if "--image-size" in words:
            smaller = smaller.replace("--image-size 64", "")
        succeed(script, *words, *smaller.split())


def run_as_main(runner: Callable, words: list[str]) -> str:
    """Run the module or file that ``words`` begins with; what it printed."""
    before, sys.argv, stdout = sys.argv, words, io.StringIO()
    try:
        with contextlib.redirect_stdout(stdout):
            runner(words[0], run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
    finally:
        sys.argv = before
    return stdout.getvalue()


def check_command(line: str) -> None:
    """A command for another machine: its options and files are there."""
    words = shlex.split(re.sub(r"\$\(.*?\)", "host", line))
    words = words[1:] if words[0] == "srun" else words
    match words:
        case ["make", target]:
            assert re.search(f"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
        case ["pip", "install", *rest]:
            check_installation(rest)
        case ["torchrun", *rest]:
            get_args_parser().parse_args(rest)
            build_parser().parse_args(rest[rest.index("main.py") + 1 :])
        case ["#SBATCH", *rest]:
            assert all(re.fullmatch(r"--[a-z-]+=\S+", word) for word in rest), line
        case ["python", "-m", "venv", *_]:
            pass
        case ["python", "-m", module, *rest] if module.startswith("benchmarks."):
            check_benchmark(module, rest)
        case ["python", "-m", script, *rest] | ["python", script, *rest]:
            parser_of(script).parse_args(rest)
        case _:
            raise AssertionError(f"nothing holds this line: {line}")


def check_installation(words: list[str]) -> None:
    """Files of requirements and extras of the package exist."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for word in words:
        if word.endswith(".txt"):
            assert (ROOT / word).is_file(), word
        elif word.startswith(".["):
            assert word[2:-1] in extras, word


def check_benchmark(module: str, words: list[str]) -> None:
    """``--help`` knows the options; what stands after ``--`` goes to main.py."""
    end = words.index("--") if "--" in words else len(words)
    build_parser().parse_args(words[end + 1 :])
    command = [] if not words or words[0].startswith("-") else words[:1]
    known = run_as_main(runpy.run_module, [module, *command, "--help"])
    for word in words[:end]:
        assert not word.startswith("--") or word in known, word


def run_python(block: Block, names: dict) -> None:
    """The blocks of a document share their names."""
    exec(compile(block.text, "a block of Python", "exec"), names)


def smaller(function: Callable, command: str) -> Callable:
    """``descargan.train`` or ``descargan.test``, shrunk as its command is."""
    shrunk = vars(build_parser().parse_args(SMALLER[command].split()))
    return lambda **options: function(**{**options, **shrunk})


def check_layout(block: Block, _: dict) -> None:
    """Files and folders of a layout lie somewhere in the folder that the commands before made."""
    there = {path.name for path in Path().rglob("*")}
    for word in block.text.replace("...", " ").split():
        assert word.strip("/") in there, word


def check_citation(block: Block, _: dict) -> None:
    """BibTeX names the same paper as CITATION.cff."""
    paper = (ROOT / "CITATION.cff").read_text().partition("\npreferred-citation:")[2]
    for line in block.text.splitlines():
        if match := re.match(r"\s*(title|booktitle|year)\s*=\s*{+(.*?)}+,?$", line):
            assert match[2].replace("}", "") in paper, line


CHECKS = {
    "bash": run_or_check,
    "python": run_python,
    "text": check_layout,
    "bibtex": check_citation,
}


def test_the_example_draws_the_map_of_one_image_at_its_size(clone):
    printed = run_as_main(runpy.run_module, ["examples.one_image", "scan.png", "map.png"])
    assert "scan.png: P(disease) = " in printed
    assert "of its pixels are over the threshold" in printed
    assert "warning: it is unlike the images trained on" in printed  # it is a picture of noise
    with Image.open("map.png") as drawn:
        assert drawn.size == (64, 70)


def test_the_table_of_options_is_what_the_parser_knows():
    table = (ROOT / "docs" / "options.md").read_text()
    for action in build_parser()._actions:
        if action.dest == "help":
            continue
        names = ", ".join(f"`{name}`" for name in action.option_strings)
        choices = " \\| ".join(f"`{choice}`" for choice in action.choices or ())
        row = f"| {names} {choices}".rstrip() + f" | {action.help} |"
        assert f"\n{row}\n" in table, f"docs/options.md lacks this row: {row}"
    rows = re.findall(r"^\| `(--[a-z0-9-]+)`", table, re.MULTILINE)
    known = {name for action in build_parser()._actions for name in action.option_strings}
    assert len(rows) == len(set(rows))
    assert set(rows) <= known


def test_the_table_of_recipes_is_what_they_are():
    table = (ROOT / "docs" / "options.md").read_text()
    recipes = [replace(Options(), **values) for values in RECIPES.values()]
    for name in {name for values in RECIPES.values() for name in values}:
        cells = " | ".join(cell_of(options, name) for options in recipes)
        row = f"| {name.replace('_', '-')} | {cells} |"
        assert f"\n{row}\n" in table, f"docs/options.md lacks this row: {row}"


def cell_of(options, name):
    """The value of an option in the table of recipes."""
    of_paper = {"base_filters", "critic_filters", "generator_norm", "penalty_of"}
    if options.networks == "compact" and name in of_paper:
        return "none of it"
    value = by_networks(options, name) if name in BY_NETWORKS["paper"] else getattr(options, name)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:g}"


@each_document
def test_links_and_pictures_of_a_document_exist(document):
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        path, _, anchor = target.partition("#")
        if not path.startswith("http"):
            there = document.parent / path if path else document
            assert there.exists(), target
            assert not anchor or anchor in anchors(there), target


def anchors(document: Path) -> set[str]:
    """Anchors of the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings}


@each_document
def test_options_and_programs_that_the_prose_names_exist(document):
    known = {name for program in PROGRAMS for name in parser_of(program)._option_string_actions}
    known |= set(get_args_parser()._option_string_actions)
    prose = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    for code in re.findall(r"`([^`]+)`", prose):
        if match := re.fullmatch(r"python -m (benchmarks\.\w+) (.*)", code, re.DOTALL):
            check_benchmark(match[1], shlex.split(match[2]))
            continue
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]+", code):
            assert option in known, code
        for script in re.findall(r"\b(?:python )([\w/]+\.py)\b", code):
            assert (ROOT / script).is_file(), code
