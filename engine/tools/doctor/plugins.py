"""Methods and datasets of other packages: their packages, whether they may run, why one is refused."""

from engine.errors import UsageError, tesla
from engine.settings.datasets import dataset_facts, own_datasets
from engine.settings.methods import method_traits, own_methods
from engine.settings.plugins import Kind, installed, refusals
from engine.settings.trust import check_trusted
from engine.tools.doctor.finding import Finding


def examine_plugins() -> list[Finding]:
    """A finding for each; none of their code is run."""
    findings = []
    names: dict[Kind, tuple[str, ...]] = {"method": tuple(own_methods()), "dataset": own_datasets()}
    for kind, taken in names.items():
        refused = {(plugin.name, plugin.package): reason for plugin, reason in refusals(kind, taken)}
        for plugin in installed(kind):
            what = f"{kind} {plugin.name}, {plugin.package} {plugin.version}"
            reason = refused.get((plugin.name, plugin.package), "")
            if not reason:
                try:
                    (method_traits if kind == "method" else dataset_facts)(plugin.name)
                except UsageError as error:
                    reason = error.message
            words = f"cannot be used: {reason}" if reason else f"{plugin.target}, {_consent(plugin.target)}"
            findings.append(Finding(not reason, what, words))
    return findings


def _consent(target: str) -> str:
    try:
        check_trusted(target)
    except UsageError:
        return f"not trusted yet: {tesla('trust', target)}"
    return "trusted"
