"""The use case of the unsubscribe pages: stores a preference, and reads a locale."""

from taskbell.database import Database
from taskbell_notifier.repository import preferences


class Preferences:
    """Preferences of users, as the unsubscribe links change them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def opt_out(self, user_id: int, kind: str) -> None:
        """Stores that this user no longer wants that kind of mail; repeated, it changes nothing.

        Raises:
            DatabaseUnavailable: it could not be stored now.
        """
        async with self._database.transaction() as transaction:
            await preferences.opt_out(transaction, user_id, kind)

    async def locale_of(self, user_id: int) -> str | None:
        """The locale in the user's row; None: not known.

        Raises:
            DatabaseUnavailable: it cannot be read now.
        """
        async with self._database.transaction() as transaction:
            return await preferences.locale_of(transaction, self._database.app, user_id)
