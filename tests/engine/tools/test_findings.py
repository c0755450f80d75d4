"""What `tesla doctor` prints reads as sentences, and a repair moves only what was found damaged."""

from pathlib import Path

from engine.tools.doctor.finding import damaged, left


def test_a_finding_and_its_repair_are_sentences(tmp_path: Path) -> None:
    rest, bad = tmp_path / "rest", tmp_path / "bad"
    for path in (rest, bad):
        path.write_text("x")
    found = left("run r", rest, words=f"{rest} was left; nothing uses it")
    assert found.repair is not None
    assert f"{found.words} {found.repair()}" == f"{rest} was left; nothing uses it. Removed."
    found = damaged("run r", f"{bad} is damaged.", bad, then="It is made again.")
    assert found.repair is not None
    moved = f"{found.words} {found.repair()}"
    assert moved == f"{bad} is damaged. It is made again. Moved to {tmp_path / 'damaged' / 'bad'}."


def test_a_file_that_took_the_place_of_a_folder_is_kept(tmp_path: Path) -> None:
    lock = tmp_path / ".driver.lock"
    lock.mkdir()
    found = damaged("run r", f"{lock} is a folder in the place of a lock.", lock)
    lock.rmdir()
    lock.write_bytes(b"")  # by a driver that came since
    assert found.repair is not None
    assert "damaged" not in found.repair() and lock.is_file()
