# ruff: noqa: E501 - the text of a card is not code
"""The dataset card, README.md of an export: contents, provenance, measured accuracy, use."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from engine.events import EvaluationDone
from engine.settings import method_traits
from engine.settings.datasets import UNKNOWN

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def dataset_card(
    facts: dict[str, Any],
    results: list[EvaluationDone],
    classes: tuple[str, ...],
    tables: Mapping[str, str],
    with_test: bool,
) -> str:
    """Markdown with the hub's YAML header.

    Args:
        facts: the recipe.
        results: test accuracies of this checkpoint and of the random baseline.
        classes: their names.
        tables: the Parquet file of each configuration.
        with_test: whether test.safetensors is there.
    """
    dataset, image, training = facts["dataset"], facts["image"], facts["training"]
    count, factor = facts["ipc"] * len(classes), facts["formation"]
    name = card_text(dataset["title"])
    shown = ", ".join(card_text(c) for c in classes[:20]) + (", ..." if len(classes) > 20 else "")
    return f"""{_header(facts, classes, tables)}
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

{_loading(facts, len(classes))}

Or use `datasets.load_dataset(".")` for 8-bit pictures with `label` and `soft_label`{_parquet(factor)}. Convert real images to the same input space
 ({image["space"]}; tensors `space.*`, as train.py does). Learning rate {training["student_lr"]:.6g}, momentum {training["momentum"]}, weight decay
{training["weight_decay"]}, batch {training["batch"]}, {training["lr_decay"]}.

## Provenance

Real data: {card_text(dataset["source"])}, {dataset["train_images"]:,} training images, sha256 {dataset["fingerprint"]}.
{_data(dataset.get("report"))}Made by {facts["made_by"]}, run {facts["run"]}; every setting is in recipe.json.
{licence_words(dataset["license"])}
"""


def hub_header(facts: dict[str, Any], *more: str) -> str:
    """The YAML header that the hub reads: title, licence, task, tags; `more` lines at its end."""
    dataset, ipc = facts["dataset"], facts["ipc"]
    count = ipc * len(dataset["classes"]) * facts["formation"] ** 2
    size = next((name for most, name in SIZES if count < most), "1M<n<10M")
    title = f"{dataset['title']}, distilled to {ipc} image{'s' if ipc > 1 else ''} per class"
    return "\n".join((
        "---", f"pretty_name: {_quoted(_plain(title))}", f"license: {dataset['license']}", "task_categories:", "- image-classification",
        "size_categories:", f"- {size}", "tags:", "- dataset-distillation", *more, "---\n",
    ))  # fmt: skip


def _header(facts: dict[str, Any], classes: tuple[str, ...], tables: Mapping[str, str]) -> str:
    """With the configurations of `datasets` and their columns: names of classes, the length of soft labels."""
    configs, columns = ["configs:"], ["dataset_info:"]
    names = [f"        '{k}': {_quoted(name)}" for k, name in enumerate(distinct(classes))]
    for config, path in tables.items():
        configs += [
            f"- config_name: {config}",
            "  data_files:",
            "  - split: train",
            f"    path: {path}",
        ]
        columns += [
            f"- config_name: {config}", "  features:", "  - name: image", "    dtype: image", "  - name: label",
            "    dtype:", "      class_label:", "        names:", *(f"  {name}" for name in names),
            # In this order: `datasets` takes the first key for the type.
            "  - name: soft_label", "    list: float32", f"    length: {len(classes)}",
        ]  # fmt: skip
    return hub_header(facts, *configs, *columns)


def distinct(classes: Sequence[str]) -> list[str]:
    """Names for a ClassLabel, which must differ: classes with the same name get their numbers."""
    times = Counter(classes)
    return [name if times[name] == 1 else f"{name} ({k})" for k, name in enumerate(classes)]


def licence_words(name: str) -> str:
    """The last sentence of a card."""
    if name == UNKNOWN:
        return "The licence of the real data applies; it is not known here (`tesla export --license` names it)."
    return f"Licence of the real data: {card_text(name)}."


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


def _loading(facts: dict[str, Any], classes: int) -> str:
    """A PyTorch `Dataset` of the tensors, in ten lines without formation."""
    image, factor = facts["image"], facts["formation"]
    return f"""```python
from safetensors.torch import load_file
{_import(factor)}from torch.utils.data import Dataset

class Distilled(Dataset):
    def __init__(self, file="distilled.safetensors"):
        data = load_file(file)  # "pixels": the images in the scale of [0, 1], not clamped
        self.images = data["images"].float()  # ({facts["ipc"] * classes}, {image["channels"]}, {image["resolution"]}, {image["resolution"]}), in the network's input space
        self.labels = data["labels"].float()  # ({facts["ipc"] * classes}, {classes}), class probabilities
{_decode(factor)}    def __len__(self):
        return len(self.images)
    def __getitem__(self, index):
        return self.images[index], self.labels[index]
```"""


def _import(factor: int) -> str:
    return "" if factor == 1 else "from torch.nn.functional import interpolate\n"


def _decode(factor: int) -> str:
    """How to decode, as code."""
    if factor == 1:
        return ""
    f = factor
    return f"""        small = self.images.unflatten(3, ({f}, -1)).unflatten(2, ({f}, -1)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
        self.images = interpolate(small, size=self.images.shape[2:], mode="bilinear")  # {f * f} from each stored one
        self.labels = self.labels.repeat_interleave({f * f}, 0)
"""


def _parquet(factor: int) -> str:
    """Which configuration of `datasets` has what."""
    return "" if factor == 1 else ', decoded; `load_dataset(".", "stored")` for them as stored'


def _data(report: dict[str, Any] | None) -> str:
    """How the real data was read, a list; empty where it is not known."""
    if report is None:
        return ""
    lines = [
        f"{card_text(split['role'])}: {split['count']:,} {split['unit']} of `{_code(split['name'])}` ({card_text(split['why'])})"
        for split in report["splits"]
        if split["role"] != "unused"
    ]
    if report["class_order"]:
        lines.append(f"order of the classes: {card_text(report['class_order'])}")
    lines += [f"left out: {card_text(item['what'])} ({card_text(item['reason'])})" for item in report["left_out"]]
    lines += [card_text(note) for note in report["notes"]]
    return "\n" + "".join(f"* {line}\n" for line in lines) + "\n"


def _policy(training: dict[str, Any]) -> str:
    """How train.py differs from the measurement."""
    if training["measured_with"] in ("dsa", "none"):
        return ""
    return f" They were measured with {training['measured_with']}; train.py augments with DSA."


def _made(facts: dict[str, Any]) -> str:
    """How the images were made."""
    if facts.get("origin") is not None:
        names = " and ".join(card_text(str(file["name"])) for file in facts["origin"]["files"])
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
    rates = {r.network: f"{r.lr:g}" for r in results if r.subject == "random" and r.lr is not None}
    if len(set(rates.values())) > 1:
        each = ", ".join(f"{rate} ({card_text(network)})" for network, rate in rates.items())
        return f" and trained at learning rates of {each}"
    return f" and trained at a learning rate of {next(iter(rates.values()))}" if rates else ""


def _table(results: list[EvaluationDone]) -> str:
    distilled = [r for r in results if r.subject == "distilled"]
    random = {r.network: r for r in results if r.subject == "random"}
    if not distilled:
        return "Not measured yet for this checkpoint.\n"
    rows = ["| network | random | distilled | networks trained |", "|---|---|---|---|"]
    for result in distilled:
        base = random.get(result.network)
        rows.append(
            f"| {card_text(result.network)} | {_percent(base) if base else ''} | **{_percent(result)}** "
            f"| {len(result.accuracies)} |"
        )
    return "\n".join(rows) + "\n"


def _percent(result: EvaluationDone) -> str:
    spread = f" ± {100 * result.std:.1f}" if len(result.accuracies) > 1 else ""
    return f"{100 * result.mean:.1f}{spread} %"


def _quoted(text: str) -> str:
    """Any text as a YAML scalar."""
    marked = ("\\" + c if c in '"\\' else c if c.isprintable() else f"\\U{ord(c):08x}" for c in text)
    return f'"{"".join(marked)}"'


def _plain(text: str) -> str:
    return "".join(c for c in text if c.isprintable()).replace("|", "/")


def _code(text: str) -> str:
    return _plain(text).replace("`", "'")


def card_text(text: str) -> str:
    """Untrusted text in Markdown: without links, pictures, code or HTML."""
    return re.sub(r"([\\`*_\[\]#!~])", r"\\\1", _plain(text)).replace("&", "&amp;").replace("<", "&lt;")
