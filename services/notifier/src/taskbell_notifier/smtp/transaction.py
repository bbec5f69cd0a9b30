"""One mail over an open connection: MAIL, RCPT and DATA, the marker, the message (RFC 5321 §3.3, RFC 2920).

Why this is ours and not aiosmtplib's: docs/decisions/0004-smtp-transaction.md.
"""

from collections.abc import Awaitable, Callable

from taskbell_notifier.smtp.conversation import Conversation
from taskbell_notifier.smtp.envelope import Order
from taskbell_notifier.smtp.replies import Reply, Stage, Submission, Verdict, classify, ends_session, lost, odd

BeforeData = Callable[[], Awaitable[bool]]
"""Called at most once, between the server's 354 and the message. Only True lets the message go out."""


async def transact(
    line: Conversation,
    order: Order,
    before_data: BeforeData,
    *,
    pipelining: bool,
    timeout: float,
    data_timeout: float,
) -> Submission:
    """Hands one mail over and says how it ended; `line.is_open` tells whether another may follow.

    Every reply has `timeout` seconds, the one to the final dot `data_timeout` from the moment the message is
    written. On cancellation, and on any error, the connection is closed and the exception goes on; where
    `line.in_doubt` is then false, not a byte of the message has been sent.
    """
    try:
        refusal = await _ask(line, order, pipelining=pipelining, timeout=timeout)
        return refusal or await _hand_over(line, order.message, before_data, data_timeout)
    except BaseException:
        line.abort()
        raise


async def check_sender(line: Conversation, sender: bytes, timeout: float) -> Submission | None:
    """Why the server takes no mail from this sender, or None. Begins a transaction and resets it.

    On cancellation the connection is closed.
    """
    try:
        line.say(b"MAIL FROM:<%b>\r\n" % sender)
        event = await line.hear(timeout)
        if ends_session(Stage.MAIL, event):
            line.abort()
        else:
            await _reset(line, timeout)
        return classify(Stage.MAIL, event)
    except BaseException:
        line.abort()
        raise


async def _ask(line: Conversation, order: Order, *, pipelining: bool, timeout: float) -> Submission | None:
    """MAIL, RCPT and DATA. None: the server waits for the message; else why it does not want this mail.

    Of a pipelined group all replies are read, also after a refusal: one left unread would be taken for the
    reply to a later command.
    """
    if pipelining:
        line.say(order.mail + order.rcpt + b"DATA\r\n")
    refusals: dict[Stage, Submission] = {}
    for stage, command in ((Stage.MAIL, order.mail), (Stage.RCPT, order.rcpt), (Stage.DATA, b"DATA\r\n")):
        if not pipelining:
            line.say(command)
        event = await line.hear(timeout)
        verdict = classify(stage, event)
        if verdict is not None:
            refusals[stage] = verdict
        if ends_session(stage, event):
            line.abort()
            break
        if refusals and not pipelining:
            break
    if not refusals:
        return None
    if line.is_open:
        await _make_good(line, refusals, waits_for_message=pipelining and Stage.DATA not in refusals, timeout=timeout)
    return next(iter(refusals.values()))


async def _make_good(
    line: Conversation, refusals: dict[Stage, Submission], *, waits_for_message: bool, timeout: float
) -> None:
    """After a refusal: leaves the connection fit for the next mail, or closed.

    A server may answer 354 to a pipelined DATA although it refused the recipient. It then gets the lone dot
    of RFC 2920 §3.1; but never where it took the recipient (and refused the sender), for that would deliver
    an empty message.
    """
    if waits_for_message:
        if Stage.RCPT not in refusals:
            line.abort()
            return
        line.say(b".\r\n")
        if ends_session(Stage.MESSAGE, await line.hear(timeout)):
            line.abort()
            return
    await _reset(line, timeout)


async def _reset(line: Conversation, timeout: float) -> None:
    line.say(b"RSET\r\n")
    event = await line.hear(timeout)
    if not isinstance(event, Reply) or event.code // 100 != 2:
        line.abort()


async def _hand_over(line: Conversation, message: bytes, before_data: BeforeData, data_timeout: float) -> Submission:
    """The marker, then the message. Between the two nothing is awaited that the server could delay."""
    cause: Exception | None = None
    try:
        allowed = await before_data() is True
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets it back as the cause
        allowed, cause = False, error
    if not allowed:
        line.abort()
        text = "not allowed to send" if cause is None else f"the data marker failed: {type(cause).__name__}"
        return Submission(Verdict.NOT_SENT, Stage.DATA, text=text, cause=cause)
    if not line.is_quiet:  # hung up, or left with a 421, while the marker was on its way
        event = await line.hear(0)
        line.abort()
        return odd(Stage.DATA, event) if isinstance(event, Reply) else lost(Stage.DATA, event)
    line.in_doubt = True
    line.say(message)
    event = await line.hear(data_timeout)
    line.in_doubt = not isinstance(event, Reply)
    if ends_session(Stage.MESSAGE, event):
        line.abort()
    verdict = classify(Stage.MESSAGE, event)
    assert verdict is not None  # whatever follows the final dot decides
    return verdict
