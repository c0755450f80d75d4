"""Python begins with this where its folder is on PYTHONPATH: what macOS does not have is gone, for this process and all
that it starts. A simulation on Linux: the libraries are Linux's own, and only what our code sees is a Mac.

psutil is built for the system it runs on, so it is imported first and keeps reading /proc, as do libraries; our own
modules find no /proc and no /sys.
"""

import builtins
import errno
import fcntl
import io
import os
import platform
import resource
import select
import signal
import socket
import sys
import sysconfig
import time
import types
from collections.abc import Callable
from typing import Any

import psutil  # noqa: F401 (before sys.platform changes)

ABSENT = {
    os: (
        "sched_getaffinity", "sched_setaffinity", "posix_fallocate", "posix_fadvise", "memfd_create", "pidfd_open",
        "copy_file_range", "splice", "eventfd", "getrandom", "pipe2", "fdatasync", "getxattr", "setxattr", "listxattr",
        "removexattr", "O_TMPFILE", "O_DIRECT", "O_PATH", "O_NOATIME", "waitid", "getresuid", "setresuid",
    ),
    select: ("epoll",),
    socket: ("SOCK_CLOEXEC", "SOCK_NONBLOCK", "AF_NETLINK", "AF_PACKET", "SO_PEERCRED"),
    signal: ("sigtimedwait", "sigwaitinfo"),
    resource: ("prlimit",),
    time: ("CLOCK_BOOTTIME",),
}  # fmt: skip
SYSCONF = ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES", "SC_PAGE_SIZE", "SC_PAGESIZE")
LINUX = ("/proc", "/sys")
OURS = tuple(f"{os.sep}{name}{os.sep}" for name in ("engine", "tesla_tui"))
NEAR = 4
"""Frames between one of our functions and the call that reads a file: pathlib's, and the stand-in's own."""
GETPATH, FULLSYNC = 50, 51


def ours() -> bool:
    """Whether one of our modules asks, itself or through pathlib."""
    frame: types.FrameType | None = sys._getframe(2)
    for _ in range(NEAR):
        if frame is None:
            return False
        if any(name in frame.f_code.co_filename for name in OURS) and "site-packages" not in frame.f_code.co_filename:
            return True
        if not frame.f_code.co_filename.endswith(("pathlib.py", "sitecustomize.py", "genericpath.py")):
            return False
        frame = frame.f_back
    return False


def without_linux(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of a path, for which /proc and /sys do not exist if one of our modules calls it."""

    def call(path: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(path, str | os.PathLike) and os.fspath(path).startswith(LINUX) and ours():
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", os.fspath(path))
        return function(path, *arguments, **options)

    return call


def become_mac() -> None:
    """Change this process."""
    sysconfig.get_config_vars()  # read from a file that has the platform in its name
    sys.platform = "darwin"
    sys.modules["_scproxy"] = types.ModuleType("_scproxy")  # urllib asks it for proxies
    sys.modules["_scproxy"].__dict__.update(_get_proxy_settings=dict, _get_proxies=dict)
    for module, names in ABSENT.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    for name in SYSCONF:
        os.sysconf_names.pop(name, None)
    sysconf = os.sysconf

    def asked(name: Any) -> int:
        if name in SYSCONF:
            raise ValueError("unrecognized configuration name")
        return sysconf(name)

    os.sysconf = asked
    readlink = os.readlink
    builtins.open = io.open = without_linux(io.open)
    for name in ("open", "readlink", "stat", "listdir", "scandir"):
        setattr(os, name, without_linux(getattr(os, name)))
    sys.addaudithook(no_glibc)
    platform.platform = lambda *_, **__: "macOS-15.1-arm64-arm-64bit"
    platform.processor = lambda: "arm"
    getrusage, fcntl_call = resource.getrusage, fcntl.fcntl

    def usage(who: int) -> Any:
        found = getrusage(who)
        return types.SimpleNamespace(ru_maxrss=found.ru_maxrss * 1024, ru_utime=found.ru_utime)  # bytes, not kB

    resource.getrusage = usage
    fcntl.F_GETPATH, fcntl.F_FULLFSYNC = GETPATH, FULLSYNC

    def control(descriptor: Any, command: int, argument: Any = 0) -> Any:
        if command == FULLSYNC:
            os.fsync(descriptor)
            return 0
        if command == GETPATH:
            return readlink(f"/proc/self/fd/{descriptor}").removesuffix(" (deleted)").encode().ljust(1024, b"\0")
        return fcntl_call(descriptor, command, argument)

    fcntl.fcntl = control


def no_glibc(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook."""
    if event == "ctypes.dlopen" and arguments[0] == "libc.so.6":
        raise OSError("dlopen(libc.so.6, 0x0006): tried: 'libc.so.6' (no such file)")


become_mac()
