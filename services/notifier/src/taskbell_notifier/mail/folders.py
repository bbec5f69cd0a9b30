"""The folders templates/ and locales/ of a package that brings mails."""

from importlib.resources import files
from importlib.resources.abc import Traversable

from taskbell.errors import SettingsError


def folder_of(package: str, name: str) -> Traversable:
    """That folder of the package; it need not exist.

    Raises:
        SettingsError: the package cannot be imported.
    """
    try:
        return files(package) / name
    except ModuleNotFoundError as error:
        msg = f"{package}, which is to have the folder {name}/ of a kind of mail, cannot be imported: {error}"
        raise SettingsError(msg) from None
