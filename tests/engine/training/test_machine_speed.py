"""The speed of the CPU is measured once, and kept."""

from pathlib import Path

import pytest
import torch
from torch import nn

from engine.training import machine_speed
from engine.training.compile_policy import MATCHING, pays
from engine.training.machine_speed import FILE, REFERENCE, cpu_speed


@pytest.fixture
def rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the next measurements find, in a cache of their own."""
    found: list[float] = []
    monkeypatch.setenv("TESLA_COMPILED", str(tmp_path / "kept"))
    monkeypatch.setattr(machine_speed, "_known", {})
    monkeypatch.setattr(machine_speed, "_rate", lambda: found.pop(0))
    return found


def test_a_second_process_decides_as_the_first(rates: list[float], tmp_path: Path) -> None:
    rates.append(4.4 * REFERENCE)
    assert cpu_speed() == cpu_speed() == 4.0
    machine_speed._known.clear()  # another process
    assert cpu_speed() == 4.0
    torch.set_num_threads(2)
    try:
        rates.append(8.8 * REFERENCE)
        assert cpu_speed() == 8.0, "more threads are another machine"
    finally:
        torch.set_num_threads(1)
    machine_speed._known.clear()
    assert cpu_speed() == 4.0
    (tmp_path / "kept" / FILE).write_text("{}")
    machine_speed._known.clear()
    rates.append(REFERENCE)
    assert cpu_speed() == 1.0, "a damaged file is measured anew"


def test_a_cache_that_cannot_be_used_does_not_stop_a_run(rates: list[float], tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept").chmod(0o777)  # which compiling refuses
    rates.append(0.24 * REFERENCE)
    assert cpu_speed() == 0.25
    assert not list((tmp_path / "kept").iterdir())


def test_a_fast_cpu_saves_less_by_compiling(rates: list[float]) -> None:
    model, images = nn.Conv2d(3, 64, 3, padding=1), torch.zeros(1, 3, 32, 32).expand(1000, -1, -1, -1)
    rates.append(REFERENCE)
    assert pays(MATCHING, model, images, 600)
    machine_speed._known = dict.fromkeys(machine_speed._known, 64.0)
    assert not pays(MATCHING, model, images, 600)


def test_the_measurement_is_of_this_machine() -> None:
    threads = torch.get_num_threads()
    assert 1e8 < machine_speed._rate() < 1e15
    assert torch.get_num_threads() == threads
