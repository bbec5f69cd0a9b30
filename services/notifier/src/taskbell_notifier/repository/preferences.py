"""Who wants what: no row means yes."""

from taskbell.contracts import MailKind
from taskbell.database import Database

OPT_OUT = """
    INSERT INTO taskbell.preference (user_id, kind, enabled, source)
    VALUES (:user_id, :kind, false, 'unsubscribe link')
    ON CONFLICT (user_id, kind) DO UPDATE
    SET enabled = false, source = excluded.source, updated_at = now()
    WHERE preference.enabled
"""


class Preferences:
    """Preferences of people, as the pages behind the unsubscribe links change them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._locale = f"SELECT locale FROM {database.app}.users WHERE id = CAST(:user_id AS bigint)"

    async def opt_out(self, user_id: int, kind: MailKind) -> None:
        """Stores that this person no longer wants that kind of mail; again, it changes nothing.

        Raises:
            DatabaseUnavailable: it could not be stored now.
        """
        async with self._database.transaction() as tx:
            await tx.execute(OPT_OUT, {"user_id": user_id, "kind": kind.value})

    async def locale_of(self, user_id: int) -> str | None:
        """The locale in the user's row; None: not known.

        Raises:
            DatabaseUnavailable: it cannot be read now.
        """
        async with self._database.transaction() as tx:
            locale = await tx.value(self._locale, {"user_id": user_id})
        return None if locale is None else str(locale)
