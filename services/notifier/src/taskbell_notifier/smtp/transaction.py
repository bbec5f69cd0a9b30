"""One mail over an open connection: MAIL, RCPT and DATA, the marker, the message (RFC 5321 §3.3, RFC 2920).

docs/decisions/0004-smtp-transaction.md says why this is not left to aiosmtplib.
"""

from collections.abc import Awaitable, Callable

from taskbell_notifier.smtp.conversation import Conversation
from taskbell_notifier.smtp.envelope import Order
from taskbell_notifier.smtp.replies import (
    Loss,
    Reply,
    Stage,
    Submission,
    Verdict,
    classify,
    ends_session,
    lost,
    odd,
)

BeforeData = Callable[[], Awaitable[bool]]
"""Called at most once, between the server's 354 and the message. The message is sent only if it returns True."""


async def transact(
    conversation: Conversation,
    order: Order,
    before_data: BeforeData,
    *,
    pipelining: bool,
    timeout: float,
    data_timeout: float,
) -> Submission:
    """Hands one mail over and returns how it ended; while `conversation.is_open`, another mail may follow.

    Every reply must come within `timeout` seconds, the reply to the final dot within `data_timeout` seconds of writing
    the message. On cancellation, and on any error, the connection is closed and the exception goes on; if
    `conversation.in_doubt` is then false, not a byte of the message has been sent.
    """
    try:
        refusal = await _ask(conversation, order, pipelining=pipelining, timeout=timeout)
        return refusal or await _hand_over(conversation, order.message, before_data, data_timeout)
    except BaseException:
        conversation.abort()
        raise


async def check_sender(conversation: Conversation, sender: bytes, timeout: float) -> Submission | None:
    """Why the server takes no mail from this sender, or None. Begins a transaction and resets it.

    On cancellation the connection is closed.
    """
    try:
        conversation.write(b"MAIL FROM:<%b>\r\n" % sender)
        event = await conversation.read_reply(timeout)
        if ends_session(Stage.MAIL, event):
            conversation.abort()
        else:
            await _reset(conversation, timeout)
        return classify(Stage.MAIL, event)
    except BaseException:
        conversation.abort()
        raise


async def _ask(conversation: Conversation, order: Order, *, pipelining: bool, timeout: float) -> Submission | None:
    """MAIL, RCPT and DATA. None: the server waits for the message; else why it does not take this mail.

    All replies to a pipelined group are read, also after a refusal: a reply left unread would be taken for the reply to
    a later command.
    """
    if pipelining:
        conversation.write(order.mail + order.rcpt + b"DATA\r\n")
    refusals: dict[Stage, Submission] = {}
    for stage, command in ((Stage.MAIL, order.mail), (Stage.RCPT, order.rcpt), (Stage.DATA, b"DATA\r\n")):
        if not pipelining:
            conversation.write(command)
        event = await conversation.read_reply(timeout)
        verdict = classify(stage, event)
        if pipelining and event is Loss.TIMED_OUT:
            # One reply is missing. It may be an earlier one, and then a refusal was said of another command.
            conversation.abort()
            return verdict
        if verdict is not None:
            refusals[stage] = verdict
        if ends_session(stage, event):
            conversation.abort()
            break
        if refusals and not pipelining:
            break
    if not refusals:
        return None
    if conversation.is_open:
        await _reset_after_refusal(
            conversation, refusals, waits_for_message=pipelining and Stage.DATA not in refusals, timeout=timeout
        )
    return next(iter(refusals.values()))


async def _reset_after_refusal(
    conversation: Conversation, refusals: dict[Stage, Submission], *, waits_for_message: bool, timeout: float
) -> None:
    """After a refusal: leaves the connection ready for the next mail, or closes it.

    A server may answer 354 to a pipelined DATA although it refused the recipient. It is then sent the lone dot of RFC
    2920 §3.1; but never if it took the recipient (and refused the sender), because that would deliver an empty message.
    """
    if waits_for_message:
        if Stage.RCPT not in refusals:
            conversation.abort()
            return
        conversation.write(b".\r\n")
        if ends_session(Stage.MESSAGE, await conversation.read_reply(timeout)):
            conversation.abort()
            return
    await _reset(conversation, timeout)


async def _reset(conversation: Conversation, timeout: float) -> None:
    conversation.write(b"RSET\r\n")
    event = await conversation.read_reply(timeout)
    if not isinstance(event, Reply) or event.code // 100 != 2:
        conversation.abort()


async def _hand_over(
    conversation: Conversation, message: bytes, before_data: BeforeData, data_timeout: float
) -> Submission:
    """Sets the data marker, then sends the message. Nothing that the server could delay is awaited between the two."""
    cause: Exception | None = None
    try:
        allowed = await before_data() is True
    except Exception as error:  # noqa: BLE001 - the caller gets it as the cause
        allowed, cause = False, error
    if not allowed:
        conversation.abort()
        text = "not allowed to send" if cause is None else f"the data marker failed: {type(cause).__name__}"
        return Submission(Verdict.NOT_SENT, Stage.DATA, text=text, cause=cause)
    # The server closed the connection, or sent a 421, while the marker was being committed.
    if not conversation.is_quiet:
        event = await conversation.read_reply(0)
        conversation.abort()
        return odd(Stage.DATA, event) if isinstance(event, Reply) else lost(Stage.DATA, event)
    conversation.in_doubt = True
    conversation.write(message)
    event = await conversation.read_reply(data_timeout)
    conversation.in_doubt = not isinstance(event, Reply)
    if ends_session(Stage.MESSAGE, event):
        conversation.abort()
    verdict = classify(Stage.MESSAGE, event)
    # Every reply to the final dot, and its absence, is a verdict.
    assert verdict is not None
    return verdict
