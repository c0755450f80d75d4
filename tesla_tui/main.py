"""Entry point of `tesla`: runs the command and turns errors into messages and exit codes."""

import errno
import os
import re
import sys
import traceback

from engine.errors import ExitCode, TeslaError, WorkerLostError, system_reason
from tesla_tui.process.signals import CODES, caught, leave_at_once


def main() -> int:
    """Run the command line; the exit code."""
    # PyTorch reads this when it is loaded: operations that an Apple GPU lacks run on the CPU, with a warning.
    if sys.platform == "darwin":
        os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    with caught(leave_at_once):
        try:
            code = _answered()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else ExitCode.OK if end.code is None else ExitCode.FAILURE
        except BaseException:
            if not _leaves_work():
                raise
            traceback.print_exc()
            code = ExitCode.FAILURE
        # After a stop request, skip Python's slow shutdown: another signal in the middle of it would kill the process.
        if code in CODES.values() or _leaves_work():
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return code


def _leaves_work() -> bool:
    """Whether something is still running that Python cannot shut down cleanly. Files are whole at any moment.

    A worker in the middle of a collective would wait for it, forever if the others do the same; a compiler's thread
    would end in an abort.
    """
    from engine.runtime.threads import left_behind

    return "RANK" in os.environ or left_behind()


def _answered() -> int:
    from tesla_tui.cli.app import app

    try:
        app(standalone_mode=True)
    except TeslaError as error:
        if _speaks(error):
            complain(error.message, error.hint, error.exit_code)
        return error.exit_code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`tesla status | head`); Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except (MemoryError, OSError, RuntimeError) as error:
        from engine.runtime.out_of_memory import is_out_of_memory

        if is_out_of_memory(error):
            said = f"Out of memory: {str(error).splitlines()[0]}" if str(error) else "The machine is out of memory."
            return complain(said, "Saved files are intact; `tesla plan` shows what fits.", ExitCode.OUT_OF_MEMORY)
        if isinstance(error, OSError):
            return complain(*_about(error), ExitCode.FAILURE)
        raise
    return ExitCode.OK


def _speaks(error: TeslaError) -> bool:
    """Whether this process reports the error: the first worker on each host does; a lost worker is reported once."""
    if isinstance(error, WorkerLostError):
        return os.environ.get("RANK", "0") == "0"
    return os.environ.get("LOCAL_RANK", "0") == "0"


def complain(message: str, hint: str, code: ExitCode) -> int:
    """One paragraph on standard error: what happened, and what to do next."""
    from rich.console import Console
    from rich.text import Text

    from tesla_tui.render.commands import callable_here
    from tesla_tui.render.words import clean

    text = Text.assemble(("Error: ", "bold red"), clean(message))
    if hint:
        text.append(" ").append(clean(callable_here(hint)), "bold")
    if setting := re.search(r"\b(dataset\.\w+) = ([a-z]+)(?![\w-])", hint):
        text.append(f" To set it: --set {setting[1]}={setting[2]}, or in tesla.toml for every run.")
    Console(stderr=True, soft_wrap=not sys.stderr.isatty()).print(text)
    return code


def _about(error: OSError) -> tuple[str, str]:
    where = f" ({error.filename})" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return (
            f"The disk is full{where}.",
            "Free some space and run the same command again; saved files are intact.",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"No permission to read or write{where}: {system_reason(error)}.", "Check the folder's owner and mode."
    if error.errno == errno.ELOOP:
        return f"{error.filename} is a symbolic link; tesla does not write through links.", "Remove the link."
    return (
        f"{system_reason(error)}{where}.",
        "Fix that and run the same command again; saved files are intact.",
    )


if __name__ == "__main__":
    sys.exit(main())
