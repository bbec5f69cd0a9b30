"""Which kinds of mail a user wants; no row means that the user wants it."""

from taskbell import cuts
from taskbell.database import Transaction

OPT_OUT = """
    INSERT INTO taskbell.preference (user_id, kind, enabled, source)
    VALUES (:user_id, :kind, false, 'unsubscribe link')
    ON CONFLICT (user_id, kind) DO UPDATE
    SET enabled = false, source = excluded.source, updated_at = now()
    WHERE preference.enabled
"""

LOCALE = f"SELECT {cuts.word('locale')} FROM {{app}}.users WHERE id = CAST(:user_id AS bigint)"


async def opt_out(transaction: Transaction, user_id: int, kind: str) -> None:
    """Stores that this user no longer wants that kind of mail; repeated, it changes nothing."""
    await transaction.execute(OPT_OUT, {"user_id": user_id, "kind": kind})


async def locale_of(transaction: Transaction, app: str, user_id: int) -> str | None:
    """The locale in the user's row; None: not known."""
    locale = await transaction.value(LOCALE.format(app=app), {"user_id": user_id})
    return None if locale is None else str(locale)
