"""A run that resumes elsewhere says so; one that resumes where it was, or has an older record, does not."""

import platform
from collections.abc import Callable
from typing import Any

import pytest
import torch

from engine.events import Notice, RunStarted
from engine.runs.run import Run
from engine.session import session
from engine.session.remarks import changed_environment
from tests.runs import events, stop_at_iteration

SAID = "Since this run was last driven"


def test_what_changed_is_named() -> None:
    before = {"tesla": "0.1.0", "torch": "2.11", "device_name": "NVIDIA A100", "driver": "570.1", "threads": 2}
    assert changed_environment(before, before) == changed_environment({}, before) == ""
    now = {**before, "torch": "2.13", "device_name": "NVIDIA H200", "driver": None, "cuda": "13.0", "threads": 4}
    assert changed_environment(before, now) == (
        f"{SAID}, PyTorch changed from 2.11 to 2.13, the processor changed from NVIDIA A100 to NVIDIA H200: it "
        "continues, but its numbers may differ in rounding."
    )


def test_an_architecture_is_no_processor() -> None:
    assert changed_environment({"device_name": platform.machine()}, {"device_name": "AMD EPYC"}) == ""


def test_a_run_that_resumes_elsewhere_says_so(tiny_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    def said(run: Run) -> list[str]:
        return [event.message for event in events(run, Notice) if event.message.startswith(SAID)]

    run = tiny_run("r", until=stop_at_iteration(1))
    assert not said(tiny_run("r", until=stop_at_iteration(2)))
    here = session.environment
    changed: dict[str, Any] = {"torch": "9.9"}
    monkeypatch.setattr(session, "environment", lambda device: {**here(device), **changed})
    tiny_run("r")
    (words,) = said(run)
    assert f"PyTorch changed from {torch.__version__} to 9.9" in words
    assert [event.environment["torch"] for event in events(run, RunStarted)] == [torch.__version__] * 2 + ["9.9"]
