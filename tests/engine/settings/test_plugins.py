"""Methods and datasets of other packages: found without running them, run only with consent, refused with a reason."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.data import DataRequest, find_source
from engine.errors import SettingsError, UsageError
from engine.methods.registry import find_method
from engine.settings import dataset_names, method_names, resolve_settings
from engine.settings.plugins import installed
from engine.settings.trust import CONFIG, FOR_NOW, trust
from engine.tools.doctor.plugins import examine_plugins

CODE = """
from pathlib import Path
Path(__file__).with_name("RAN").touch()
from engine.methods.random_images import RANDOM
from dataclasses import replace
METHOD = replace(RANDOM, name="odd")
OTHER = 5
def find(name, path, on_bad_file):
    return 7
"""
TABLES = """
[methods.odd]
fixed = { distill = { iterations = 0 } }
about = { title = "odd ones", iterates = false }
[datasets.odd-set]
distill = { steps = 17 }
"""


class Site:
    """A folder of installed packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, package: str, *, methods: str = "", datasets: str = "", code: str = CODE, tables: str = "") -> Path:
        """Install a package with lines of entry points."""
        module = self.folder / package
        module.mkdir(parents=True)
        (module / "__init__.py").write_text(code)
        (module / "tesla-plugin.toml").write_text(tables)
        info = self.folder / f"{package}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[tesla.methods]\n{methods}\n[tesla.datasets]\n{datasets}\n")
        installed.cache_clear()
        return module


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv(CONFIG, str(tmp_path / "config"))
    monkeypatch.setenv(FOR_NOW, "")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield Site(tmp_path / "site")
    for name in set(sys.modules) - before:
        if name.startswith("odd_"):
            del sys.modules[name]
    monkeypatch.undo()
    installed.cache_clear()


def test_everything_but_the_code_is_known_before_consent(site: Site) -> None:
    module = site.add("odd_one", methods="odd = odd_one:METHOD", datasets="odd-set = odd_one:find", tables=TABLES)
    assert "odd" in method_names()
    assert dataset_names()[-2:] == ("odd-set", "folder")
    (site.folder / "tesla.toml").write_text('[distill]\nmethod = "odd"\n[dataset]\nname = "odd-set"\n')
    effective = resolve_settings(site.folder / "tesla.toml")
    assert (effective.settings.distill.iterations, effective.settings.distill.steps) == (0, 17)
    assert effective.origins["distill.steps"] == "preset odd-set"
    assert not effective.settings.traits.iterates
    for ask in (lambda: find_method("odd"), lambda: find_source(DataRequest("odd-set"))):
        with pytest.raises(UsageError, match=r"of the package odd_one 1\.2, which is code.*tesla trust odd_one:"):
            ask()
    assert [(finding.good, "not trusted yet" in finding.words) for finding in examine_plugins()] == [(True, True)] * 2
    assert not (module / "RAN").exists()
    trust("odd_one:METHOD")
    assert find_method("odd").title == "odd ones"
    assert (module / "RAN").exists()
    assert any(finding.words.endswith("trusted") for finding in examine_plugins())


def test_a_name_on_the_command_line_is_consent(site: Site) -> None:
    site.add("odd_one", methods="odd = odd_one:METHOD", tables=TABLES)
    resolve_settings(overrides=["distill.method=odd"])
    assert find_method("odd").name == "odd"


def test_a_folder_of_the_same_name_here_is_not_the_plugin(site: Site, tmp_path: Path) -> None:
    module = site.add("odd_one", methods="odd = odd_one:METHOD", tables=TABLES)
    (tmp_path / "odd_one.py").write_text("raise SystemExit")
    assert trust("odd_one:METHOD") == (module / "__init__.py").resolve()


@pytest.mark.parametrize(
    ("methods", "code", "words"),
    [
        ("odd = odd_one:ABSENT", CODE, "odd_one has no 'ABSENT'"),
        ("odd = odd_one:OTHER", CODE, "is a int, not an engine.methods.method.Method"),
        ("other = odd_one:METHOD", CODE, "is named 'odd', not 'other'"),
        ("odd = odd_one:METHOD", "import no_such_module", "failed to import: ModuleNotFoundError: No module named"),
        ("odd = odd_one:METHOD", "1 / 0", "failed to import: ZeroDivisionError"),
        ("odd = odd_one:METHOD", "import json\njson.nothing", "failed to import: AttributeError"),
    ],
)
def test_what_is_wrong_with_its_code_is_said(site: Site, methods: str, code: str, words: str) -> None:
    site.add("odd_one", methods=methods, code=code)
    name = methods.partition(" ")[0]
    resolve_settings(overrides=[f"distill.method={name}"])
    with pytest.raises(UsageError) as caught:
        find_method(name)
    assert words in caught.value.message
    assert "odd_one 1.2" in caught.value.message


def test_a_dataset_must_give_a_source(site: Site) -> None:
    site.add("odd_one", datasets="odd-set = odd_one:find\nodd-number = odd_one:OTHER", tables=TABLES)
    for name, words in (
        ("odd-set", "returned a int, not an engine.data.sources.Source"),
        ("odd-number", "cannot be called"),
    ):
        resolve_settings(overrides=[f"dataset.name={name}"])
        with pytest.raises(UsageError, match=words):
            find_source(DataRequest(name))


def test_names_that_collide_are_refused(site: Site) -> None:
    module = site.add("odd_one", methods="dm = odd_one:METHOD\nodd = odd_one:METHOD", datasets="mnist = odd_one:find")
    site.add("odd_two", methods="odd = odd_two:METHOD")
    assert find_method("dm").title.startswith("distribution matching")
    with pytest.raises(SettingsError, match=r"the package odd_(one|two) has a method named odd too"):
        resolve_settings(overrides=["distill.method=odd"])
    problems = {finding.what: finding.words for finding in examine_plugins() if not finding.good}
    assert "is that of a built-in method" in problems["method dm, odd_one 1.2"]
    assert "is that of a built-in dataset" in problems["dataset mnist, odd_one 1.2"]
    assert len(problems) == 4
    assert not (module / "RAN").exists()


@pytest.mark.parametrize(
    ("methods", "tables", "words"),
    [
        ("odd = odd_one:METHOD", "not toml", "tesla-plugin.toml cannot be read"),
        ("odd = odd_one:METHOD", "methods = 3", "tesla-plugin.toml cannot be read"),
        ("odd = odd_one:METHOD", "[methods]\nodd = 3", "methods.odd is not a table"),
        ("odd = odd_one", "", "is not package.module:object"),
        ("Odd! = odd_one:METHOD", "", "only lower-case letters"),
        ("odd = odd_one:METHOD", "[methods.odd]\nabout = { teachers = 3 }", "has the wrong type"),
        ("odd = odd_one:METHOD", "[methods.odd]\nabout = 3", "is not a table"),
        ("odd = odd_one:METHOD", "[methods.odd]\nfixed = ['distill.gradient']", "methods.odd.fixed is not a table"),
        ("odd = odd_one:METHOD", "[methods.odd]\nipc = [1]", "methods.odd.ipc is not a table"),
        ("odd = odd_one:METHOD", "[methods.odd.ipc.01]\nseed = 1", "not a table for a number of images"),
        ("odd = odd_one:METHOD", "[methods.odd.ipc]\nmany = 3", "not a table for a number of images"),
        ("odd = odd_one:METHOD", "[methods.odd]\ndataset = 3", "tesla-plugin.toml cannot be read"),
        ("odd = odd_one:METHOD", "[methods.odd.dataset]\ncifar10 = 3", "dataset.cifar10 is not a table"),
        ("odd = odd_one:METHOD", f"[methods]\n{'a.' * 9999}b = 1", "nested too deeply"),
    ],
)
def test_a_damaged_plugin_harms_nothing_else(site: Site, methods: str, tables: str, words: str) -> None:
    site.add("odd_one", methods=methods, tables=tables)
    (finding,) = examine_plugins()
    assert not finding.good
    assert words in finding.words
    assert resolve_settings().settings.distill.method == "tesla"
    with pytest.raises(SettingsError):
        resolve_settings(overrides=["distill.method=odd"])


@pytest.mark.parametrize("points", [b"[tesla.methods]\nno equals sign\n", b"\xff\xfe\x00"])
def test_a_package_with_damaged_entry_points_hides_no_other(site: Site, points: bytes) -> None:
    """Any package can be damaged; before, every command ended in the library's traceback."""
    site.add("odd_one", methods="odd = odd_one:METHOD", tables=TABLES)
    site.add("odd_two", methods="other = odd_two:METHOD")
    (site.folder / "odd_two-1.2.dist-info" / "entry_points.txt").write_bytes(points)
    installed.cache_clear()
    assert "odd" in method_names() and "other" not in method_names()
    assert resolve_settings(overrides=["distill.method=odd"]).settings.distill.iterations == 0
    wrong = [finding for finding in examine_plugins() if not finding.good]
    assert wrong
    assert all("odd_two" in finding.what and "entry_points.txt cannot be read" in finding.words for finding in wrong)
