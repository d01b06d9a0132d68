"""The package that ``pip install .`` installs, built without network, and what it declares."""

import ast
import email
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec

import pytest
from conftest import ROOT

import descargan

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(requirements):
    """Distributions that lines of requirements name."""
    found = (re.match(r"[\w.-]+", line) for line in requirements)
    return {match.group().lower().replace("_", "-") for match in found if match}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy so that the checkout gets no folder ``build``."""
    if find_spec("setuptools") is None or int(version("setuptools").partition(".")[0]) < 77:
        pytest.skip("no setuptools of 77 or newer: pip install -U setuptools")
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE", "main.py"):
        shutil.copy(ROOT / name, source)
    for name in ("descargan", "tests"):
        passed_over = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=passed_over)
    command = [sys.executable, "-m", "pip", "wheel", ".", "--quiet", "--no-index"]
    command += ["--no-deps", "--no-build-isolation", "--wheel-dir", "out"]
    subprocess.run(command, cwd=source, check=True)
    (path,) = (source / "out").glob("*.whl")
    return path


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        found = {n for n in archive.namelist() if ".dist-info/" not in n}
    folder = ROOT / "descargan"
    files = (p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    assert found == {p.relative_to(ROOT).as_posix() for p in files}


def test_the_wheel_says_version_licence_and_dependencies(wheel):
    info = f"descargan-{descargan.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        about = email.message_from_bytes(archive.read(f"{info}/METADATA"))
        licence = archive.read(f"{info}/licenses/LICENSE").decode()
    assert about["Version"] == descargan.__version__
    assert about["License-Expression"] == "Apache-2.0"
    assert licence == (ROOT / "LICENSE").read_text()
    required = about.get_all("Requires-Dist")
    assert "torch" in names(required)
    assert all("extra" in line for line in required if line.startswith(("visdom", "tornado")))


def test_the_installed_package_is_imported_from_anywhere_and_loads_no_torch(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    program = "import sys, descargan; print(descargan.__version__, 'torch' in sys.modules)"
    command = [sys.executable, "-c", f"sys = __import__('sys'); sys.path[:0] = ['site']; {program}"]
    printed = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert printed.stdout.split() == [descargan.__version__, "False"]


def imported(path):
    """Top-level names that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.partition(".")[0]


def test_the_package_imports_what_it_declares_and_no_script():
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    declared, used = names([*PROJECT["dependencies"], *extras]), set()
    distributions = packages_distributions()
    for path in (ROOT / "descargan").rglob("*.py"):
        for module in set(imported(path)) - set(sys.stdlib_module_names) - {"descargan"}:
            found = names(distributions.get(module, [module]))
            assert found & declared, f"{path.name} imports {module}"
            used |= found
    assert names(PROJECT["dependencies"]) <= used


@pytest.mark.parametrize(
    ("file", "extra"), [("requirements.txt", "dashboard"), ("requirements-medical.txt", "medical")]
)
def test_files_of_requirements_and_the_package_ask_for_the_same_versions(file, extra):
    lines = [line.partition("#")[0] for line in (ROOT / file).read_text().splitlines()]
    required = {line.strip().replace('"', "'") for line in lines}
    assert set(PROJECT["optional-dependencies"][extra]) <= required
    if extra == "dashboard":
        pinned = {line for line in required if line.startswith("torch")}
        assert {
            line for line in PROJECT["dependencies"] if "torch" not in line
        } <= required - pinned


def test_the_citation_names_this_version_and_the_licence():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {descargan.__version__}\n" in citation
    assert "\nlicense: Apache-2.0\n" in citation
    assert (ROOT / "LICENSE").read_text().split()[:3] == ["Apache", "License", "Version"]
