"""The film of a run as one moving picture: every frame, decoded again, shows the images of its iteration."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from engine.errors import UsageError
from engine.runs.preview_frames import enlarged, frame_iterations, frame_path, image_grid, read_frame
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from tesla_tui.render import film as module
from tesla_tui.render.film import FRAME, LAST, MARGIN, write_film
from tests.conftest import Drive
from tests.tui.cli.test_cli import Tesla, tesla  # noqa: F401


def decoded(path: Path) -> tuple[list[Image.Image], list[int]]:
    """The frames of a file, and how long each is shown."""
    with Image.open(path) as picture:
        assert picture.info.get("loop") == 0
        frames, durations = [], []
        for frame in ImageSequence.Iterator(picture):
            frames.append(frame.convert("RGB"))
            durations.append(int(frame.info["duration"]))
    return frames, durations


def shown(run: Run, iteration: int) -> Image.Image:
    frame = read_frame(frame_path(run.film, iteration))
    return enlarged(image_grid(frame.pixels, frame.shown), frame.pixels.shape[1]).convert("RGB")


@pytest.mark.slow
def test_every_frame_shows_its_iteration(tesla: Tesla, tiny_run: Drive, workspace: Workspace, tmp_path: Path) -> None:  # noqa: F811
    run = tiny_run("r", "distill.ipc=2")
    iterations = frame_iterations(run.film)
    assert iterations[0] == 0 and iterations[-1] == 6 and len(iterations) > 2
    for name in ("a.gif", "b.webp", "c.png", "d.apng"):
        path = tmp_path / name
        code, out, err = tesla("show", workspace.folder, "--film", path)
        assert code == 0, err
        assert f"{name}: r, {len(iterations)} frames." in " ".join(out.split())
        frames, durations = decoded(path)
        assert len(frames) == len(iterations)
        assert durations[:-1] == [FRAME] * (len(frames) - 1) and durations[-1] == LAST
        for picture, iteration in zip(frames, iterations, strict=True):
            grid = shown(run, iteration)
            cut = picture.crop((MARGIN, MARGIN, MARGIN + grid.width, MARGIN + grid.height))
            assert np.array_equal(np.asarray(cut), np.asarray(grid)), (name, iteration)
        # The captions differ: each names its iteration.
        captions = {picture.crop((0, picture.height - 20, *picture.size)).tobytes() for picture in frames}
        assert len(captions) == len(frames)
    for words, told in (
        (("--film", "x.mp4"), "cannot be written as x.mp4"),
        (("--film", "x.gif", "--iteration", 0), "cannot be combined with --iteration"),
        (("--film", "x.gif", "--png", "y.png"), "cannot be combined with --png"),
    ):
        code, _, err = tesla("show", workspace.folder, *words)
        assert code == 2 and told in " ".join(err.split())
    assert not Path("x.gif").exists()

    # A long film keeps its first and its last frame; a damaged one is left out; without any there is nothing to write.
    frame_path(run.film, iterations[1]).write_bytes(b"no")
    assert write_film(run, tmp_path / "a.gif") == len(iterations) - 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST_FRAMES", 2)
        assert write_film(run, tmp_path / "short.png") == 2
    frames, _ = decoded(tmp_path / "short.png")
    grid = shown(run, 6)
    cut = frames[-1].crop((MARGIN, MARGIN, MARGIN + grid.width, MARGIN + grid.height))
    assert np.array_equal(np.asarray(cut), np.asarray(grid))
    for path in run.film.glob("*.png"):
        path.unlink()
    with pytest.raises(UsageError, match="The previews of r are gone") as gone:
        write_film(run, tmp_path / "none.gif")
    assert gone.value.hint.endswith("--run r")
