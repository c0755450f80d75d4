"""Every command's help has an example, and the first one runs on digits, as it is typed there."""

import re
import shlex
import signal
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import typer

from engine.runs.workspace import Workspace
from tesla_tui.cli.app import app
from tests.conftest import TINY
from tests.forks import ForkedTesla
from tests.processes import HANGS, NEVER, in_stage, wait_for
from tests.terminal import Terminal
from tests.tui.cli.test_cli import Tesla, one_paragraph, tesla

__all__ = ["tesla"]

ORDER = ("init", "data", "plan", "config", "teach", "run", "status", "show", "log", "report", "evaluate", "export",
         "export-buffers", "import-buffers", "import-images", "doctor", "trust", "demo",
         "study labels", "study ipc", "study lr", "study gradient", "study start", "study sla-only", "study cross",
         "study ranking", "study augment", "study gallery",
         "bench data", "bench evaluate", "bench teachers", "bench gradient")  # fmt: skip
"""As a newcomer may type them: each uses what earlier ones made."""
SHORTER = {
    "bench evaluate": ("--epochs", "1", "--repeats", "1", "--rounds", "1"),
    "bench gradient": ("--rounds", "1"),
    "bench teachers": ("--rounds", "1"),
}
"""Added to an example: the last value of an option counts."""
OWN = ("tui", "serve", "stop")
"""Tested below: they need a terminal, a browser, and a run in progress."""


def first_examples() -> dict[str, str]:
    """The first example in the help of each command, by the words that call it."""
    return dict(_examples(typer.main.get_command(app), ""))


def _examples(command: object, words: str) -> Iterator[tuple[str, str]]:
    children = getattr(command, "commands", None)
    if children is not None:
        for name, child in children.items():
            yield from _examples(child, f"{words} {name}".strip())
        return
    found = re.search(r"Examples?:\s+(tesla .*)", getattr(command, "help", None) or "")
    assert found, f"the help of tesla {words} has no example"
    yield words, found[1].strip()


def words_of(command: str) -> list[str]:
    """The arguments of a command's first example."""
    return shlex.split(first_examples()[command])[1:]


def test_every_example_calls_its_own_command() -> None:
    for words, example in first_examples().items():
        assert shlex.split(example)[1:][: len(words.split())] == words.split(), example
        assert not set("|*~<>") & set(example), f"{example}: not for every shell"


def test_every_example_has_options_that_exist() -> None:
    root = typer.main.get_command(app)
    for words in first_examples():
        command = command_of(root, words)
        examples = re.findall(rf"^\s+(tesla {words}(?: .*)?)$", command.help or "", flags=re.MULTILINE)
        assert examples, words
        for example in examples:
            arguments = shlex.split(example.partition(" | ")[0])[1 + len(words.split()) :]
            command.make_context(words, list(arguments)).close()


def command_of(root: Any, words: str) -> Any:
    """The command that these words call."""
    for word in words.split():
        root = root.commands[word]
    return root


def test_every_command_has_its_place() -> None:
    assert sorted(first_examples()) == sorted([*ORDER, *OWN])


def test_a_command_without_an_example_is_noticed() -> None:
    other = typer.Typer()
    other.command()(_examples)
    other.command("silent")(lambda: None)
    with pytest.raises(AssertionError, match="the help of tesla silent has no example"):
        list(_examples(typer.main.get_command(other).commands["silent"], "silent"))  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.timeout(1800)  # all commands but three, one after the other
def test_the_first_examples_run_on_digits(tesla: Tesla, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESLA_CONFIG", str(tmp_path / "config"))
    (tmp_path / "my_nets.py").write_text("class WideNet: ...\n")
    make_small(tmp_path / "demo" / "tesla.toml")
    for words in ORDER:
        code, _, err = tesla(*words_of(words), *SHORTER.get(words, ()))
        assert code == 0, (words, err)
        if words == "init":
            make_small(tmp_path / "my-run" / "tesla.toml")
        elif words == "export":
            assert tesla("export", "my-run", "--run", "quick", "--to", "published/", "--format", "pt")[0] == 0
    code, _, err = tesla(*words_of("stop"))
    assert code == 2 and "quick is not running" in one_paragraph(err)


@pytest.mark.slow
def test_the_examples_of_the_screens_show_the_run(tesla: Tesla, tmp_path: Path) -> None:
    quick_run(tesla, tmp_path)
    with Terminal(*words_of("tui"), size=(120, 40), config=tmp_path / "none.toml") as terminal:
        terminal.wait_for("held-out accuracy")
        terminal.type(b"q")
        assert terminal.ended() == 0

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = ForkedTesla(*words_of("serve"), "--port", port)
    try:
        wait_for(lambda: "TESLA" in page(port).upper(), server)
    finally:
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=HANGS)
    assert f"http://127.0.0.1:{port}/" in out and "Traceback" not in out + err


@pytest.mark.slow
def test_the_example_of_stop_stops_the_quick_run(tesla: Tesla, tmp_path: Path) -> None:
    assert tesla(*words_of("init"))[0] == 0
    make_small(tmp_path / "my-run" / "tesla.toml")
    running = ForkedTesla(*words_of("run"), "--set", f"distill.iterations={NEVER}")
    wait_for(in_stage(Workspace(tmp_path / "my-run").run("quick"), "distillation"), running)
    code, out, err = tesla(*words_of("stop"))
    assert code == 0, err
    assert "quick stopped" in one_paragraph(out)
    assert running.wait(timeout=HANGS) == 143


def quick_run(tesla: Tesla, folder: Path) -> None:
    """The first two commands of a newcomer, made small."""
    assert tesla(*words_of("init"))[0] == 0
    make_small(folder / "my-run" / "tesla.toml")
    code, _, err = tesla(*words_of("run"))
    assert code == 0, err


def page(port: int) -> str:
    """What the server answers; nothing while it starts."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=HANGS) as answer:
            return str(answer.read().decode())
    except (URLError, ConnectionError):
        return ""


def make_small(toml: Path) -> None:
    """Settings of a workspace whose runs take a second; the network is as wide as that of any quick run."""
    toml.parent.mkdir(exist_ok=True)
    settings = (text.partition("=") for text in ("dataset.name=digits", *TINY) if not text.startswith("network.width"))
    lines = (f"{key} = {value if value.isdigit() else repr(value)}\n" for key, _, value in settings)
    toml.write_text("".join(lines))
