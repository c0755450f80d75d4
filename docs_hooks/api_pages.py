"""One page for every public room of the engine, made of its docstrings (mkdocstrings reads them without importing)."""

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

MODULES = {
    "engine.workspace": "The folder of everything",
    "engine.run": "The files of one run",
    "engine.protocols": "What a result was measured to",
    "engine.session": "Stages, chained",
    "engine.stages": "What is missing of a run",
    "engine.opening": "A workspace's data, opened",
    "engine.state": "What a distillation carries",
    "engine.beginning": "Before the first iteration",
    "engine.divergence": "When numbers go wrong",
    "engine.events": "What stages yield",
    "engine.journal": "The event log",
    "engine.control": "Pause, save, evaluate now",
    "engine.settings.schema": "The settings",
    "engine.settings.layers": "Where a setting's value comes from",
    "engine.matching.sweeps": "The gradient of the matching loss",
    "engine.matching.stores": "Where the exact gradient keeps parameters",
    "engine.networks.registry": "Networks by name or import path",
    "engine.networks.flat": "A module over one vector of parameters",
    "engine.data.cache": "Datasets, decoded once",
    "engine.data.sources": "Where datasets come from",
    "engine.data.space": "Normalisation, whitening, and back",
    "engine.data.augment": "Differentiable augmentation",
    "engine.buffers": "Teacher trajectories on disk",
    "engine.labels": "Labels of synthetic images",
    "engine.method": "What a distillation method is",
    "engine.methods": "Methods by name",
    "engine.distill": "TESLA's own loop",
    "engine.evaluate": "Accuracy on real images",
    "engine.training_set": "What evaluated networks train on",
    "engine.task": "Data, settings and device together",
    "engine.film": "Pictures of the images over time",
    "engine.export": "A dataset that needs nothing of ours",
    "engine.plan.planning": "What a run will take",
    "engine.plan.report": "A plan",
    "engine.studies.outcome": "What a study found",
    "engine.tracking.series": "Numbers for other programs",
    "engine.tracking.table": "Numbers as CSV",
    "engine.tracking.tensorboard": "TensorBoard",
    "engine.status": "All runs at a glance",
    "engine.doctor": "Examining files",
    "engine.storage": "Files that are whole or absent",
    "engine.disk": "The one door to the disk",
    "engine.holding": "Who holds a run",
    "engine.trust": "Consent to run code",
    "engine.imported": "Made elsewhere",
    "engine.randomness": "Counted randomness",
    "engine.generators": "Results of generators",
    "engine.errors": "What a user is told",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for module, title in MODULES.items():
        text = f"# {title}\n\n`{module}`\n\n::: {module}\n"
        files.append(File.generated(config, f"reference/api/{module}.md", content=text))
    return files
