"""Networks by name or import path."""

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

from engine.errors import UsageError
from engine.networks.convnet import ConvNet
from engine.networks.resnet import ResNet18
from engine.networks.vit import ViT
from engine.runtime.out_of_memory import is_out_of_memory
from engine.runtime.rng import forked_global_rng
from engine.settings.trust import check_trusted, is_import_path, place_of
from engine.storage.filesystem import format_bytes

NETWORKS: dict[str, type[nn.Module]] = {"convnet": ConvNet, "resnet18": ResNet18, "vit": ViT}


def default_depth(resolution: int) -> int:
    """ConvNet blocks: halve down to about 4 pixels, at least two blocks (8 -> 2, 28 and 32 -> 3, 64 -> 4)."""
    return max(2, (resolution - 1).bit_length() - 2)


def build_network(
    name: str, *, channels: int, classes: int, resolution: int, width: int | None = None, depth: int | None = None
) -> nn.Module:
    """Make a network; its initial weights come from the global generator (see `initialised_network`).

    Args:
        name: convnet, resnet18, vit, or `package.module:callable`, which is called with the keyword arguments
            channels, classes and resolution, and with width and depth where they are given.
        channels: C of the images.
        classes: K, the size of the logits.
        resolution: side of the images, pixels.
        width: None for the network's own default.
        depth: None for the network's own default; for convnet `default_depth(resolution)`.

    Raises:
        UsageError: no such network, an import path that does not import or returns no module, or a module whose
            output is not `(B, K)`; code without consent; or more parameters than there is memory.
    """
    arguments: dict[str, Any] = {"channels": channels, "classes": classes, "resolution": resolution}
    if width is not None:
        arguments["width"] = width
    if depth is not None:
        arguments["depth"] = depth
    elif name == "convnet":
        arguments["depth"] = default_depth(resolution)
    if name in NETWORKS:
        _check_size(name, arguments)
        return NETWORKS[name](**arguments)
    if not is_import_path(name):
        near = difflib.get_close_matches(name, NETWORKS, n=1)
        raise UsageError(
            f"There is no network {name!r}. Known: {', '.join(NETWORKS)}.",
            f"Did you mean {near[0]}?" if near else "For your own network, use an import path: package.module:callable",
        )
    return _imported(name, arguments)


def initialised_network(
    name: str, *, seed: int, channels: int, classes: int, resolution: int,
    width: int | None = None, depth: int | None = None,
) -> nn.Module:  # fmt: skip
    """As `build_network`, with initial weights that are a function of `seed`; the global generator is not changed."""
    with forked_global_rng(seed):
        return build_network(name, channels=channels, classes=classes, resolution=resolution, width=width, depth=depth)


def _check_size(name: str, arguments: dict[str, Any]) -> None:
    """Refuse a network whose parameters alone do not fit this machine, before any of it is allocated."""
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in NETWORKS[name](**arguments).parameters())
    physical = psutil.virtual_memory().total
    if 4 * count > physical:
        raise UsageError(
            f"This {name} would have {count:,} parameters, {format_bytes(4 * count)}; this machine has "
            f"{format_bytes(physical)} of memory.",
            "Set a smaller network.width or network.depth.",
        )


def _imported(path: str, arguments: dict[str, Any]) -> nn.Module:
    check_trusted(path)
    factory = _import(path)
    accepted = inspect.signature(factory).parameters
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values())
    refused = [key for key in arguments if key not in accepted and not open_ended]
    if refused:
        raise UsageError(
            f"{path} does not take {', '.join(refused)}.",
            "It is called with keyword arguments channels, classes and resolution, and with width and depth if "
            "they are set. Leave network.width and network.depth unset for a network without them.",
        )
    try:
        model = factory(**arguments)
    except Exception as error:
        raise UsageError(f"{path} failed when it was called: {type(error).__name__}: {error}.") from error
    if not isinstance(model, nn.Module):
        raise UsageError(f"{path} returned an object of type {type(model).__name__}, not a torch.nn.Module.")
    if not any(True for _ in model.parameters()):
        raise UsageError(f"The network of {path} has no parameters.")
    _check_output(path, model, arguments)
    return model


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
    except Exception as error:
        raise UsageError(f"{module_name} failed to import: {type(error).__name__}: {error}.") from error
    finally:
        if nearby:
            sys.path.remove(here)
    factory = getattr(module, attribute, None)
    if not callable(factory):
        what = "has no" if factory is None else "has, but cannot call,"
        raise UsageError(f"{module_name} {what} {attribute!r}.", "An import path is package.module:callable")
    found: Callable[..., Any] = factory
    return found
