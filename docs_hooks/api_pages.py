"""One page for every public room of the engine, made of its docstrings (mkdocstrings reads them without importing)."""

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

MODULES = {
    "engine.runs.workspace": "The folder of everything",
    "engine.runs.run": "The files of one run",
    "engine.runs.protocol": "What a result was measured to",
    "engine.session.session": "Drive, teach, evaluate",
    "engine.session.loop": "The main loop",
    "engine.session.outputs": "What the loop saves, and when",
    "engine.session.open_task": "A workspace's data, opened",
    "engine.methods.tesla_state": "What a distillation carries",
    "engine.methods.teacher_init": "Before the first iteration",
    "engine.training.divergence": "When numbers go wrong",
    "engine.events": "What stages yield",
    "engine.runs.journal": "The event log",
    "engine.session.control": "Pause, save, evaluate now",
    "engine.settings.schema": "The settings",
    "engine.settings.affects": "What a setting affects",
    "engine.settings.facts": "Questions about settings",
    "engine.settings.layers": "Where a setting's value comes from",
    "engine.settings.frozen": "The settings of a run",
    "engine.matching.sweeps": "The gradient of the matching loss",
    "engine.matching.parameter_store": "Where the exact gradient keeps parameters",
    "engine.networks.registry": "Networks by name or import path",
    "engine.networks.flat": "A module over one vector of parameters",
    "engine.data.cache": "Datasets, decoded once",
    "engine.data.registry": "Finding datasets",
    "engine.data.sources": "Where datasets come from",
    "engine.data.space": "Normalisation, whitening, and back",
    "engine.data.augment": "Differentiable augmentation",
    "engine.training.teacher_buffer": "Teacher trajectories on disk",
    "engine.training.labels": "Labels of synthetic images",
    "engine.methods.method": "What a distillation method is",
    "engine.methods.registry": "Methods by name",
    "engine.methods.tesla": "TESLA's own loop",
    "engine.training.evaluation": "Accuracy on real images",
    "engine.training.training_set": "What evaluated networks train on",
    "engine.training.task": "Data, settings and device together",
    "engine.runs.preview_frames": "Pictures of the images over time",
    "engine.exchange.export": "A dataset that needs nothing of ours",
    "engine.tools.plan.planning": "What a run will take",
    "engine.tools.plan.report": "A plan",
    "engine.tools.studies.outcome": "What a study found",
    "engine.tools.tracking.series": "Numbers for other programs",
    "engine.tools.tracking.table": "Numbers as CSV",
    "engine.tools.tracking.tensorboard": "TensorBoard",
    "engine.runs.status": "All runs at a glance",
    "engine.tools.doctor": "Examining files",
    "engine.storage.atomic": "Files that are whole or absent",
    "engine.storage.filesystem": "The one door to the disk",
    "engine.storage.lock": "Who holds a run",
    "engine.settings.trust": "Consent to run code",
    "engine.runs.provenance": "Made elsewhere",
    "engine.runtime.rng": "Counted randomness",
    "engine.runtime.generators": "Results of generators",
    "engine.errors": "What a user is told",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for module, title in MODULES.items():
        text = f"# {title}\n\n`{module}`\n\n::: {module}\n"
        files.append(File.generated(config, f"reference/api/{module}.md", content=text))
    return files
