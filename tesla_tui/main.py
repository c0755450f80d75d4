"""Entry point of `tesla`: runs the command and turns errors into messages and exit codes."""

import errno
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from engine.errors import ExitCode, TeslaError, WorkerLostError
from engine.runtime.parent import end_with_parent
from tesla_tui.crash import EscapedError, caught_everywhere, job_reported, report
from tesla_tui.process.signals import CODES, caught, leave_at_once
from tesla_tui.process.speaker import code_of, reports
from tesla_tui.render.errors import complain, refusal_words

NO_THREAD = "can't start new thread"
"""Of Python's own error; it has no number."""


def main() -> int:
    """Run the command line; the exit code."""
    end_with_parent()
    # PyTorch reads this when it is loaded: operations that an Apple GPU lacks run on the CPU, with a warning.
    if sys.platform == "darwin":
        os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    with caught(leave_at_once), caught_everywhere(_explained) as others:
        code = _ended(_answered)
        if code:
            with suppress(OSError, ValueError):
                _flushed()
        else:
            code = _ended(_flushed) or next(filter(None, others), 0)
        # After a stop request, skip Python's slow shutdown: another signal in the middle of it would kill the process.
        if code in CODES.values() or _leaves_work():
            os._exit(code)
    return code


def _ended(work: Callable[[], int]) -> int:
    """The exit code of a piece of work, whatever it raises; an error is reported."""
    try:
        return work()
    except SystemExit as end:
        if isinstance(end.code, str):
            return complain(end.code, "", ExitCode.FAILURE)
        return end.code if isinstance(end.code, int) else ExitCode.OK
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BaseException as error:
        return _explained(error)


def _flushed() -> int:
    """Write out what was printed: Python itself would print a traceback at exit, and end with code 120."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            try:
                stream.flush()
            except OSError:
                _discard(stream.fileno())
                raise
    return ExitCode.OK


def _discard(descriptor: int) -> None:
    """Lead an output that takes no more nowhere: Python tries once more at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _leaves_work() -> bool:
    """Whether something is still running that Python cannot shut down cleanly. Files are whole at any moment.

    A worker in the middle of a collective would wait for it, forever if the others do the same; a compiler's thread
    would end in an abort; a server's handles of its screens belong to an event loop that is closed.
    """
    from engine.runtime.threads import left_behind

    web = sys.modules.get("tesla_tui.web.server")
    return "RANK" in os.environ or left_behind() or (web is not None and web.TeslaServer.served)


def _answered() -> int:
    with _guarded_loading():
        from tesla_tui.cli.app import app
        from tesla_tui.render.commands import program

        # Usage lines call the program as a shell here would find it.
        app(standalone_mode=True, prog_name=program(), complete_var="_TESLA_COMPLETE")
    return ExitCode.OK


@contextmanager
def _guarded_loading() -> Iterator[None]:
    if not _has_address_limit():
        yield
        return
    from engine.runtime.memory_limits import LoadingGuard

    sys.meta_path.insert(0, guard := LoadingGuard())
    try:
        yield
    finally:
        sys.meta_path.remove(guard)


def _has_address_limit() -> bool:
    """Asked before engine.runtime.memory_limits is loaded, and psutil with it."""
    try:
        import resource
    except ImportError:
        return False
    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def _explained(error: BaseException) -> int:
    """Say what ended a command, or a part of it; the exit code."""
    if isinstance(error, EscapedError):
        error = error.error
    try:
        if isinstance(error, TeslaError):
            said = isinstance(error, WorkerLostError) and job_reported()  # the lost one has said why
            if reports(error) and not said:
                complain(error.message, error.hint, error.exit_code)
            return code_of(error)
        if isinstance(error, BrokenPipeError) and (broken := _broken_outputs()):
            for descriptor in broken:  # the reader went away: `tesla status | head`
                _discard(descriptor)
            return ExitCode.OK
        from engine.runtime.out_of_memory import is_out_of_memory

        if is_out_of_memory(error):
            from engine.runtime.memory_limits import memory_words

            return complain(*memory_words(error), ExitCode.OUT_OF_MEMORY)
        if isinstance(error, OSError) and error.errno is not None:
            return complain(*refusal_words(error), ExitCode.FAILURE)
        if isinstance(error, RuntimeError) and NO_THREAD in str(error):
            return complain(*refusal_words(BlockingIOError(errno.EAGAIN, str(error))), ExitCode.FAILURE)
    except Exception as another:  # even telling what it is failed
        error = another if isinstance(error, TeslaError | OSError) else error
    return report(error)


def _broken_outputs() -> list[int]:
    """Which of standard output and error is a pipe without a reader."""
    poll = select.poll()
    for descriptor in (1, 2):
        poll.register(descriptor, select.POLLOUT)
    return [descriptor for descriptor, events in poll.poll(0) if events & select.POLLERR]


if __name__ == "__main__":
    sys.exit(main())
