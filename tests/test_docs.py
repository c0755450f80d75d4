"""The pages made from the program say all of it. That they build without a broken link is `make lint`'s to see."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from engine.settings import preset_names
from engine.settings.facts import FIELDS
from tesla_tui.cli.app import app
from tests.conftest import TINY

ROOT = Path(__file__).parents[1]


def hook(name: str) -> ModuleType:
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs_hooks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_setting_has_a_row_with_its_meaning() -> None:
    page = hook("settings_pages").settings_page()
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    assert set(rows) == set(FIELDS)
    assert all(len(row.strip("| ").rpartition("|")[2].strip()) > 5 for row in rows.values())
    assert "T, matching steps" in rows["distill.steps"]
    assert "| another run, other teachers |" in rows["dataset.zca"]
    assert "| any time; results are measured again |" in rows["evaluate.epochs"]
    assert rows["distill.steps"].endswith("Read by tesla, mtt, datm. |")
    assert "Read by" not in rows["distill.ipc"]
    assert "> 0" in rows["teachers.lr"]
    assert "`exact`, `paper`, `unrolled` | `exact`" in rows["distill.gradient"]


def test_presets_show_the_papers_rows() -> None:
    page = hook("settings_pages").presets_page()
    sections = dict(part.split("\n", 1) for part in page.split("\n## ")[1:])
    assert set(sections) == set(preset_names())
    assert "| setting | IPC 1 | IPC 10 | IPC 50 |" in sections["cifar10"]
    assert "| `distill.steps` | `50` | `30` | `30` |" in sections["cifar10"]
    assert "| `dataset.zca` | `true` | `true` | `false` |" in sections["cifar10"]


def test_every_command_and_option_is_there() -> None:
    page = hook("commands_page").commands_page()
    names = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    groups = [group.name or group.typer_instance.info.name for group in app.registered_groups if group.typer_instance]
    assert {"run", "log", "export"} <= set(names)
    for name in (*names, *groups):
        assert f"\n## tesla {name}\n" in page
    assert "\n### tesla study gradient\n" in page
    assert "`--tensorboard FOLDER`" in page
    assert "    tesla run my-run --ipc 10 --detach\n" in page


def test_navigation_leaves_out_what_is_missing_and_loses_no_page() -> None:
    navigation = hook("navigation")

    class Page:
        def __init__(self, uri: str) -> None:
            self.src_uri = uri

    class Pages:
        def documentation_pages(self) -> list[Page]:
            return [
                Page(uri)
                for uri in ("index.md", "new.md", "a.md", "reference/api/engine.runs.run.md", "reference/s.md")
            ]

    nav = [
        {"Overview": "index.md"},
        {"Work": ["a.md", "gone.md"]},
        {"Empty": ["gone.md"]},
        {"Reference": ["reference/s.md"]},
    ]
    config = SimpleNamespace(nav=nav)
    navigation.on_files(Pages(), config)
    assert config.nav == [
        {"Overview": "index.md"},
        {"Work": ["a.md"]},
        {"Reference": ["reference/s.md", {"Engine": [{"engine.runs.run": "reference/api/engine.runs.run.md"}]}]},
        {"More": ["new.md"]},
    ]


def test_the_code_of_the_python_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    whole, any_set, gradient = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL)
    names: dict[str, object] = {}
    assert '{"distill.iterations": 200}' in whole and "repeats=5" in any_set
    exec(whole.replace('{"distill.iterations": 200}', repr(TINY)), names)
    said = capsys.readouterr().out
    assert "distilled test" in said and "torch.Size([10, 1, 8, 8]) torch.Size([10, 10])" in said
    exec(any_set.replace("repeats=5", "repeats=2, settings={'evaluate.epochs': 4}"), names)
    assert re.fullmatch(r"[\d.]+ ± [\d.]+ %, guessing is 10.3 %\n", capsys.readouterr().out)
    exec(gradient, {})
    assert "torch.Size([10, 1, 8, 8])" in capsys.readouterr().out
