"""The table of contents: the pages listed in mkdocs.yml that exist, and all others under "More"."""

from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files

API = "reference/api/"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Drop missing pages, add unlisted ones, and add the engine reference by module."""
    there = {file.src_uri for file in files.documentation_pages()}
    nav = [item for entry in config.nav or [] if (item := _present(entry, there)) is not None]
    listed = set(_pages(nav))
    api = [{uri.removeprefix(API).removesuffix(".md"): uri} for uri in sorted(there) if uri.startswith(API)]
    for entry in nav:
        if isinstance(entry, dict) and "Reference" in entry:
            entry["Reference"] = [*entry["Reference"], {"Engine": api}]
    more = sorted(uri for uri in there - listed if not uri.startswith(API))
    config.nav = [*nav, *([{"More": more}] if more else [])]
    return files


def _present(entry: Any, there: set[str]) -> Any:
    if isinstance(entry, str):
        return entry if entry in there else None
    ((title, value),) = entry.items()
    if isinstance(value, str):
        return entry if value in there else None
    kept = [item for part in value if (item := _present(part, there)) is not None]
    return {title: kept} if kept else None


def _pages(nav: list[Any]) -> list[str]:
    found = []
    for entry in nav:
        if isinstance(entry, str):
            found.append(entry)
        else:
            for value in entry.values():
                found.extend([value] if isinstance(value, str) else _pages(value))
    return found
