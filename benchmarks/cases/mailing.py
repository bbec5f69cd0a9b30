"""A, A' and a second notifier: an overdue mailing, from the event until the mail server has taken the last mail."""

import time

from benchmarks.dataset import OVERDUE, DataSet
from benchmarks.installation import Bench
from benchmarks.result import Result
from taskbell.contracts import OverdueDue

DELAY = 0.05
SESSIONS = 64
EACH = 32
"""SMTP sessions of a notifier if the mail server is near. With fewer, groups of markers and outcomes are smaller; with
more, the rates were the same."""
COMPLETED = "SELECT completed_at IS NOT NULL FROM taskbell.mailing WHERE message_id = $1"
SENT = """
    SELECT count(*) FROM taskbell.delivery AS d JOIN taskbell.mailing AS m ON m.id = d.mailing_id
    WHERE m.message_id = $1 AND d.state = 'sent' AND d.attempts = 1
"""


async def overdue(bench: Bench, size: str | None) -> Result:
    """A: two notifiers of 32 sessions each, one for each core; the tuned peer has four processes."""
    return await mail(bench, "mailing", size or "M", 2, MAIL_POOL_SIZE=str(EACH))


async def one_notifier(bench: Bench, size: str | None) -> Result:
    """The same work by one notifier with its default settings."""
    return await mail(bench, "one-notifier", size or "M", 1)


async def slow_smtp(bench: Bench, size: str | None) -> Result:
    """A': the same over at most 64 sessions, with every answer of the mail server 50 ms late."""
    return await mail(bench, "slow-smtp", size or "S", 1, delay=DELAY, MAIL_POOL_SIZE=str(SESSIONS))


async def two_notifiers(bench: Bench, size: str | None) -> Result:
    """The same work by one notifier of 32 sessions, and then by two."""
    one, two = [
        await mail(bench, "two-notifiers", size or "M", notifiers, MAIL_POOL_SIZE=str(EACH)) for notifiers in (1, 2)
    ]
    figures = {"times the rate of one": two.rate / one.rate, "mails/s of one": one.rate}
    return Result(**{**vars(two), "figures": figures})


async def mail(bench: Bench, case: str, size: str, notifiers: int, *, delay: float = 0.0, **settings: str) -> Result:
    """Runs one mailing until it is complete.

    Raises:
        AssertionError: a mail was not taken, or was taken more than once.
    """
    async with (
        bench.installation(DataSet.of(size), delay=delay, **settings) as installation,
        installation.database() as database,
    ):
        expected = await database.fetchval(OVERDUE)
        await installation.start(*(f"notifier-{number}" for number in range(1, notifiers + 1)))
        async with installation.client() as client, installation.measured() as measured:
            began = time.monotonic()
            message_id = await client.publish(OverdueDue())

            async def completed() -> bool:
                return bool(await database.fetchval(COMPLETED, message_id))

            await installation.until("the mailing's end", completed)
        taken = await installation.sink.taken()
        assert await database.fetchval(SENT, message_id) == expected, "not every row ended sent at its first try"
        assert taken.taken == expected, f"{taken.taken} mails were taken instead of {expected}"
        assert taken.distinct in (None, expected), f"{taken.distinct} different mails instead of {expected}"
    assert taken.first is not None
    assert taken.last is not None
    words = f"{size}: {expected:,} mails" + (f", {delay * 1000:g} ms" if delay else "")
    return Result(
        case=case,
        what=words,
        units=expected,
        unit="mails",
        seconds=taken.last - began,
        first=taken.first - began,
        **measured.fields(),
    )
