"""Watching a run that is not there: both doors to the screens say which runs there are, before anything starts."""

from pathlib import Path

import pytest

from tests.tui.cli.test_cli import SETS, Tesla, tesla  # noqa: F401


@pytest.mark.slow
def test_a_run_that_is_not_there_cannot_be_watched(tesla: Tesla, tmp_path: Path) -> None:  # noqa: F811
    tesla("init", "ws", "--dataset", "digits")
    for words in (("tui", "ws"), ("serve", "ws")):
        code, _, err = tesla(*words, "--run", "nope", "--watch")
        assert code == 2 and "ws has no runs yet" in err and "tesla run ws --ipc 1" in err
    assert tesla("run", "ws", "--ipc", 1, *SETS)[0] == 0
    for words in (("tui", "ws"), ("serve", "ws")):
        for which, name in ((("--run", "nope"), "nope"), (("--ipc", "7"), "ipc-7")):
            code, _, err = tesla(*words, *which, "--watch")
            assert code == 2 and f"ws has no run '{name}'" in err and "It has: ipc-1." in err
