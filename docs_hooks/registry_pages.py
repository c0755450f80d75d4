"""Datasets and methods as pages, from their tables: nothing is written twice."""

import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parents[1]))  # the engine of this folder, installed or not

from engine.settings.datasets import dataset_facts, own_datasets
from engine.settings.methods import method_traits, own_methods


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add both pages."""
    files.append(File.generated(config, "reference/datasets.md", content=datasets_page()))
    files.append(File.generated(config, "reference/methods.md", content=methods_page()))
    return files


def datasets_page() -> str:
    """The page of all datasets."""
    lines = [
        "# Datasets", "", "Generated from `engine/settings/presets.toml`. [How to use them](../datasets.md).", "",
        "| name | dataset | where its images come from | classes | images | training, test | rates of its preset |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name in own_datasets():
        facts = dataset_facts(name)
        assert facts is not None
        size = f"{facts.channels} x {facts.resolution} x {facts.resolution}" if facts.train else ""
        counts = f"{facts.train:,}, {facts.test:,}" if facts.train else ""
        classes = facts.classes or ""
        lines.append(f"| `{name}` | {facts.title} | {facts.origin} | {classes} | {size} | {counts} | {facts.rates} |")
    return "\n".join(lines) + "\n"


def methods_page() -> str:
    """The page of all methods."""
    lines = [
        "# Methods", "", "Generated from `engine/settings/methods.toml`. [What they do](../baselines.md).", "",
        "| `distill.method` | | teachers | iterates | code |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for name in own_methods():
        traits = method_traits(name)
        marks = [("yes" if mark else "no") for mark in (traits.teachers, traits.iterates)]
        lines.append(f"| `{name}` | {traits.title} | {' | '.join(marks)} | `{traits.code.partition(':')[0]}` |")
    return "\n".join(lines) + "\n"
