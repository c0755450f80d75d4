"""The end of a run, driven here or elsewhere, is told to the terminal as the preferences say."""

import pytest
from textual.pilot import Pilot

from tesla_tui.live.preferences import Preferences
from tesla_tui.render.alert import Alert
from tests.tui.live.conftest import Show, app_of, until

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("alert", "worth", "sent"),
    [("bell", 0.0, "\a"), ("osc9", 0.0, "\x1b]9;soft is finished\a"), ("off", 0.0, ""), ("bell", 1e9, "")],
)
def test_the_end_is_told(show: Show, monkeypatch: pytest.MonkeyPatch, alert: Alert, worth: float, sent: str) -> None:
    monkeypatch.setattr("tesla_tui.live.screens.actions.WORTH", worth)
    monkeypatch.delenv("TMUX", raising=False)

    async def body(pilot: Pilot[str]) -> None:
        app = app_of(pilot)
        assert app.bench is not None and app._driver is not None
        written: list[str] = []
        monkeypatch.setattr(app._driver, "write", written.append)
        app.bench._was_live = True  # it was driven by another process until now
        await until(pilot, lambda: any("is finished" in notice.message for notice in app._notifications))
        assert [text for text in written if text.endswith("\a")] == [text for text in (sent,) if text]

    show(body, run="soft", preferences=Preferences(refresh=0.1, alert=alert))


def test_tmux_passes_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from tesla_tui.render.alert import alert_sequence

    monkeypatch.setenv("TMUX", "/tmp/tmux-0/default,1,0")
    assert alert_sequence("osc9", "a\nb") == "\x1bPtmux;\x1b\x1b]9;a\N{REPLACEMENT CHARACTER}b\a\x1b\\"
    assert alert_sequence("bell", "a") == "\a"
