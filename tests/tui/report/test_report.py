"""The report: one file with everything in it, true to the run, harmless whatever names are in it, at any time."""

import asyncio
import base64
import html
import json
import re
import shlex
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engine.errors import UnreadableFileError
from engine.events import CheckpointSaved, IterationDone, TeacherEpoch
from engine.runs.history import read_history
from engine.runs.judgement import outcomes
from engine.runs.status import run_status
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.settings.overrides import parse_override
from engine.storage.filesystem import disk
from engine.tools.exchange.import_images import Wanted, import_images
from tesla_tui.render.words import teachers_words
from tesla_tui.report import words
from tesla_tui.report.commands import option_value
from tesla_tui.report.page import write_report
from tests.browser import CHROMIUM, MISSING, Browser
from tests.conftest import TINY, Drive
from tests.faults import Refusing
from tests.tui.cli.test_cli import SETS, Tesla, tesla  # noqa: F401

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """What is in a page; complains of tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style",):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def page_of(workspace: Workspace, run: str, to: Path) -> Page:
    from tesla_tui.report.page import write_report

    write_report(workspace, workspace.existing_run(run), to)
    text = to.read_text(encoding="utf-8")
    page = Page(text)
    assert page.count("script") == page.count("link") == page.count("iframe") == 0
    for _, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href"):
                assert value is not None
                assert value.startswith(("data:image/png;base64,", "#"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for used in re.findall(r"url\(#([^)]+)\)", text):
        assert used in ids
    assert "url(http" not in text
    return page


@pytest.mark.slow
def test_it_says_what_was_measured(tiny_run: Drive, workspace: Workspace, tmp_path: Path) -> None:
    run = tiny_run("r", "distill.ipc=2", "evaluate.selection_repeats=1")
    page = page_of(workspace, "r", tmp_path / "r.html")
    results = {r.subject: r for r in run.evaluations() if r.split == "test"}
    ours, base = results["distilled"], results["random"]
    for result in (ours, base):
        assert f"{100 * result.mean:.1f} ± {100 * result.std:.1f} %" in page.text
    # The number of networks stands beside each of them, or in the table's own column.
    lead = page.text.split("The images")[0]
    for result in (ours, base):
        assert lead.count(f"{100 * result.mean:.1f} ± {100 * result.std:.1f} % (n = 2)") == 2
    assert f"{100 * ours.mean:.1f} ± {100 * ours.std:.1f} % test accuracy, n = 2" in lead
    (outcome,) = outcomes([ours], [base], unimproved=run_status(run).unimproved)
    assert f"{100 * (ours.mean - base.mean):+.1f} points with convnet (95 % interval" in outcome.words
    assert outcome.words in page.text
    teachers = read_history(run).teachers
    assert teachers is not None and teachers_words(teachers) in page.text
    assert "finished, 6 iterations" in page.text and "Peak memory" in page.text
    assert page.count("svg") == 4
    # Ten classes, and the film from the first iteration to the last.
    assert page.count("img") >= 12
    frozen = run.frozen()
    for key, value in (("distill.steps", "4"), ("network.width", "4")):
        assert f"{key} {value} {frozen.origins[key]}" in page.text
    fingerprint = json.loads(next((workspace.folder / "buffers").glob("*/manifest.json")).read_text())
    assert fingerprint["identity"]["dataset"] in page.text
    assert "cui2023scaling" in page.text
    assert "alpaydin1998optical" in page.text


@pytest.mark.slow
def test_its_commands_repeat_the_run(tesla: Tesla, tmp_path: Path) -> None:  # noqa: F811
    tesla("init", "ws", "--dataset", "digits", "--set", "distill.init=noise")
    sets = [*SETS, "--set", "augment.ops=crop,scale"]
    assert tesla("run", "ws", "--ipc", 2, "--run", "first", *sets)[0] == 0
    code, out, _ = tesla("report", "ws")
    assert code == 0
    assert "Wrote ws-first.html" in out
    blocks = re.findall(r"<pre>(.*?)</pre>", Path("ws-first.html").read_text(), re.DOTALL)
    commands = [shlex.split(html.unescape(block).replace("\\\n", "")) for block in blocks]
    assert [command[1] for command in commands] == ["init", "run"]
    Path("ws").rename("before")
    for command in commands:
        assert tesla(*command[1:])[0] == 0
    one, two = (Workspace(Path(name)).run("first").load_checkpoint(6)[0] for name in ("before", "ws"))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("event", [TeacherEpoch, CheckpointSaved, IterationDone])
def test_it_can_be_written_at_any_time(tiny_run: Drive, workspace: Workspace, tmp_path: Path, event: type) -> None:
    tiny_run("r", until=lambda e: isinstance(e, event))
    page = page_of(workspace, "r", tmp_path / "r.html")
    assert "stopped at iteration" in page.text
    assert "Nothing has been measured on the test images yet" in page.text
    iterations = [float(v) for v in re.findall(r"stopped at iteration (\d+) of 6", page.text)]
    assert iterations == [1.0 if event is IterationDone else 0.0]


@pytest.mark.slow
def test_soft_labels_have_a_map(tiny_run: Drive, workspace: Workspace, tmp_path: Path) -> None:
    tiny_run("r", "labels.kind=target")
    page = page_of(workspace, "r", tmp_path / "r.html")
    assert "Soft labels" in page.text
    shares = [float(a["fill-opacity"] or 0) for tag, a in page.tags if tag == "rect" and "fill-opacity" in a]
    assert shares
    assert all(0 < share <= 1 for share in shares)


LONG = "a class of pictures whose name goes on and on for a whole line, number "


@pytest.mark.slow
def test_long_class_names_lose_their_middle(tesla: Tesla, tmp_path: Path) -> None:  # noqa: F811
    for k in range(3):
        (tmp_path / "pics" / f"{LONG}{k}").mkdir(parents=True)
        for i in range(12):
            Image.new("L", (8, 8), 40 * k + i).save(tmp_path / "pics" / f"{LONG}{k}" / f"{i}.png")
    tesla("init", "ws", "--dataset", "pics")
    code, _, err = tesla("run", "ws", "--ipc", 1, "--set", "labels.kind=learned", *SETS, "--set", "teachers.batch=8")
    assert code == 0, err
    page = page_of(Workspace(Path("ws")), "ipc-1", tmp_path / "r.html")
    for k in range(3):
        # Under its images, under the film, at both sides of the map: short, different from the others, whole on demand.
        assert sum(words.startswith("a class") and words.endswith(f"{k}") and "…" in words for words in page.words) == 4
        assert sum(attributes.get("title") == f"{LONG}{k}" for _, attributes in page.tags) == 2
    assert max(map(len, (words for words in page.words if "…" in words and words.startswith("a class")))) <= 48


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None or shutil.which("pdftotext") is None, reason=f"{MISSING}, or no pdftotext")
def test_the_last_printed_page_has_more_than_a_line(tiny_run: Drive, workspace: Workspace, tmp_path: Path) -> None:
    tiny_run("r", "labels.kind=target", "distill.ipc=2")
    path = tmp_path / "r.html"
    page_of(workspace, "r", path)

    async def last_pages() -> list[str]:
        async with Browser(tmp_path / "profile") as browser:
            await browser.open(path.as_uri())
            await browser.until("document.readyState === 'complete' && document.querySelector('footer') !== null")
            return [await last_page(browser, space) for space in (0, 30, 60, 90)]

    for text in asyncio.run(last_pages()):
        assert "Cite" in text and "tesla report" in text, text  # the last heading, all below it, and the footer


async def last_page(browser: Browser, space: int) -> str:
    """Text of the last printed page, where everything is so many millimetres further down."""
    await browser.value(f"document.querySelector('main').style.setProperty('padding-top', '{space}mm', 'important')")
    answer = await browser.call("Page.printToPDF", preferCSSPageSize=True)
    text = subprocess.run(
        ["pdftotext", "-layout", "-", "-"], input=base64.b64decode(answer["data"]), capture_output=True, check=True
    ).stdout.decode()
    return text.rstrip("\f").rpartition("\f")[2]


@pytest.mark.slow
def test_it_says_how_the_data_were_read(tesla: Tesla, tmp_path: Path) -> None:  # noqa: F811
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(10):
            Image.new("L", (8, 8), 20 * i).save(tmp_path / "pets" / name / f"{i}.png")
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("tabby")
    tesla("init", "ws", "--dataset", "pets", "--set", "dataset.on_bad_file=skip")
    assert tesla("run", "ws", "--ipc", 1, *SETS)[0] == 0
    text = page_of(Workspace(tmp_path / "ws"), "ipc-1", tmp_path / "report.html").text
    assert f"Dataset folder {tmp_path / 'pets'}" in text
    assert "pets, distilled to 1 image per class" in text
    assert "test images of pets" in text
    assert "test: test, 4 images (there is no test split: 20% of each class of train, drawn once)" in text
    assert "Classes cat, dog (sorted by name, as ImageFolder)" in text
    assert "Left out 1 " in text
    assert "Values, fit 0..255, crop: all 20 images are square" in text
    # A record of other data does not describe the run.
    (tmp_path / "pets" / "cat" / "0.png").unlink()
    assert tesla("run", "ws", "--run", "two", "--ipc", 1, *SETS)[0] == 0
    assert "sorted by name" not in page_of(Workspace(tmp_path / "ws"), "ipc-1", tmp_path / "report.html").text


def test_names_of_others_are_only_text(tesla: Tesla, tmp_path: Path) -> None:  # noqa: F811
    names = ("<img src=x onerror=alert(1)>", "\u202eevil\x1b[31m", '"><svg onload=alert(1)>', "{{ 7 * 7 }}")
    for k, name in enumerate(names):
        (tmp_path / "pics" / name).mkdir(parents=True)
        for i in range(12):
            rng = np.random.default_rng(20 * k + i)
            Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(tmp_path / "pics" / name / f"{i}.png")
    tesla("init", "ws", "--dataset", "./pics")
    code, _, err = tesla("run", "ws", "--ipc", 1, "--set", "labels.kind=learned", *SETS, "--set", "teachers.batch=8")
    assert code == 0, err
    page = page_of(Workspace(Path("ws")), "ipc-1", tmp_path / "r.html")
    assert names[0] in page.text
    assert names[3] in page.text
    assert "\u202e" not in page.text
    assert "\x1b" not in page.text


def test_an_imported_set(workspace: Workspace, tmp_path: Path) -> None:
    torch.save(torch.randn(10, 1, 8, 8), tmp_path / "i.pt")
    torch.save(torch.full((10, 10), 0.1), tmp_path / "l.pt")
    run_to_end(import_images(workspace, "theirs", Wanted(tmp_path / "i.pt", tmp_path / "l.pt", "0.03"), TINY))
    page = page_of(workspace, "theirs", tmp_path / "r.html")
    assert "made elsewhere and imported" in page.text
    assert "imported from i.pt and l.pt: normalised images, soft labels, step size 0.03" in page.text
    assert "tesla import-images ws i.pt l.pt --lr 0.03" in page.text
    assert "cui2023scaling" not in page.text


def test_only_a_report_is_written_over(tesla: Tesla, tiny_run: Drive, workspace: Workspace, tmp_path: Path) -> None:  # noqa: F811
    tiny_run("r", until=lambda e: isinstance(e, CheckpointSaved))
    target = tmp_path / "deep" / "r.html"
    for _ in range(2):
        assert tesla("report", workspace.folder, "--to", target)[0] == 0
    other = tmp_path / "thesis.html"
    other.write_text("mine")
    code, _, err = tesla("report", workspace.folder, "--to", other)
    assert code == 2
    assert "is not a report" in err
    assert other.read_text() == "mine"
    assert tesla("report", workspace.folder, "--to", tmp_path)[0] == 2


@pytest.mark.slow
def test_it_needs_no_torch(tiny_run: Drive, workspace: Workspace, tmp_path: Path) -> None:
    tiny_run("r")
    script = (
        "import sys; from pathlib import Path; from engine.runs.workspace import Workspace; "
        "from tesla_tui.report.page import write_report; w = Workspace(Path(sys.argv[1])); "
        "write_report(w, w.existing_run(None), Path(sys.argv[2])); "
        "print([m for m in ('torch', 'textual', 'matplotlib.pyplot') if m in sys.modules])"
    )
    command = [sys.executable, "-c", script, str(workspace.folder), str(tmp_path / "r.html")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_damaged_files_are_left_out(tiny_run: Drive, workspace: Workspace, tmp_path: Path) -> None:
    run = tiny_run("r")
    whole = page_of(workspace, "r", tmp_path / "r.html")
    path = next((run.folder / "evaluations").glob("*-test-random-*.json"))
    value = json.loads(path.read_text())
    for field, nonsense in (("mean", "high"), ("accuracies", None), ("network", 7), ("mean", float("nan"))):
        path.write_text(json.dumps({**value, "result": {**value["result"], field: nonsense}}))
        assert "random real images convnet" not in page_of(workspace, "r", tmp_path / "r.html").text
    assert "random real images convnet" in whole.text
    for frame in run.film.glob("*.png"):
        frame.write_bytes(frame.read_bytes()[:100])
    with open(run.journal_file, "ab") as journal:
        journal.write(
            b'{"kind": "IterationDone", "loss": "x"}\n{"kind": "EvaluationDone", "seconds": "long"}\n[1]\n\xff\n{"torn'
        )
    page = page_of(workspace, "r", tmp_path / "r.html")
    assert page.count("img") == 0
    assert page.count("svg") == 4


@pytest.mark.parametrize(
    ("key", "value"), [("dataset.value_range", [0.0, 4095.0]), ("evaluate.networks", ["mlp", "lenet"]),
                       ("dataset.recursive", True), ("distill.steps", 7)],
)  # fmt: skip
def test_settings_in_commands_are_read_back(key: str, value: object) -> None:
    assert parse_override(f"{key}={option_value(value)}") == (key, value)


def test_the_environment_has_what_was_recorded_and_no_more() -> None:
    def rows(**environment: object) -> dict[str, str]:
        facts: Any = SimpleNamespace(view=SimpleNamespace(environment=environment))
        return dict(words.environment(facts))

    assert rows(tesla="0.1.0", device="cpu", threads=2) == {"tesla": "0.1.0", "Device": "cpu", "CPU threads": "2"}
    assert rows(cuda="13.0", cudnn=91900, driver=None, capability="9.0", tf32="off", deterministic=True) == {
        "CUDA": "13.0", "cuDNN": "91900", "Compute capability": "9.0", "TF32": "off", "Deterministic kernels": "yes",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "call"), [(r"previews/\d+.png$", "read"), ("previews$", "names"), ("previews$", "status")]
)
def test_a_frame_that_cannot_be_read_now_is_not_left_out(
    tiny_run: Drive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, call: str
) -> None:
    run = tiny_run()
    workspace = Workspace(run.folder.parents[1])
    target = tmp_path / "r.html"
    with monkeypatch.context() as patched:
        refusing = Refusing(pattern, "ESTALE", call)
        patched.setattr(disk, "system", refusing)
        with pytest.raises(UnreadableFileError, match="cannot be read now"):
            write_report(workspace, run, target)
    assert refusing.refused == 1 and not target.exists()
    write_report(workspace, run, target)
    assert target.exists()
