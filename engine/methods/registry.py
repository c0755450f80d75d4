"""Every method by its name. Their list and what they need is data: engine/settings/methods.toml."""

from engine.errors import UsageError
from engine.methods.method import Method
from engine.settings import Settings
from engine.settings.code import load_object
from engine.settings.methods import check_method, method_plugins, method_traits, own_methods
from engine.settings.plugins import Plugin
from engine.settings.trust import load_plugin

METHODS: dict[str, Method] = {name: load_object(method_traits(name).code) for name in own_methods()}
"""The built-in ones, imported."""


def find_method(name: str) -> Method:
    """A method, built-in or a plugin's.

    Raises:
        SettingsError: there is none of that name.
        UsageError: the code of a plugin without consent, that fails to import, or that is not a method.
    """
    check_method(name)
    return METHODS[name] if name in METHODS else _of_plugin(method_plugins()[name])


def method_of(settings: Settings) -> Method:
    """The method of a run. See `find_method`."""
    return find_method(settings.distill.method)


def _of_plugin(plugin: Plugin) -> Method:
    method = load_plugin(plugin)
    if not isinstance(method, Method):
        what = f"{plugin.target} is a {type(method).__name__}, not an engine.methods.method.Method"
    elif method.name != plugin.name:
        what = f"{plugin.target} is named {method.name!r}, not {plugin.name!r}"
    else:
        return method
    raise UsageError(
        plugin.sentence(f"cannot be used: {what}."), f"Report it to its author, or uninstall {plugin.package}."
    )
