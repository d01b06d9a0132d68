"""Rules that keep the code readable, counted over its syntax trees."""

import ast
from pathlib import Path

import pytest
from conftest import ROOT

PRODUCT = sorted([*ROOT.glob("*.py"), *(ROOT / "descargan").glob("*.py")])
MOST_LINES, MOST_PARAMETERS = 60, 6
LIGHT = ("errors", "kinds", "cli", "locks", "files", "options", "arguments")


def functions(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: path.stem)
def test_a_function_fits_on_a_screen(path):
    long = {f.name: f.end_lineno - f.lineno + 1 for f in functions(path)}
    assert {name: n for name, n in long.items() if n > MOST_LINES} == {}


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: path.stem)
def test_a_function_takes_few_parameters(path):
    many = {}
    for f in functions(path):
        named = [a.arg for a in (*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs)]
        many[f.name] = [name for name in named if name not in ("self", "cls", "ctx")]
    assert {name: found for name, found in many.items() if len(found) > MOST_PARAMETERS} == {}


@pytest.mark.parametrize("module", LIGHT)
def test_what_the_command_line_needs_imports_no_pytorch(module):
    """So that --help, and a mistyped option, answer at once."""
    for node in ast.walk(ast.parse((ROOT / "descargan" / f"{module}.py").read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            own = name.removeprefix("descargan.")
            assert name.split(".")[0] not in ("torch", "numpy", "visdom", "matplotlib"), name
            assert not name.startswith("descargan.") or own in LIGHT, name
