"""pyproject.toml declares the packages that the code imports: none is missing, none is unused."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("engine", "tesla_tui")
EXTRAS = ("tensorboard",)
"""Extras for users; the others (dev, docs) are for contributors."""
SERVICES = {"wandb": "wandb", "trackio": "trackio", "mlflow": "mlflow-skinny"}
"""Extras that no environment here has, as they are large, by what is imported; each has one package."""
EXPORTED = ROOT / "engine" / "tools" / "exchange" / "train.py.txt"
"""The script in every exported folder, which the tutorial runs in the same environment."""


def imported_packages(paths: Iterable[Path]) -> set[str]:
    """Top-level packages that these files import, less the standard library and our own."""
    found = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - set(OURS)


def normalised(name: str) -> str:
    """A distribution's name as PEP 503 compares them."""
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def installed() -> Mapping[str, list[str]]:
    """Distributions by import package. Reading their records takes seconds."""
    return packages_distributions()


@cache
def distribution(package: str) -> str:
    """The distribution that an import package belongs to."""
    if package in SERVICES:
        return SERVICES[package]
    names = {normalised(name) for name in installed().get(package, ())}
    assert len(names) == 1, f"{package} belongs to {sorted(names) or 'no installed distribution'}"
    return names.pop()


def declared(requirements: Iterable[str]) -> set[str]:
    """Names of the distributions in a list of requirements."""
    return {normalised(re.split(r"[\s\[<>=!~;]", text, maxsplit=1)[0]) for text in requirements}


@pytest.fixture(scope="module")
def project() -> dict[str, list[str]]:
    """Requirements by extra; those of every installation under the empty name."""
    facts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {"": facts["dependencies"], **facts["optional-dependencies"]}


def used() -> set[str]:
    """Distributions that the shipped code imports."""
    paths = [path for package in OURS for path in (ROOT / package).rglob("*.py")]
    assert len(paths) > 100
    return {distribution(package) for package in imported_packages([*paths, EXPORTED])}


@pytest.mark.slow
def test_every_import_is_declared(project: dict[str, list[str]]) -> None:
    known = declared(project[""]).union(*(declared(project[extra]) for extra in (*EXTRAS, *SERVICES)))
    assert used() - known == set()


@pytest.mark.slow
def test_every_declared_dependency_is_imported(project: dict[str, list[str]]) -> None:
    known = declared(project[""]).union(*(declared(project[extra]) for extra in (*EXTRAS, *SERVICES)))
    assert known - used() == set()


@pytest.mark.slow
@pytest.mark.parametrize("extra", (*EXTRAS, *SERVICES))
def test_modules_of_an_extra_are_imported_only_where_they_are_needed(extra: str, project: dict[str, list[str]]) -> None:
    """One module imports the extra's packages, and other modules import that one inside functions only."""
    wanted = declared(project[extra])
    sources = [path for package in OURS for path in (ROOT / package).rglob("*.py")]
    users = [path for path in sources if wanted & {distribution(name) for name in imported_packages([path])}]
    assert len(users) == 1
    name = ".".join(users[0].relative_to(ROOT).with_suffix("").parts)
    for path in sources:
        top = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        modules = {node.module for node in top if isinstance(node, ast.ImportFrom)}
        assert name not in modules, f"{path} imports {name} at its top"


def test_the_installed_versions_are_within_the_declared_ranges(project: dict[str, list[str]]) -> None:
    """constraints.txt, which `make` installs, has a version of each that pyproject.toml allows."""
    packaging = pytest.importorskip("packaging.requirements")
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    versions = {normalised(name): version for name, version in pins.items()}
    for text in (*project[""], *(text for extra in EXTRAS for text in project[extra])):
        requirement = packaging.Requirement(text)
        version = versions.get(normalised(requirement.name))
        assert version is not None, f"constraints.txt has no {requirement.name}"
        assert requirement.specifier.contains(version), f"{requirement} excludes {version}"
