"""The commented tesla.toml that `tesla init` writes: every setting, its meaning, its value; only a few switched on."""

import textwrap
from dataclasses import asdict
from typing import Any

import tomli_w

from engine.settings.facts import FIELDS, sections
from engine.settings.layers import EffectiveSettings
from engine.settings.sized import Counted
from engine.settings.tables import FORMAT

HEAD = """\
# Settings of this workspace. A commented-out setting shows the value used without it: remove the `# ` to change it.
# `tesla config` prints every effective value and where it came from.
#
# Settings for one number of images per class go in their own table, at the end:
#
#     [ipc.10.distill]
#     steps = 30
"""


COUNTED = """\
# What `tesla init` counted: training images, classes, images of the smallest class, and the side of the images in
# pixels. Presets for datasets of your own follow these numbers (`tesla config` shows which values); change them if the
# dataset grows, before the next new run.
[counted]
"""


def settings_template(effective: EffectiveSettings, active: set[str], counted: Counted | None = None) -> str:
    """TOML text with one commented entry per setting.

    Args:
        effective: the values to show.
        active: dotted keys to write as real settings instead of comments.
        counted: the size of the dataset, where its preset follows it.
    """
    flat = effective.flat()
    about = "Format of this file, not a setting: a version of tesla that cannot read it says so."
    lines = [
        HEAD,
        f"# {about}",
        f"format = {FORMAT}",
        "",
        *(
            line
            for key in ("seed", "profile")
            for line in _entry(key, FIELDS[key].description, flat[key], key in active)
        ),
    ]
    if counted is not None:
        known = {key: value for key, value in asdict(counted).items() if value is not None}
        lines.append(f"\n{COUNTED}" + "\n".join(f"{key} = {value}" for key, value in known.items()))
    for section, model in sections():
        lines.append(f"\n[{section}]  # {(model.__doc__ or '').splitlines()[0]}")
        for name, inner in model.model_fields.items():
            key = f"{section}.{name}"
            if key == "distill.ipc":
                continue  # given on the command line, run by run
            lines.extend(_entry(name, inner.description, flat[key], key in active))
    return "\n".join(lines) + "\n"


def _entry(name: str, description: str | None, value: Any, active: bool) -> list[str]:
    words = textwrap.wrap(" ".join((description or "").split()), 112)
    text = f"{name} =" if value is None else tomli_w.dumps({name: value}).replace("\n", " ").strip().replace(" ]", "]")
    text = text.replace("[     ", "[").replace(",     ", ", ").replace(",]", "]")
    return [*(f"# {line}" for line in words), text if active else f"# {text}", ""]
