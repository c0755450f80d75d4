"""Links that lead out of a workspace: read through, but not written through.

An archive can hold links as well as files. A workspace whose `checkpoints` is a link to a user's documents would have
files made, replaced and deleted there. Keeping a workspace's folders on a larger disk is still a good use of links,
so one is followed for writing if its target, or a folder above that, holds a file named `MARK`: only a user who may
write there can have created it, and tesla never does.
"""

from collections.abc import Iterable
from pathlib import Path

from engine.errors import UsageError, quoted

MARK = ".tesla-allowed"


def check_links(root: Path, folders: Iterable[Path]) -> None:
    """Refuse to write into folders below `root` that links take elsewhere, unless they are marked.

    Args:
        root: the workspace; may be a link itself, as the user has named it.
        folders: below it, existing or not.

    Raises:
        UsageError: names the link, where it leads, and how to allow it.
    """
    inside = root.resolve()
    for folder in folders:
        try:
            real = folder.resolve()
        except (OSError, RuntimeError) as error:  # a loop of links
            raise UsageError(f"{folder} is a broken symbolic link.", "Remove it.") from error
        if real.is_relative_to(inside) or any((above / MARK).is_file() for above in (real, *real.parents)):
            continue
        raise UsageError(
            f"{folder} is a link to {real}, outside the workspace, where tesla does not write.",
            f"Remove the link, or, if you created it, allow it with: touch {quoted(real / MARK)}",
        )
