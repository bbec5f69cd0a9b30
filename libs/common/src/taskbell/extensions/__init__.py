"""Loads what installed packages add to Taskbell: messages, kinds of mail, handlers, and the grants that these need.

A package offers one `Extension` by the entry point group `taskbell.extensions`. All extensions are loaded together,
once, and checked against Taskbell and each other: if two claim one name, the error names both.
"""

from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points

from taskbell.errors import ExtensionError
from taskbell.extensions.checks import mistakes_in
from taskbell.extensions.parts import OURS, SERVICES, USERS, Extension, Grant, Handler, Installed, Listen

__all__ = [
    "GROUP",
    "OURS",
    "SERVICES",
    "USERS",
    "Extension",
    "Grant",
    "Handler",
    "Installed",
    "Listen",
    "installed",
    "mistakes_in",
]

GROUP = "taskbell.extensions"


@lru_cache(maxsize=1)
def installed() -> tuple[Installed, ...]:
    """The extensions of all installed packages, sorted by package.

    Raises:
        ExtensionError: an extension cannot be loaded or is wrong, or two claim one name.
    """
    loaded = [_load(entry) for entry in entry_points(group=GROUP)]
    found = tuple(sorted(loaded, key=lambda it: it.package))
    mistakes = list(mistakes_in(found))
    if mistakes:
        raise ExtensionError("\n".join(mistakes))
    return found


def _load(entry: EntryPoint) -> Installed:
    package = entry.dist.name if entry.dist else "an unknown package"
    try:
        extension = entry.load()
    except Exception as error:
        msg = f"the extension {entry.name} of package {package} cannot be loaded: {type(error).__name__}: {error}"
        raise ExtensionError(msg) from error
    if not isinstance(extension, Extension):
        msg = f"{entry.value} of package {package} is not a taskbell.extend.Extension but a {type(extension).__name__}"
        raise ExtensionError(msg)
    return Installed(package, extension, entry.dist.version if entry.dist else "")
