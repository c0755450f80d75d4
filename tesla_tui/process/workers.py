"""`tesla run --workers N`: N processes on this machine, started and watched by PyTorch's elastic agent, as torchrun
does it, but with a usable error when one of them dies.
"""

import logging
import os
import signal
import sys
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from engine.errors import ExitCode, TeslaError, UsageError
from engine.runtime.distributed.environment import RankEnvironment
from engine.runtime.parent import child_environment
from engine.settings import ComputeSettings
from tesla_tui.process.signals import CODES
from tesla_tui.process.speaker import LAUNCHER

SAVE_WITHIN = 600
"""Seconds that workers have to save after a signal, before they are killed."""


def launch(count: int, arguments: Sequence[str], compute: ComputeSettings) -> ExitCode:
    """Run `tesla ARGUMENTS` in `count` processes to the end; the exit code of the job.

    Args:
        count: workers, at least 2.
        arguments: of the command.
        compute: says which devices they will use.

    Raises:
        UsageError: more workers than CUDA devices or CPU cores.
        TeslaError: a worker was killed.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from engine.runtime.device import own_device

    own_device(compute.device, RankEnvironment(size=count, local_size=count))
    # Workers of one machine talk over the loopback device: nothing listens to the network, no host name is asked.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    os.environ.update(child_environment({LAUNCHER: "1"}))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        shutdown_timeout=SAVE_WITHIN,
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),  # else a folder is left in /tmp
    )
    try:
        elastic_launch(config, sys.executable)("-P", "-m", "tesla_tui.main", *arguments)
    except SignalException as stop:
        return CODES.get(signal.Signals(stop.sigval), ExitCode.TERMINATED)
    except ChildFailedError as error:
        return _verdict(error.failures)
    return ExitCode.OK


def _verdict(failures: Mapping[int, Any]) -> ExitCode:
    """What the ends of the workers mean for the job.

    Args:
        failures: by rank, in the order of their ends, objects with `exitcode` (negative: the signal that ended it)
            and `pid`.

    Raises:
        TeslaError: a worker was killed; it could not say so itself.
    """
    # The agent ends the others with SIGTERM, and with SIGKILL if they do not end: the first that failed is the cause.
    stops = {*CODES.values(), -signal.SIGTERM}
    failed = [(rank, failure) for rank, failure in failures.items() if failure.exitcode not in stops]
    if not failed:
        codes = {failure.exitcode for failure in failures.values()}
        return next((code for code in CODES.values() if code in codes), ExitCode.TERMINATED)
    rank, first = failed[0]
    if first.exitcode > 0:  # a worker has said why; others may only have noticed it
        known = (ExitCode(failure.exitcode) for _, failure in failed if failure.exitcode in set(ExitCode))
        return next((code for code in known if code is not ExitCode.FAILURE), ExitCode.FAILURE)
    name = signal.Signals(-first.exitcode).name
    cause = " (often a sign of too little memory)" if name == "SIGKILL" else ""
    raise TeslaError(
        f"Worker {rank} (process {first.pid}) was ended by {name}{cause}.",
        "Saved files are intact; run the same command to resume, with any number of workers.",
    )


def check_count(workers: int | None, place: RankEnvironment) -> None:
    """Refuse `--workers` in a process that is a worker already.

    Raises:
        UsageError: it is.
    """
    if workers is not None and place.size > 1:
        raise UsageError(
            f"This process is one of {place.size} started by torchrun; --workers cannot start more.",
            "Omit --workers, or start `tesla run` without torchrun.",
        )
