"""Which user is at the other end of a loopback connection: on a shared machine, any user can make one.

Linux tells the owner of each of its sockets in /proc/net/tcp and tcp6; elsewhere nothing is known.
"""

import ipaddress
import os
import socket
import sys
from pathlib import Path

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
ROOT = 0


def tells_owners() -> bool:
    """Whether this system tells whose a connection is."""
    return any(table.exists() for table in TABLES)


def is_own(peer: tuple[str, int], here: tuple[str, int]) -> bool | None:
    """Whether a connection comes from a process of this user (or of root, who can do anything anyway).

    Args:
        peer: address and port of the other end.
        here: address and port of this end.

    Returns:
        None where this system does not tell.
    """
    known = False
    for table in TABLES:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        known = True
        for line in lines:
            fields = line.split()
            if _same(fields[1], peer) and _same(fields[2], here):
                return int(fields[7]) in (os.getuid(), ROOT)
    return False if known else None


def _same(entry: str, address: tuple[str, int]) -> bool:
    """Whether `0100007F:1F90` is that address and port: words of four bytes in the machine's order."""
    host, _, port = entry.partition(":")
    if int(port, 16) != address[1]:
        return False
    words = [bytes.fromhex(host[i : i + 8]) for i in range(0, len(host), 8)]
    packed = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    return _plain(ipaddress.ip_address(packed)) == _plain(ipaddress.ip_address(address[0].partition("%")[0]))


def _plain(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> object:
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def ends(connection: socket.socket) -> tuple[tuple[str, int], tuple[str, int]] | None:
    """Both ends of a TCP connection, the other first; None for anything else."""
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    try:
        return connection.getpeername()[:2], connection.getsockname()[:2]
    except OSError:
        return None
