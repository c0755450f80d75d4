"""Python begins with this where its folder is on PYTHONPATH: what `TESLA_TEST_WITHOUT` names is gone, here and in all
processes that this one starts. `mac` is all of it, and what macOS has instead.

A simulation on Linux: libraries are built for Linux and stay as they are. psutil and libraries still read /proc; our
own modules find none. The kernel, the file system, Metal and the compiler of a Mac are not simulated.
"""

import builtins
import ctypes
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

import psutil  # before anything changes: it is built for the real system

NOT_ON_MACOS = {
    os: (
        "posix_fadvise", "memfd_create", "pidfd_open", "copy_file_range", "splice", "eventfd", "getrandom", "pipe2",
        "fdatasync", "getxattr", "setxattr", "listxattr", "removexattr", "waitid", "getresuid", "setresuid",
        "O_TMPFILE", "O_DIRECT", "O_PATH", "O_NOATIME",
    ),
    select: ("epoll",),
    socket: ("SOCK_CLOEXEC", "SOCK_NONBLOCK", "AF_NETLINK", "AF_PACKET", "SO_PEERCRED"),
    signal: ("sigtimedwait", "sigwaitinfo"),
    resource: ("prlimit",),
    time: ("CLOCK_BOOTTIME",),
    psutil: ("RLIMIT_AS",),
}  # fmt: skip
SYSCONF = ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES", "SC_PAGE_SIZE", "SC_PAGESIZE")
LINUX = ("/proc", "/sys")
OURS = tuple(f"{os.sep}{name}{os.sep}" for name in ("engine", "tesla_tui"))
BETWEEN = ("pathlib.py", "genericpath.py", "sitecustomize.py")
GETPATH, FULLFSYNC = 50, 51
FACTS = {
    b"kern.bootsessionuuid": b"3D2F1C7E-0B51-4B0F-9C52-6A7A1D0E5F10",
    b"machdep.cpu.brand_string": b"Apple M2 Pro",
}
SYNCED = os.environ.get("TESLA_TEST_SYNCED")
"""A file that gets a line for every full sync."""


def without(*names: str) -> None:
    """Remove functions of the module `os`."""
    for name in names:
        delattr(os, name)


def without_sysconf() -> None:
    sysconf = os.sysconf

    def asked(name: Any) -> int:
        if name in SYSCONF:
            raise ValueError("unrecognized configuration name")
        return sysconf(name)

    os.sysconf = asked


def without_proc() -> None:
    builtins.open = io.open = guarded(io.open)
    for name in ("open", "readlink", "stat", "listdir", "scandir"):
        setattr(os, name, guarded(getattr(os, name)))


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of a path, for which /proc and /sys do not exist if one of our modules calls it."""

    def call(path: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(path, str | os.PathLike) and os.fspath(path).startswith(LINUX) and asked_by_us():
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", os.fspath(path))
        return function(path, *arguments, **options)

    return call


def asked_by_us() -> bool:
    """Whether one of our modules makes the call, itself or through pathlib."""
    frame: types.FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.endswith(BETWEEN):
        frame = frame.f_back
    name = frame.f_code.co_filename if frame is not None else ""
    return any(folder in name for folder in OURS) and "site-packages" not in name


def without_glibc() -> None:
    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "ctypes.dlopen" and arguments[0] == "libc.so.6":
            raise OSError("dlopen(libc.so.6, 0x0006): tried: 'libc.so.6' (no such file)")

    sys.addaudithook(refuse)


def without_resource() -> None:
    sys.modules["resource"] = None  # type: ignore[assignment]


def mac() -> None:
    """All of it, and what macOS has instead."""
    sysconfig.get_config_vars()  # read from a file that has the platform in its name
    sys.platform = "darwin"
    sys.modules["_scproxy"] = types.ModuleType("_scproxy")  # urllib asks it for proxies
    sys.modules["_scproxy"].__dict__.update(_get_proxy_settings=dict, _get_proxies=dict)
    platform.platform = lambda *_, **__: "macOS-15.1-arm64-arm-64bit"
    platform.processor = lambda: "arm"
    getrusage = resource.getrusage
    # Bytes, where Linux has kB.
    resource.getrusage = lambda who: types.SimpleNamespace(ru_maxrss=getrusage(who).ru_maxrss * 1024)
    mac_files()
    mac_facts()
    for module, names in NOT_ON_MACOS.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    for name, remove in ABSENCES.items():
        if name not in ("mac", "resource", "windows", "getloadavg"):
            remove()


def mac_files() -> None:
    """Syncs that reach the platter, and the path of a descriptor."""
    fsync, readlink, control = os.fsync, os.readlink, fcntl.fcntl
    fcntl.F_GETPATH, fcntl.F_FULLFSYNC = GETPATH, FULLFSYNC

    def called(descriptor: Any, command: int, argument: Any = 0) -> Any:
        if command == FULLFSYNC:
            fsync(descriptor)
            if SYNCED:
                with open(SYNCED, "a") as file:
                    file.write("synced\n")
            return 0
        if command == GETPATH:
            return readlink(f"/proc/self/fd/{descriptor}").removesuffix(" (deleted)").encode().ljust(1024, b"\0")
        return control(descriptor, command, argument)

    fcntl.fcntl = called


def mac_facts() -> None:
    """sysctl(3)."""
    library = ctypes.CDLL

    def sysctlbyname(name: bytes, buffer: Any, size: Any, new: Any, length: Any) -> int:
        if name not in FACTS:
            return -1
        buffer.value = FACTS[name]
        return 0

    def load(name: str | None, *arguments: Any, **options: Any) -> Any:
        if name is None:
            return types.SimpleNamespace(sysctlbyname=sysctlbyname)
        return library(name, *arguments, **options)

    ctypes.CDLL = load


def windows() -> None:
    """Only what is asked before anything else is imported."""
    sys.platform = "win32"
    sys.modules["fcntl"] = sys.modules["resource"] = sys.modules["termios"] = None  # type: ignore[assignment]


ABSENCES: dict[str, Callable[[], None]] = {
    "sysconf": without_sysconf,
    "affinity": lambda: without("sched_getaffinity", "sched_setaffinity"),
    "fallocate": lambda: without("posix_fallocate"),
    "getloadavg": lambda: without("getloadavg"),
    "proc": without_proc,
    "glibc": without_glibc,
    "resource": without_resource,
    "mac": mac,
    "windows": windows,
}

for chosen in filter(None, os.environ.get("TESLA_TEST_WITHOUT", "").split()):
    ABSENCES[chosen]()
