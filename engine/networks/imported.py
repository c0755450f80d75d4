"""Networks by import path: a user's own, and those of timm and torchvision where they are installed.

A factory is called with keyword arguments. Its signature decides their names: `channels`, `classes` and `resolution`,
or the spellings in `SPELLINGS`. timm and torchvision hide theirs behind `**kwargs`; `LIBRARIES` says what they take.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Container
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engine.errors import UsageError
from engine.networks.dropout import replace_dropout
from engine.runtime.out_of_memory import is_out_of_memory
from engine.settings.trust import check_trusted, place_of

SPELLINGS = {
    "channels": ("channels", "in_chans", "in_channels"),
    "classes": ("classes", "num_classes"),
    "resolution": ("resolution", "img_size", "image_size"),
}
"""Names of a keyword argument, the first that a factory takes."""

LIBRARIES = {"timm": ("num_classes", "in_chans"), "torchvision": ("num_classes",)}
"""Keyword arguments of the factories of a package. Pretrained weights are never asked for."""

RGB = 3
"""Channels of a factory that takes no number of channels."""


def imported_network(path: str, arguments: dict[str, Any]) -> nn.Module:
    """The network of an import path; its `nn.Dropout` layers are replaced by counted ones.

    Args:
        path: `package.module:callable`, or `timm:NAME` for `timm.create_model(NAME)`.
        arguments: channels, classes, resolution, and width and depth if they are set.

    Raises:
        UsageError: no consent, nothing to call, arguments that it does not take, or what it makes is no network of
            that shape.
    """
    check_trusted(path)
    factory = _import(path)
    names = _keywords(path, factory, arguments)
    try:
        model = factory(**{name: arguments[key] for key, name in names.items()})
    except (Exception, SystemExit) as error:
        raise UsageError(f"{path} failed when it was called: {type(error).__name__}: {error}.") from error
    if not isinstance(model, nn.Module):
        raise UsageError(f"{path} returned an object of type {type(model).__name__}, not a torch.nn.Module.")
    if not any(True for _ in model.parameters()):
        raise UsageError(f"The network of {path} has no parameters.")
    replace_dropout(model)
    _check_output(path, model, arguments)
    return model


def spelling_words(path: str, arguments: dict[str, Any]) -> str:
    """How a factory is called, in a sentence, where other keyword names are used than ours; else empty."""
    names = _keywords(path, _import(path), arguments)
    if all(key == name for key, name in names.items()):
        return ""
    called = ", ".join(f"{name}={arguments[key]}" for key, name in names.items())
    without = [key for key in arguments if key not in names]
    left_out = f" It is not told {' and '.join(without)}." if without else ""
    return f"{path} is called with {called}; its initial weights are its own.{left_out}"


def _keywords(path: str, factory: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, str]:
    """The factory's name for each of our arguments that it is called with.

    Raises:
        UsageError: it does not take one that cannot be left out.
    """
    accepted, open_ended = _accepted(path, factory)
    found = {key: next((s for s in SPELLINGS.get(key, (key,)) if s in accepted), "") for key in arguments}
    # Without ours for the classes it is a library's: what it does not name it does not take, or takes from the images.
    library = found["classes"] not in ("", "classes")
    if open_ended and not library:
        found = {key: name or key for key, name in found.items()}
    if library and not found["channels"] and arguments["channels"] != RGB:
        raise UsageError(
            f"{path} takes no number of channels, so it is for RGB images; these have {arguments['channels']}.",
            "A network of timm (timm:NAME) takes any; or write a function that changes the first layer.",
        )
    optional = ("channels", "resolution") if library else ()
    refused = [key for key, name in found.items() if not name and key not in optional]
    if refused:
        raise UsageError(
            f"{path} does not take {', '.join(refused)}.",
            "It is called with keyword arguments channels, classes and resolution, and with width and depth if "
            "they are set. Leave network.width and network.depth unset for a network without them.",
        )
    return {key: name for key, name in found.items() if name}


def _accepted(path: str, factory: Callable[..., Any]) -> tuple[Container[str], bool]:
    """Names of a factory's keyword arguments, and whether it takes others."""
    library = LIBRARIES.get(path.partition(":")[0].partition(".")[0])
    if library is not None:
        return library, False
    parameters = inspect.signature(factory).parameters
    return parameters, any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def _check_output(path: str, model: nn.Module, arguments: dict[str, Any]) -> None:
    side = arguments["resolution"]
    training = model.training
    try:
        with torch.no_grad():
            shape = tuple(model.eval()(torch.zeros(2, arguments["channels"], side, side)).shape)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise UsageError(
            f"The network of {path} failed on images (2, {arguments['channels']}, {side}, {side}): "
            f"{type(error).__name__}: {error}."
        ) from error
    finally:
        model.train(training)
    if shape != (2, arguments["classes"]):
        raise UsageError(
            f"The network of {path} returns {shape} for two images; it must return (2, {arguments['classes']})."
        )


def _import(path: str) -> Callable[..., Any]:
    module_name, _, attribute = path.partition(":")
    here = str(Path.cwd())
    # Users keep their network beside the workspace. For any other, other files in the current folder are not modules.
    nearby = place_of(path).is_relative_to(here)
    if nearby:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and module_name.startswith(error.name):
            raise UsageError(
                f"There is no module {module_name} for the network {path}.",
                f"Run from the folder that contains it (you are in {here}), or install it.",
            ) from error
        raise UsageError(f"{module_name} needs the module {error.name}, which is not installed.") from error
    except (Exception, SystemExit) as error:  # a script that ends itself would end the command, with success
        raise UsageError(f"{module_name} failed to import: {type(error).__name__}: {error}.") from error
    finally:
        if nearby:
            sys.path.remove(here)
    if module_name == "timm":
        return partial(module.create_model, attribute)
    factory = getattr(module, attribute, None)
    if not callable(factory):
        what = "has no" if factory is None else "has, but cannot call,"
        raise UsageError(f"{module_name} {what} {attribute!r}.", "An import path is package.module:callable")
    found: Callable[..., Any] = factory
    return found
