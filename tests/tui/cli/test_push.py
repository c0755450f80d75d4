"""`tesla export --push`, against a hub on localhost."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.engine.tools.exchange.fake_hub import FakeHub, fake_hub
from tests.tui.cli.test_cli import SETS, Tesla, one_paragraph, tesla  # noqa: F401

ROOT = Path(__file__).parents[3]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub, and nobody logged in."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)  # other tests set it
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with fake_hub() as made:
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        yield made


@pytest.fixture
def ready(tesla: Tesla, tmp_path: Path) -> None:  # noqa: F811
    """A workspace with a set."""
    images = torch.rand((10, 1, 8, 8), generator=torch.Generator().manual_seed(1))
    torch.save({"images": images, "labels": torch.arange(10), "lr": 0.01}, tmp_path / "set.pt")
    assert tesla("init", "ws", "--dataset", "digits")[0] == 0
    assert tesla("import-images", "ws", "set.pt", "--run", "r", "--space", "pixels", *SETS)[0] == 0


@pytest.mark.usefixtures("ready")
def test_a_set_is_uploaded_as_it_is_exported(
    tesla: Tesla, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    code, out, err = tesla("export", "ws", "--push", "alice/digits", "--private")
    assert code == 0, err
    assert f"{hub.url}/datasets/alice/digits" in one_paragraph(out) and "hf_secret" not in out + err
    assert (hub.repo, hub.private, hub.commits) == ("alice/digits", True, 1)
    assert "Bearer hf_secret" in hub.tokens
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set.pt", "ws"]

    assert tesla("export", "ws", "--to", "out")[0] == 0
    here = {path.relative_to(tmp_path / "out").as_posix(): path for path in (tmp_path / "out").rglob("*")}
    assert {name: path.read_bytes() for name, path in here.items() if path.is_file()} == hub.files
    for line in hub.files["SHA256SUMS"].decode().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256(hub.files[name]).hexdigest() == digest

    hub.files |= {"NOTES.md": b"mine", "images/0-0/0009.png": b"of a larger set"}
    code, out, err = tesla("export", "ws", "--push", "alice/digits", "--to", "both")
    assert code == 0, err
    assert "NOTES.md" in hub.files and "images/0-0/0009.png" not in hub.files
    assert (tmp_path / "both" / "README.md").read_bytes() == hub.files["README.md"]


@pytest.mark.usefixtures("ready")
def test_a_dry_run_needs_no_token_and_asks_nobody(tesla: Tesla, hub: FakeHub, tmp_path: Path) -> None:  # noqa: F811
    code, out, err = tesla("export", "ws", "--push", "alice/digits", "--dry-run")
    assert code == 0, err
    words = one_paragraph(out)
    assert "Would upload 17 files (" in words and f"{hub.url}/datasets/alice/digits" in words
    assert "images/ (10 files)" in words and "distilled.safetensors" in words
    assert (hub.repo, hub.tokens) == (None, set())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set.pt", "ws"]


@pytest.mark.usefixtures("ready")
def test_what_cannot_be_uploaded_is_one_paragraph(
    tesla: Tesla, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    def refused(*words: object) -> tuple[int, str]:
        code, _, err = tesla("export", "ws", *words)
        assert code
        return code, one_paragraph(err)

    code, words = refused("--push", "alice/digits", "--to", "out")
    assert code == 2 and "needs a token of the Hugging Face hub, and there is none" in words
    assert "hf auth login" in words and not (tmp_path / "out").exists() and not hub.tokens
    for wrong in ("digits", "a/b/c", "alice/../x", "alice/", "-a/b"):
        code, words = refused(f"--push={wrong}")
        assert code == 2 and f"'{wrong}' is not the name of a dataset on the hub. Give owner/name" in words
    assert "--to FOLDER to write a folder, --push OWNER/NAME" in refused()[1]
    assert "options of --push" in refused("--to", "out", "--private")[1]

    monkeypatch.setenv("HF_TOKEN", "hf_read_only")
    hub.refuse = 403
    code, words = refused("--push", "alice/digits", "--to", "kept")
    assert code == 1 and "does not let this token write alice/digits" in words and "hf_read_only" not in words
    assert (tmp_path / "kept" / "README.md").is_file()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    code, words = refused("--push", "alice/digits")
    assert code == 1 and "The upload to http://127.0.0.1:9/datasets/alice/digits failed: " in words
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refused("--push", "alice/digits")[1]
    assert hub.commits == 0


@pytest.mark.slow
@pytest.mark.usefixtures("ready")
def test_stopped_in_an_upload_the_folder_is_complete_and_the_dataset_as_it_was(hub: FakeHub, tmp_path: Path) -> None:
    hub.go.clear()
    hub.files = {"NOTES.md": b"mine"}
    command = [sys.executable, "-m", "tesla_tui.main", "export", "ws", "--push", "alice/digits", "--to", "kept"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_TOKEN": "hf_secret"}
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert hub.held.wait(300)
        process.send_signal(signal.SIGINT)
        out = process.communicate(timeout=60)[0]
    hub.go.set()
    assert process.returncode == 130
    assert "Stopped; kept is complete; the upload is not." in one_paragraph(out)
    assert (tmp_path / "kept" / "SHA256SUMS").is_file()
    assert (hub.files, hub.commits) == ({"NOTES.md": b"mine"}, 0)
