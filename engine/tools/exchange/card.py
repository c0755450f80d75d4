# ruff: noqa: E501 - the text of a card is not code
"""The dataset card, README.md of an export: contents, provenance, measured accuracy, use."""

import json
import re
from typing import Any

from engine.events import EvaluationDone
from engine.settings import method_traits

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def dataset_card(
    facts: dict[str, Any], results: list[EvaluationDone], classes: tuple[str, ...], with_test: bool
) -> str:
    """Markdown with the hub's YAML header.

    Args:
        facts: the recipe.
        results: test accuracies of this checkpoint and of the random baseline.
        classes: their names.
        with_test: whether test.safetensors is there.
    """
    dataset, image, training = facts["dataset"], facts["image"], facts["training"]
    count, factor = facts["ipc"] * len(classes), facts["formation"]
    size = next((name for most, name in SIZES if count * factor**2 < most), "1M<n<10M")
    name = _text(dataset["name"])
    shown = ", ".join(_text(c) for c in classes[:20]) + (", ..." if len(classes) > 20 else "")
    return f"""---
pretty_name: {json.dumps(f"{_plain(dataset['name'])}, distilled to {facts['ipc']} image{'s' if facts['ipc'] > 1 else ''} per class", ensure_ascii=False)}
task_categories:
- image-classification
size_categories:
- {size}
tags:
- dataset-distillation
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
{_stored_config(factor)}---

# {name}, distilled to {facts["ipc"]} image{"s" if facts["ipc"] > 1 else ""} per class

![all images](grid.png)

{count} synthetic images of {len(classes)} classes ({shown}), {image["resolution"]}x{image["resolution"]},
{"grey" if image["channels"] == 1 else "RGB"}. {_made(facts)}
{_formation(factor, count, image["resolution"])}
## Measured

{_table(results)}
Accuracy on the {dataset["test_images"]:,} real test images: mean and sample standard deviation over newly initialised networks of
one run, trained for {training["epochs"]} epochs. The checkpoint (iteration {facts["iteration"]}) was selected on held-out training images; the test
images were used once.{_policy(training)} `random` is the same number of real images per class, drawn at random for each
network{_rate(results)}{f", {factor} x {factor} shrunk ones in each" if factor > 1 else ""}.

## Use

    python train.py{"" if with_test else " test.safetensors"}

trains a network in plain PyTorch, in the same way as the accuracy above was measured{"" if with_test else " (export with `--with-test` for the test images)"}. In your own code:

    from safetensors.torch import load_file
    data = load_file("distilled.safetensors")
    data["images"]   # ({count}, {image["channels"]}, {image["resolution"]}, {image["resolution"]}) float, in the network's input space: {"decode these as below" if factor > 1 else "train on these"}
    data["labels"]   # ({count}, {len(classes)}) class probabilities
    data["pixels"]   # the same images in the scale of [0, 1], not clamped
{_decode(factor)}
Or use `datasets.load_dataset(".")` for 8-bit pictures with `label` and `soft_label`{_parquet(factor)}. Convert real images to the same input space
 ({image["space"]}; tensors `space.*`, as train.py does). Learning rate {training["student_lr"]:.6g}, momentum {training["momentum"]}, weight decay
{training["weight_decay"]}, batch {training["batch"]}, {training["lr_decay"]}.

## Provenance

Real data: {_text(dataset["source"])}, {dataset["train_images"]:,} training images, sha256 {dataset["fingerprint"]}.
{_data(dataset.get("report"))}Made by {facts["made_by"]} at {facts["made_at"]}, run {facts["run"]}; every setting is in recipe.json.
The licence of the real data applies.
"""


def _stored_config(factor: int) -> str:
    """The second configuration of `datasets`."""
    if factor == 1:
        return ""
    return "- config_name: stored\n  data_files:\n  - split: train\n    path: stored/train-*.parquet\n"


def _formation(factor: int, count: int, side: int) -> str:
    """What a stored image is."""
    if factor == 1:
        return ""
    return (
        f"\n**Each image holds {factor} x {factor} smaller ones** (multi-formation, Kim et al. 2022). Stored are {count} x "
        f"{side} x {side} pixels;\ntrain on the {count * factor**2} images that they decode to: each part of "
        f"{side // factor}x{side // factor} pixels, cut out and enlarged bilinearly to {side}x{side}.\n`images/` has the "
        "pictures as stored, `decoded/` as networks see them.\n"
    )


def _decode(factor: int) -> str:
    """How to decode, as code."""
    if factor == 1:
        return ""
    f = factor
    return f"""
    from torch.nn.functional import interpolate
    small = data["images"].unflatten(3, ({f}, -1)).unflatten(2, ({f}, -1)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
    images = interpolate(small, size=data["images"].shape[2:], mode="bilinear")   # train on these
    labels = data["labels"].repeat_interleave({f * f}, 0)
"""


def _parquet(factor: int) -> str:
    """Which configuration of `datasets` has what."""
    return "" if factor == 1 else ', decoded; `load_dataset(".", "stored")` for them as stored'


def _data(report: dict[str, Any] | None) -> str:
    """How the real data was read, a list; empty where it is not known."""
    if report is None:
        return ""
    lines = [
        f"{_text(split['role'])}: {split['count']:,} {split['unit']} of `{_code(split['name'])}` ({_text(split['why'])})"
        for split in report["splits"]
        if split["role"] != "unused"
    ]
    if report["class_order"]:
        lines.append(f"order of the classes: {_text(report['class_order'])}")
    lines += [f"left out: {_text(item['what'])} ({_text(item['reason'])})" for item in report["left_out"]]
    lines += [_text(note) for note in report["notes"]]
    return "\n" + "".join(f"* {line}\n" for line in lines) + "\n"


def _policy(training: dict[str, Any]) -> str:
    """How train.py differs from the measurement."""
    if training["measured_with"] in ("dsa", "none"):
        return ""
    return f" They were measured with {training['measured_with']}; train.py augments with DSA."


def _made(facts: dict[str, Any]) -> str:
    """How the images were made."""
    if facts.get("origin") is not None:
        names = " and ".join(_text(str(file["name"])) for file in facts["origin"]["files"])
        return (
            f"They were made elsewhere and imported from {names} (their sha256 is in recipe.json),\n"
            "so that a network trained on them alone does well on real images. They are training data and need not\n"
            "look like anything."
        )
    settings = facts["settings"]
    if settings["distill.iterations"] == 0:
        return f"They are real training images, selected by {facts['method']}."
    if facts["iteration"] == 0:
        return f"They are what {facts['method']} starts from: no update was made to them."
    with_what = f"**{settings['labels.kind']}** labels"
    if method_traits(settings["distill.method"]).teachers:
        with_what = f"the **{settings['distill.gradient']}** gradient and {with_what}"
    return (
        f"They were made by {facts['method']} with\n{with_what}, so that a network trained on them alone does\n"
        "well on real images. They are training data and need not look like anything."
    )


def _rate(results: list[EvaluationDone]) -> str:
    """The learning rate of random real images, where it is known."""
    rate = next((r.lr for r in results if r.subject == "random" and r.lr is not None), None)
    return "" if rate is None else f" and trained at a learning rate of {rate:g}"


def _table(results: list[EvaluationDone]) -> str:
    distilled = [r for r in results if r.subject == "distilled"]
    random = {r.network: r for r in results if r.subject == "random"}
    if not distilled:
        return "Not measured yet for this checkpoint.\n"
    rows = ["| network | random | distilled | networks trained |", "|---|---|---|---|"]
    for result in distilled:
        base = random.get(result.network)
        rows.append(
            f"| {_text(result.network)} | {_percent(base) if base else ''} | **{_percent(result)}** "
            f"| {len(result.accuracies)} |"
        )
    return "\n".join(rows) + "\n"


def _percent(result: EvaluationDone) -> str:
    spread = f" ± {100 * result.std:.1f}" if len(result.accuracies) > 1 else ""
    return f"{100 * result.mean:.1f}{spread} %"


def _plain(text: str) -> str:
    return "".join(c for c in text if c.isprintable()).replace("|", "/")


def _code(text: str) -> str:
    return _plain(text).replace("`", "'")


def _text(text: str) -> str:
    """Untrusted text in Markdown: without links, pictures, code or HTML."""
    return re.sub(r"([\\`*_\[\]#!~])", r"\\\1", _plain(text)).replace("&", "&amp;").replace("<", "&lt;")
