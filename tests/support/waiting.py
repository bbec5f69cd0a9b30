"""Waiting for something to become true, with a limit that only a failing test ever reaches."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, overload

T = TypeVar("T")
PAUSE = 0.02  # seconds between two looks


@overload
async def eventually(look: Callable[[], Coroutine[Any, Any, T]], *, limit: float = 30.0, what: str = "") -> T: ...
@overload
async def eventually(look: Callable[[], T], *, limit: float = 30.0, what: str = "") -> T: ...
async def eventually(look: Callable[[], Any], *, limit: float = 30.0, what: str = "") -> Any:
    """Look until the answer is truthy, and return it; fail the test when it is not within `limit` seconds.

    `look` may be a plain or an async function. An AssertionError from it means "not yet", so that it may consist of
    assertions; the last one is then what the test fails with.
    """
    deadline = time.monotonic() + limit
    while True:
        late = time.monotonic() > deadline
        try:
            answer = look()
            value = await answer if isinstance(answer, Awaitable) else answer
            if value:
                return value
        except AssertionError:
            if late:
                raise
            value = None
        if late:
            raise AssertionError(f"{what or 'what was waited for'} did not come true within {limit:g} s: {value!r}")
        await asyncio.sleep(PAUSE)
