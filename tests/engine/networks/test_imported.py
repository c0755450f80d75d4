"""Networks of timm and torchvision by import path, with packages that have their signatures."""

import re
import sys
from pathlib import Path

import pytest
import torch

from engine.errors import UsageError
from engine.events import Notice
from engine.networks import build_network, initialised_network
from engine.networks.dropout import Dropout
from engine.networks.imported import spelling_words
from engine.runs.workspace import Workspace
from engine.session.session import drive
from engine.settings.trust import CONFIG, FOR_NOW, allow, trust
from tests.conftest import TINY, Drive
from tests.runs import events

TIMM = """
from pathlib import Path
from torch import nn
Path(__file__).with_name("RAN").touch()
def create_model(model_name, pretrained=False, pretrained_cfg=None, **kwargs):
    assert not pretrained
    if model_name != "resnet18":
        raise RuntimeError(f"Unknown model ({model_name})")
    return _resnet(**kwargs)
def _resnet(num_classes=1000, in_chans=3):
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(nn.Conv2d(in_chans, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), *pool, nn.Linear(4, num_classes))
"""
TORCHVISION = """
from torch import nn
class Net(nn.Module):
    def __init__(self, num_classes=1000):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Sequential(nn.Dropout(p=0.5), nn.Linear(4, num_classes))
    def forward(self, images):
        return self.classifier(self.features(images))
def resnet18(*, weights=None, progress=True, **kwargs):
    assert weights is None
    return Net(**kwargs)
"""
OTHERS = """
import timm, torchvision.models
def plain(weights=None, num_classes=1000): return torchvision.models.Net(num_classes)
def sized(num_classes, in_channels, img_size, width=4, **kwargs):
    assert img_size == 8 and not kwargs
    return timm._resnet(num_classes, in_channels)
def mixed(classes, in_chans, image_size): return timm._resnet(classes, in_chans)
def open_ended(num_classes, **kwargs):
    assert not kwargs
    return torchvision.models.Net(num_classes)
def no_classes(in_chans): return timm._resnet(10, in_chans)
"""
RGB = {"channels": 3, "classes": 5, "resolution": 8}
GREY = {**RGB, "channels": 1}


@pytest.fixture(autouse=True)
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment with both packages; nobody has consented to anything yet."""
    folder = tmp_path / "site-packages"
    (folder / "timm").mkdir(parents=True)
    (folder / "timm" / "__init__.py").write_text(TIMM)
    (folder / "torchvision" / "models").mkdir(parents=True)
    (folder / "torchvision" / "__init__.py").write_text("")
    (folder / "torchvision" / "models" / "__init__.py").write_text(TORCHVISION)
    (folder / "others.py").write_text(OTHERS)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv(CONFIG, str(tmp_path / "config"))
    monkeypatch.setenv(FOR_NOW, "")
    for name in ("timm", "torchvision", "torchvision.models", "others"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return folder


@pytest.mark.parametrize(
    ("path", "size", "words"),
    [
        ("timm:resnet18", GREY, "called with in_chans=1, num_classes=5;.*not told resolution"),
        ("timm:resnet18", RGB, "called with in_chans=3, num_classes=5;"),
        ("torchvision.models:resnet18", RGB, "called with num_classes=5;.*not told channels and resolution"),
        ("others:plain", RGB, "called with num_classes=5"),
        (
            "others:sized",
            GREY,
            "called with in_channels=1, num_classes=5, img_size=8; its initial weights",
        ),
        ("others:mixed", GREY, "called with in_chans=1, classes=5, image_size=8"),
        ("others:open_ended", RGB, "called with num_classes=5"),
    ],
)
def test_names_of_keyword_arguments(path: str, size: dict[str, int], words: str) -> None:
    allow(path)
    model = build_network(path, **size)
    assert model(torch.zeros(2, size["channels"], 8, 8)).shape == (2, 5)
    said = spelling_words(path, size)
    assert said.startswith(f"{path} is called with ")
    assert re.search(words, said), said


@pytest.mark.parametrize(
    ("path", "arguments", "words"),
    [
        ("timm:resnet99", RGB, r"timm:resnet99 failed when it was called: RuntimeError: Unknown model \(resnet99\)"),
        ("torchvision.models:resnet99", RGB, "has no 'resnet99'"),
        ("torchvision.models:resnet18", GREY, r"takes no number of channels.*have 1\..*timm:NAME"),
        ("timm:resnet18", {**RGB, "width": 9}, "timm:resnet18 does not take width"),
        ("others:plain", {**RGB, "depth": 9}, "others:plain does not take depth"),
        ("others:no_classes", RGB, "does not take classes, resolution"),
        ("timn:resnet18", RGB, "There is no module timn"),
    ],
)
def test_what_a_library_does_not_have(path: str, arguments: dict[str, int], words: str) -> None:
    allow(path)
    with pytest.raises(UsageError, match=words):
        build_network(path, **arguments)


def test_a_library_needs_consent_like_any_code(libraries: Path) -> None:
    with pytest.raises(UsageError, match=rf"would run from {libraries}.*tesla trust timm:resnet18"):
        build_network("timm:resnet18", **RGB)
    assert not (libraries / "timm" / "RAN").exists()
    assert trust("timm:resnet18") == (libraries / "timm" / "__init__.py").resolve()
    build_network("timm:resnet18", **RGB)
    with pytest.raises(UsageError, match="tesla trust timm:resnet50"):
        build_network("timm:resnet50", **RGB)


def test_weights_and_masks_are_functions_of_the_seed() -> None:
    allow("torchvision.models:resnet18")
    state = torch.get_rng_state()
    a, b = (initialised_network("torchvision.models:resnet18", seed=4, **RGB) for _ in range(2))
    assert isinstance(a.classifier[0], Dropout)  # type: ignore[index]
    images = torch.ones(2, 3, 8, 8)
    assert torch.equal(a(images), b(images))
    assert not torch.equal(a(images), a(images))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_run_evaluates_with_a_library_and_says_once_how(tiny_run: Drive) -> None:
    run = tiny_run("r", "evaluate.networks=timm:resnet18,convnet", "evaluate.every=6")
    said = [event.message for event in events(run, Notice) if "is called with" in event.message]
    assert said == [
        "timm:resnet18 is called with in_chans=1, num_classes=10; its initial weights are its own. It is not told "
        "resolution."
    ]
    assert {result.network for result in run.evaluations() if result.split == "test"} == {"timm:resnet18", "convnet"}


def test_a_library_teaches_with_batch_norm(workspace: Workspace) -> None:
    tiny = [text for text in TINY if not text.startswith("network.width")]
    run = workspace.run("r")
    effective = workspace.settings(overrides=(*tiny, "network.name=timm:resnet18", "evaluate.every=6"), run=run)
    said = [event.message for event in drive(workspace, run, effective) if isinstance(event, Notice)]
    assert len([words for words in said if words.startswith("timm:resnet18 is called with")]) == 1
    assert max(run.checkpoints()) == 6


@pytest.mark.parametrize(
    "code", ["raise SystemExit(0)", "import sys\ndef net(channels, classes, resolution): sys.exit()"]
)
def test_a_script_that_ends_itself_does_not_end_the_command_with_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    name = f"script_{len(code)}"
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(FOR_NOW, f"{name}:net")
    with pytest.raises(UsageError, match=r"failed .*: SystemExit"):
        build_network(f"{name}:net", **GREY)
