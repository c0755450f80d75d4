"""One page for every public module of the engine, from its docstrings (mkdocstrings reads them without importing)."""

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

MODULES = {
    "engine.runs.workspace": "Workspaces",
    "engine.runs.run": "The files of a run",
    "engine.runs.selection": "Selecting a checkpoint",
    "engine.runs.protocol": "Evaluation protocols",
    "engine.session.session": "Sessions",
    "engine.session.loop": "The main loop",
    "engine.session.outputs": "Saving, evaluating, previewing",
    "engine.session.open_task": "Opening a task",
    "engine.methods.tesla_state": "TESLA's state",
    "engine.methods.teacher_init": "Initial images and labels from a teacher",
    "engine.training.divergence": "Divergence checks",
    "engine.events": "Events",
    "engine.runs.journal": "The journal",
    "engine.session.control": "Control requests",
    "engine.settings.schema": "Settings schema",
    "engine.settings.affects": "What a setting affects",
    "engine.settings.facts": "Questions about settings",
    "engine.settings.layers": "Settings layers",
    "engine.settings.frozen": "Settings of a run",
    "engine.matching.gradient": "The matching gradient",
    "engine.matching.problem": "Matching problems",
    "engine.matching.sweeps": "Matching sweeps",
    "engine.matching.parameter_store": "Parameter stores",
    "engine.networks.registry": "Networks",
    "engine.networks.flat": "Modules with flat parameters",
    "engine.data.cache": "The dataset cache",
    "engine.data.registry": "The dataset registry",
    "engine.data.sources": "Dataset sources",
    "engine.data.space": "Normalisation and whitening",
    "engine.data.augment": "Differentiable augmentation",
    "engine.training.teacher_buffer": "Teacher buffers",
    "engine.training.labels": "Labels of synthetic images",
    "engine.methods.method": "The method interface",
    "engine.methods.registry": "The method registry",
    "engine.methods.tesla": "TESLA",
    "engine.training.evaluation": "Evaluation",
    "engine.training.training_set": "Training sets for evaluation",
    "engine.training.task": "Tasks",
    "engine.runs.preview_frames": "Preview frames",
    "engine.tools.exchange.export": "Exported datasets",
    "engine.tools.exchange.export_folder": "The files of an exported dataset",
    "engine.tools.plan.planning": "Planning a run",
    "engine.tools.plan.report": "Plans",
    "engine.tools.studies.outcome": "Study outcomes",
    "engine.tools.tracking.series": "Series for other programs",
    "engine.tools.tracking.table": "CSV export",
    "engine.tools.tracking.tensorboard": "TensorBoard",
    "engine.runs.status": "Run status",
    "engine.tools.doctor": "Doctor",
    "engine.storage.atomic": "Atomic files",
    "engine.storage.filesystem": "File-system access",
    "engine.storage.lock": "Run locks",
    "engine.settings.trust": "Consent to run code",
    "engine.runs.provenance": "Provenance of imports",
    "engine.runtime.rng": "Counted random numbers",
    "engine.runtime.generators": "Generators with results",
    "engine.errors": "Errors",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for module, title in MODULES.items():
        text = f"# {title}\n\n`{module}`\n\n::: {module}\n"
        files.append(File.generated(config, f"reference/api/{module}.md", content=text))
    return files
