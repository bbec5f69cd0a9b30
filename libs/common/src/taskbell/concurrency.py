"""Small tools for tasks that must end together."""

import asyncio
from collections.abc import Awaitable


async def first_of(*work: Awaitable[object], timeout: float | None = None) -> None:
    """Waits until one of them is done or the time is up; then cancels the others and waits until they have ended.

    Args:
        timeout: seconds; None waits for ever.

    Raises:
        Exception: whatever the awaitable that was done first raised.
    """
    tasks = {asyncio.ensure_future(item) for item in work}
    try:
        done, _ = await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
