"""The run's devices: GPUs through a stand-in for NVML, and machines without any."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from textual.pilot import Pilot

from engine.runs.workspace import Workspace
from tesla_tui.live.preferences import Preferences
from tesla_tui.live.screens.devices import DeviceCard, DevicesScreen
from tesla_tui.live.screens.workbench import TABS
from tesla_tui.live.widgets.bars import bar, strip
from tesla_tui.live.widgets.device_panel import DevicePanel
from tesla_tui.watch.devices import HISTORY, Devices, Sample
from tesla_tui.watch.feed import RunFeed
from tesla_tui.watch.nvml import Board
from tesla_tui.watch.run_gpus import NOT_DRIVEN, Use, use_of, visible
from tests.tui.live.conftest import Show, app_of, screen_text, until
from tests.tui.live.fake_nvml import GB, FakeBoard, FakeNvml, eight

HERE = os.getpid()


@pytest.fixture(autouse=True)
def all_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def ours(sample: Sample) -> list[str]:
    """Labels of the run's GPUs."""
    return [gpu.label for gpu in sample.gpus if gpu.ours]


# --- which GPUs are the run's


def test_the_gpus_a_run_computes_on_come_first_with_its_own_memory() -> None:
    nvml = eight(gpu5={"pids": {HERE: 28 * GB, 1: 3 * GB}}, gpu2={"pids": {1: 30 * GB}}, gpu6={"pids": {HERE: 1 * GB}})
    sample = Devices(nvml).sample(Use(HERE, "cuda:0"))
    assert [gpu.label for gpu in sample.gpus] == ["5", "6", "0", "1", "2", "3", "4", "7"]
    assert ours(sample) == ["5", "6"] and sample.words == "the run uses 2 of 8 GPUs"
    assert [gpu.own for gpu in sample.gpus] == [28 * GB, 1 * GB, 0, 0, 0, 0, 0, 0]


def test_what_a_driver_started_is_the_runs_and_a_strangers_process_is_not() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        nvml = eight(gpu3={"pids": {child.pid: 2 * GB}}, gpu4={"pids": {os.getppid(): 5 * GB}})
        sample = Devices(nvml).sample(Use(HERE, "cuda"))
    finally:
        child.kill()
        child.wait()
    assert ours(sample) == ["3"]


def test_the_other_workers_of_a_job_are_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are siblings: they are known by what their launcher set for all of them."""
    sleep = [sys.executable, "-c", "print(flush=True); import time; time.sleep(600)"]
    job = {**os.environ, "MASTER_ADDR": "localhost", "MASTER_PORT": "4711", "LOCAL_WORLD_SIZE": "2"}
    others = {**job, "MASTER_PORT": "4712"}
    started = [subprocess.Popen(sleep, env=env, stdout=subprocess.PIPE) for env in (job, job, others)]
    try:
        for process in started:
            assert process.stdout is not None and process.stdout.readline()  # it has its own environment by now
        rank0, rank1, stranger = (process.pid for process in started)
        nvml = eight(gpu1={"pids": {rank0: GB}}, gpu2={"pids": {rank1: GB}}, gpu3={"pids": {stranger: GB}})
        assert ours(Devices(nvml).sample(Use(rank0, "cuda"))) == ["1", "2"]
        assert ours(Devices(eight()).sample(Use(rank0, "cuda"))) == ["0", "1"]  # before they compute: one each
    finally:
        for process in started:
            process.kill()
            process.communicate()


@pytest.mark.parametrize(
    ("shown", "device", "expected"),
    [
        (None, "auto", ["0"]),
        (None, "cuda:3", ["3"]),
        (None, "cpu", []),
        ("5,2", "auto", ["5"]),
        ("5,2", "cuda:1", ["2"]),
        ("5,2", "cuda:2", []),
        ("", "auto", []),
        ("-1", "auto", []),
        ("GPU-6666", "cuda", ["6"]),
    ],
)
def test_a_run_that_does_not_compute_yet_has_what_it_is_given(
    monkeypatch: pytest.MonkeyPatch, shown: str | None, device: str, expected: list[str]
) -> None:
    if shown is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    sample = Devices(eight()).sample(Use(HERE, device))
    assert ours(sample) == expected and all(gpu.own is None for gpu in sample.gpus)
    assert sample.words == (f"the run uses {len(expected)} of 8 GPUs" if expected else "the run is on the CPU")


MIG = (Board(0, None, None, 0, "MIG-aa11", "GPU-0"), Board(0, None, None, 2, "MIG-aa22", "GPU-0"))
BOARDS = (*MIG, *(Board(k, None, None, None, f"GPU-{k}{k}", f"GPU-{k}{k}") for k in (1, 2, 3)))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (None, [0, 1, 2, 3, 4]),
        ("1", [2]),
        ("3, 1", [4, 2]),
        ("1,9,2", [2]),  # the first that does not exist ends the list
        ("1,-1,2", [2]),
        ("1,1", []),  # named twice: none
        ("NoDevFiles", []),
        ("", []),
        ("GPU-2,GPU-33", [3, 4]),
        ("GPU-", []),  # not one
        ("GPU-9", []),
        ("0", [0]),  # of a divided GPU the first part
        ("MIG-aa22", [1]),
        ("MIG-aa", []),
        ("2gpu", [3]),
    ],
)
def test_visible_devices_are_read_as_cuda_does(names: str | None, expected: list[int]) -> None:
    variables = {} if names is None else {"CUDA_VISIBLE_DEVICES": names}
    assert visible(variables, BOARDS) == [BOARDS[k] for k in expected]


def test_parts_of_a_gpu_are_devices_with_its_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-b")
    silent = frozenset({"UtilizationRates", "Temperature", "PowerUsage", "EnforcedPowerLimit"})
    parts = [FakeBoard("A100 MIG 3g.40gb", f"MIG-{c}", 5 * GB, 40 * GB, silent=silent) for c in "ab"]
    nvml = FakeNvml(FakeBoard(uuid="GPU-1", parts=[parts[0], None, parts[1]]), FakeBoard(uuid="GPU-2", heat=40))
    first, *rest = Devices(nvml).sample(Use(HERE, "cuda")).gpus
    assert [gpu.label for gpu in (first, *rest)] == ["0:2", "0:0", "1"]
    assert (first.total, first.temperature, first.utilisation) == (40 * GB, 61, None)
    assert first.name == "A100 MIG 3g.40gb" and first.ours and not any(gpu.ours for gpu in rest)


def test_numbers_of_unlike_gpus_are_not_taken_for_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(FakeBoard("T1000"), FakeBoard("H100"))
    assert Devices(nvml).sample(Use(HERE, "cuda:1")).words == "the run uses perhaps 1 of 2 GPUs"
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert Devices(nvml).sample(Use(HERE, "cuda:1")).words == "the run uses 1 of 2 GPUs"


def test_a_run_elsewhere_has_no_gpu_here() -> None:
    sample = Devices(eight()).sample(Use(elsewhere="gpu-box"))
    assert ours(sample) == [] and sample.words == "of this machine; the run is on gpu-box"


def test_no_run_shows_what_one_started_here_could_have(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Devices(eight()).sample().words == ""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,3")
    sample = Devices(eight()).sample()
    assert ours(sample) == ["3", "7"] and sample.words == "CUDA_VISIBLE_DEVICES shows 2 of 8 GPUs"


def test_a_finished_run_uses_nothing(ws: Workspace) -> None:
    feed = RunFeed(ws.run("soft"))
    feed.catch_up()
    assert use_of(feed) is use_of(None) is NOT_DRIVEN


# --- facts that are missing


@pytest.mark.parametrize(
    ("refused", "fact"),
    [
        ("MemoryInfo", "used"),
        ("UtilizationRates", "utilisation"),
        ("Temperature", "temperature"),
        ("PowerUsage", "power"),
        ("EnforcedPowerLimit", "power_limit"),
        ("ComputeRunningProcesses", "own"),
        ("Name", "name"),
        ("UUID", "uuid"),
        ("MigMode", "part"),
    ],
)
def test_each_fact_fails_alone(refused: str, fact: str) -> None:
    nvml = FakeNvml(FakeBoard(uuid="GPU-1", pids={HERE: GB}, silent=frozenset({refused})))
    (gpu,) = Devices(nvml).sample(Use(HERE, "cuda")).gpus
    facts = ("used", "utilisation", "temperature", "power", "power_limit", "own", "name", "uuid")
    assert getattr(gpu, fact) is None and gpu.ours
    assert all(getattr(gpu, other) is not None for other in facts if other != fact)


def test_memory_of_a_process_that_is_not_told_is_not_taken_for_none() -> None:
    (gpu,) = Devices(FakeNvml(FakeBoard(pids={HERE: None}))).sample(Use(HERE, "cuda")).gpus
    assert gpu.ours and gpu.own is None


def test_a_gpu_that_is_lost_is_shown_without_facts() -> None:
    sample = Devices(eight(gpu0={"silent": frozenset({"all"})})).sample()
    assert len(sample.gpus) == 8 and sample.gpus[0].used is None


def test_no_nvml_is_no_gpu_and_no_error() -> None:
    sample = Devices(nvml=object()).sample(Use(HERE))
    assert sample.gpus == () and sample.processor.cores >= 1 and sample.words == ""
    assert sample.processor.rss is not None and sample.processor.rss > 10**6


def test_a_driver_that_is_gone_has_no_memory() -> None:
    assert Devices(nvml=object()).sample(Use(2**22 - 3)).processor.rss is None


def test_history_is_bounded_and_kept_for_every_fact() -> None:
    devices = Devices(nvml=eight())
    for _ in range(HISTORY + 20):
        devices._taken = 0.0
        devices.sample(Use(HERE))
    assert all(len(values) == HISTORY for values in devices.history.values())
    assert {fact for label, fact in devices.history if label == "3"} == {
        "memory", "utilisation", "power", "temperature",
    }  # fmt: skip
    assert devices.past("3", "utilisation")[-1] == 93 and devices.past("9", "power") == ()


# --- what is drawn


def test_two_gpus_one_of_them_silent(show: Show) -> None:
    silent = frozenset({"UtilizationRates", "PowerUsage", "EnforcedPowerLimit"})
    nvml = FakeNvml(FakeBoard(), FakeBoard(b"Quadro \x1b[31mK620", silent=silent))

    async def body(pilot: Pilot[str]) -> None:
        text = screen_text(pilot)
        assert "GPU 0 97 %  61 °C  285/400 W  NVIDIA A100-SXM4-80GB" in text
        assert "GPU 1 n/a  61 °C  n/a  Quadro" in text  # its name cleaned of what would steer the terminal
        assert "\x1b" not in text and "31.0 GB of 80.0 GB" in text
        assert "▄" in text.split("31.0 GB")[1][:40] or "▃" in text.split("31.0 GB")[1][:40]

    show(body, run="stopped", size=(160, 50), devices=Devices(nvml))


@pytest.fixture
def driven(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A run that this process seems to drive on a GPU."""
    monkeypatch.setattr("tesla_tui.live.screens.workbench.use_of", lambda feed: Use(HERE, "cuda"))
    yield ws


@pytest.mark.parametrize(
    ("size", "all_fit"), [((60, 18), None), ((80, 24), False), ((120, 40), True), ((200, 50), True)]
)
def test_eight_gpus_the_runs_first_and_how_many_are_left_out(
    show: Show, driven: Workspace, size: tuple[int, int], all_fit: bool | None
) -> None:
    nvml = eight(gpu5={"pids": {HERE: 28 * GB}}, gpu7={"pids": {HERE: 20 * GB}})

    async def body(pilot: Pilot[str]) -> None:
        text = screen_text(pilot)
        if all_fit is None:
            assert "GPU" not in text  # no room: g shows them
        else:
            shown = [line.split("GPU ")[1][0] for line in text.split("\n") if "GPU " in line and "°C" in line]
            assert shown[:2] == ["5", "7"]
            assert all_fit == (len(shown) == 8)
            assert (f"{8 - len(shown)} more: press g" in text) == (not all_fit)
            assert "● GPU 5" in text and "● GPU 0" not in text
        await pilot.press("g")
        await pilot.pause(0.3)
        assert isinstance(pilot.app.screen, DevicesScreen)
        text = screen_text(pilot)
        assert "the run uses 2 of 8 GPUs" in text
        assert "● GPU 5" in text and "run 28.0 GB, others 8.0 GB" in text and "95 %" in text
        for _ in range(12):  # all can be reached
            if "cores" in screen_text(pilot):
                break
            await pilot.press("pagedown")
            await pilot.pause(0.4)
        assert "cores" in screen_text(pilot) and len(pilot.app.screen.query(DeviceCard)) == 9
        assert all(len(line) <= size[0] for line in screen_text(pilot).split("\n"))
        await pilot.press("escape")
        await pilot.pause()
        assert not isinstance(pilot.app.screen, DevicesScreen)

    show(body, run="stopped", size=size, devices=Devices(nvml))


def test_the_history_goes_on_while_another_tab_is_open(show: Show, driven: Workspace) -> None:
    devices = Devices(eight())

    async def body(pilot: Pilot[str]) -> None:
        await pilot.press(str(len(TABS)))
        before = len(devices.past("0", "memory"))
        await until(pilot, lambda: len(devices.past("0", "memory")) > before + 1)
        await pilot.press("g")
        before = len(devices.past("0", "power"))
        await until(pilot, lambda: len(devices.past("0", "power")) > before + 1)

    show(body, run="stopped", devices=devices)


def test_a_gpu_that_does_not_answer_holds_up_one_thread_only(show: Show) -> None:
    answer = threading.Event()

    class Stuck(FakeNvml):
        def nvmlDeviceGetCount(self) -> int:  # noqa: N802
            answer.wait(60)
            return 0

    async def body(pilot: Pilot[str]) -> None:
        try:
            before = threading.active_count()
            end = time.monotonic() + 2
            while time.monotonic() < end:
                await pilot.pause(0.1)
            await pilot.press("2")  # the screens go on
            await pilot.pause(0.2)
            assert "frame" in screen_text(pilot)
            assert threading.active_count() <= before + 1
        finally:
            answer.set()

    show(body, run="stopped", devices=Devices(Stuck()))


def test_a_run_on_the_cpu_of_a_machine_with_gpus(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tesla_tui.live.screens.workbench.use_of", lambda feed: Use(HERE, "cpu"))

    async def body(pilot: Pilot[str]) -> None:
        text = screen_text(pilot)
        assert "the run is on the CPU" in text
        assert text.index("cores") < text.index("GPU 0") and "●" not in text.split("the run is on the CPU")[1]

    show(body, run="stopped", devices=Devices(eight()))


def test_the_panel_uses_the_room_there_is_without_waiting_for_the_next_look(show: Show) -> None:
    """The first GPU that is found makes more room; a slow refresh would leave the short lines there."""

    async def body(pilot: Pilot[str]) -> None:
        panel = pilot.app.screen.query_one(DevicePanel)
        await until(pilot, lambda: "285/400 W" in screen_text(pilot))
        panel.styles.height = 4
        await until(pilot, lambda: "285/400 W" not in screen_text(pilot), 15)
        panel.styles.height = 12
        await until(pilot, lambda: "285/400 W" in screen_text(pilot), 15)

    slow = Preferences(refresh=30)
    show(body, run="stopped", size=(160, 50), devices=Devices(FakeNvml(FakeBoard(), FakeBoard())), preferences=slow)


def test_without_a_run_no_gpu_is_called_its_own(show: Show) -> None:
    async def body(pilot: Pilot[str]) -> None:
        await pilot.press("g")
        await until(pilot, lambda: "● GPU 7" in screen_text(pilot))
        assert "the run's" not in screen_text(pilot)

    show(body, run="stopped", devices=Devices(eight()), size=(200, 50))


def test_a_mac_says_what_is_not_known(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("widgets.device_panel", "screens.devices"):
        monkeypatch.setattr(f"tesla_tui.live.{module}.sys.platform", "darwin")

    async def body(pilot: Pilot[str]) -> None:
        await until(pilot, lambda: "macOS does not report its load" in screen_text(pilot))
        await pilot.press("g")
        await until(pilot, lambda: app_of(pilot).screen.query(DeviceCard))
        await until(pilot, lambda: "macOS does not report its load" in screen_text(pilot))

    show(body, run="stopped", devices=Devices(object()))


def test_bars_and_strips() -> None:
    assert [bar(share, 4, "red", "blue").plain for share in (-1, 0, 0.125, 0.5, 0.9, 1, 7)] == [
        "────", "────", "╸───", "━━──", "━━━╸", "━━━━", "━━━━",
    ]  # fmt: skip
    assert strip([0, 1, 2, 4], 3) == "▂▄█" and strip([], 5) == "" and strip([0, 0], 5) == "▁▁"
    assert strip([0.5], 9, 1.0) == "▄" and strip([1, 2], 0) == strip([1, 2], -3) == ""
