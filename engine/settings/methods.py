"""What a `distill.method` sets: published rates, which tesla.toml may change, and what belongs to it, which is fixed.

The tables are data (methods.toml). An unknown method has none: validation reports it later.
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

Table = Mapping[str, Any]
"""Nested tables of settings."""


@cache
def _methods() -> dict[str, Any]:
    return tomllib.loads(files("engine.settings").joinpath("methods.toml").read_text())


def published_tables(method: Any, dataset: Any, ipc: Any) -> list[tuple[str, Table]]:
    """Origins and tables of a method's published settings, the more general first."""
    table = _methods().get(method, {}) if isinstance(method, str) else {}
    found: list[tuple[str, Table]] = [(f"method {method}", _settings(table))] if table else []
    found += _row(f"method {method}", table.get("ipc", {}), ipc)
    own = table.get("dataset", {}).get(dataset, {}) if isinstance(dataset, str) else {}
    return found + _row(f"method {method}, {dataset}", own.get("ipc", {}), ipc, below=False)


def fixed_table(method: Any) -> tuple[str, Table]:
    """Origin and table of the settings without which a method would be another."""
    table = _methods().get(method, {}) if isinstance(method, str) else {}
    return f"method {method}", table.get("fixed", {})


def _settings(table: Table) -> Table:
    return {key: part for key, part in table.items() if key not in ("ipc", "dataset", "fixed")}


def _row(origin: str, rows: Table, ipc: Any, *, below: bool = True) -> list[tuple[str, Table]]:
    """The row of the greatest published IPC up to this one; with `below` unset of just this one."""
    if not isinstance(ipc, int):
        return []
    known = [row for row in map(int, rows) if row == ipc or (below and row < ipc)]
    return [(f"{origin}, IPC {max(known)}", rows[str(max(known))])] if known else []
