"""The table of docs: what each answer at each stage means for a mail, and when one that was not taken comes back."""

from datetime import timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskbell_notifier.smtp.replies import (
    Loss,
    Reply,
    Stage,
    Submission,
    Verdict,
    classify,
    clean,
    ends_session,
    retry_delay,
)

SERVER, CONFIGURATION = Verdict.SERVER_FAULT, Verdict.CONFIGURATION_FAULT
RETRY, FAILED, UNKNOWN = Verdict.RETRY, Verdict.FAILED, Verdict.UNKNOWN
REFUSED, THROTTLED = Verdict.REFUSED, Verdict.THROTTLED

TABLE = [
    # stage            4xx     5xx            dropped or timed out
    (Stage.CONNECT, SERVER, SERVER, SERVER),
    (Stage.EHLO, SERVER, SERVER, SERVER),
    (Stage.STARTTLS, SERVER, SERVER, SERVER),
    (Stage.AUTH, SERVER, CONFIGURATION, SERVER),
    (Stage.MAIL, RETRY, CONFIGURATION, RETRY),
    (Stage.RCPT, RETRY, REFUSED, RETRY),
    (Stage.DATA, RETRY, REFUSED, RETRY),
    (Stage.MESSAGE, RETRY, REFUSED, UNKNOWN),
]


def verdict_on(stage: Stage, event: Reply | Loss) -> Submission:
    verdict = classify(stage, event)
    assert verdict is not None
    return verdict


@pytest.mark.parametrize(("stage", "temporary", "permanent", "lost"), TABLE)
def test_each_stage_has_a_verdict_on_4xx_5xx_and_silence(
    stage: Stage, temporary: Verdict, permanent: Verdict, lost: Verdict
) -> None:
    for code in (400, 450, 451, 452, 499):
        assert verdict_on(stage, Reply(code, "later")).verdict is temporary
    for code in (500, 503, 550, 554, 571, 599):
        assert verdict_on(stage, Reply(code, "no")).verdict is permanent
    for loss in (Loss.DROPPED, Loss.TIMED_OUT):
        assert verdict_on(stage, loss).verdict is lost


OF_THE_MAIL = [Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.MESSAGE]


@pytest.mark.parametrize("stage", OF_THE_MAIL)
@pytest.mark.parametrize(
    ("code", "text"),
    [
        (454, "Throttling failure: Maximum sending rate exceeded."),
        (454, "4.7.0 Throttling failure: Daily message quota exceeded."),
        (421, "4.7.0 Too many messages, slow down"),
        (421, "Service not available, closing transmission channel"),
        (451, "4.7.1 You are sending too fast"),
        (450, "4.7.1 Error: too much mail from 192.0.2.1"),
        (452, "4.5.3 Too many recipients"),
        (451, "4.7.500 Server busy. Please try again later"),
        (450, "Too many connections from your host"),
        (450, "Requested action not taken: rate limit exceeded"),
        (451, "Message limit per connection exceeded"),
    ],
)
def test_a_server_that_asks_for_a_slower_pace_costs_no_try(stage: Stage, code: int, text: str) -> None:
    found = verdict_on(stage, Reply(code, text))
    assert (found.verdict, found.verdict.is_try) == (THROTTLED, False)


@pytest.mark.parametrize("stage", OF_THE_MAIL)
@pytest.mark.parametrize(
    ("code", "text"),
    [
        (450, "4.7.1 Greylisted, see you in 300 seconds"),
        (451, "4.7.1 Graylisting in action, please come back later"),
        (450, "4.2.1 The user you are trying to contact is receiving mail too quickly"),
        (452, "4.2.2 Mailbox over quota"),
        (452, "4.3.1 Insufficient system storage"),
        (451, "4.3.0 Temporary lookup failure"),
    ],
)
def test_what_is_about_one_recipient_or_the_server_alone_does_not_slow_down_others(
    stage: Stage, code: int, text: str
) -> None:
    assert verdict_on(stage, Reply(code, text)).verdict is RETRY


@pytest.mark.parametrize("stage", [s for s in Stage if s not in (Stage.DATA, Stage.MESSAGE)])
def test_a_2xx_asks_to_go_on_before_data(stage: Stage) -> None:
    assert classify(stage, Reply(250, "ok")) is None
    assert classify(stage, Reply(251, "will forward")) is None


def test_a_354_asks_for_the_message_and_a_2xx_takes_it() -> None:
    assert classify(Stage.DATA, Reply(354, "go on")) is None
    assert verdict_on(Stage.MESSAGE, Reply(250, "2.0.0 queued as 4F3")) == Submission(
        Verdict.ACCEPTED, Stage.MESSAGE, 250, "2.0.0", "queued as 4F3"
    )


@pytest.mark.parametrize(
    ("stage", "code", "verdict"),
    [
        (Stage.CONNECT, 354, SERVER),
        (Stage.AUTH, 334, SERVER),
        (Stage.MAIL, 354, RETRY),
        (Stage.RCPT, 354, RETRY),
        (Stage.DATA, 250, RETRY),
        (Stage.MESSAGE, 354, UNKNOWN),
        (Stage.MESSAGE, 199, UNKNOWN),
        (Stage.MESSAGE, 0, UNKNOWN),
        (Stage.RCPT, 0, RETRY),
        (Stage.RCPT, 999, RETRY),
    ],
)
def test_a_reply_out_of_place_counts_like_a_lost_connection_and_ends_the_session(
    stage: Stage, code: int, verdict: Verdict
) -> None:
    event = Reply(code, "what?")
    found = verdict_on(stage, event)
    assert found.verdict is verdict
    assert found.text == "unexpected reply: what?"
    assert ends_session(stage, event)


@pytest.mark.parametrize(("code", "text"), [(552, "too big"), (554, "5.3.4 message too big for system")])
def test_a_message_too_large_for_the_server_fails_alone(code: int, text: str) -> None:
    assert verdict_on(Stage.MAIL, Reply(code, text)).verdict is FAILED


def test_a_full_mail_system_at_mail_is_not_a_message_too_large() -> None:
    assert verdict_on(Stage.MAIL, Reply(550, "5.3.1 mail system full")).verdict is CONFIGURATION


@pytest.mark.parametrize("code", ["5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10"])
def test_an_address_that_does_not_exist_is_suppressed(code: str) -> None:
    assert verdict_on(Stage.RCPT, Reply(550, f"{code} unknown")).suppress
    assert verdict_on(Stage.RCPT, Reply(550, f"{code}")).suppress


@pytest.mark.parametrize(
    ("stage", "reply"),
    [
        (Stage.RCPT, Reply(550, "no")),
        (Stage.RCPT, Reply(550, "5.7.1 relaying denied")),
        (Stage.RCPT, Reply(550, "5.1.4 ambiguous")),
        (Stage.RCPT, Reply(550, "5.1.0 other")),
        (Stage.RCPT, Reply(550, "5.2.1 mailbox disabled")),
        (Stage.RCPT, Reply(550, "5.2.2 mailbox full")),
        (Stage.RCPT, Reply(550, "5.7.1 no such user, says our policy")),
        (Stage.MESSAGE, Reply(550, "no such user")),
        (Stage.RCPT, Reply(550, "5.1.100 unknown")),
        (Stage.RCPT, Reply(550, "unknown, see 5.1.1")),
        (Stage.RCPT, Reply(450, "4.1.1 unknown at present")),
        (Stage.RCPT, Reply(450, "5.1.1 says two things")),
        (Stage.MESSAGE, Reply(550, "5.1.1 unknown")),
        (Stage.DATA, Reply(550, "5.1.1 unknown")),
    ],
)
def test_nothing_else_suppresses_an_address(stage: Stage, reply: Reply) -> None:
    assert not verdict_on(stage, reply).suppress


@pytest.mark.parametrize(
    ("code", "text", "enhanced"),
    [
        (250, "2.1.5 ok", "2.1.5"),
        (550, "5.1.10\nnull MX", "5.1.10"),
        (550, "5.123.456 x", "5.123.456"),
        (550, "5.1.1.1 x", None),
        (550, "5.1 x", None),
        (550, "4.1.1 contradicts", None),
        (354, "3.0.0 there is no class 3", None),
        (0, "5.1.1 x", None),
    ],
)
def test_enhanced_codes_are_read_where_rfc_2034_puts_them(code: int, text: str, enhanced: str | None) -> None:
    assert Reply(code, text).enhanced == enhanced


def test_the_reason_reads_like_the_servers_answer() -> None:
    verdict = verdict_on(Stage.RCPT, Reply(550, "5.1.1 <bob@example.org>: Recipient\r\n5.1.1 unknown\x00\u202e!"))
    assert verdict.text == "<address>: Recipient unknown !"
    assert verdict.reason == "RCPT: 550 5.1.1 <address>: Recipient unknown !"


def test_the_reason_of_a_silence_says_so() -> None:
    assert verdict_on(Stage.MESSAGE, Loss.TIMED_OUT).reason == "message: no reply in time"


@given(st.text(max_size=2_000), st.sampled_from(Stage), st.integers(400, 599))
def test_reasons_are_short_and_printable_whatever_a_server_says(text: str, stage: Stage, code: int) -> None:
    verdict = verdict_on(stage, Reply(code, text))
    for shown in (verdict.text, verdict.reason):
        assert len(shown) <= 200
        assert shown.isprintable()


def test_a_long_story_is_cut_and_shows_that_it_is() -> None:
    verdict = verdict_on(Stage.DATA, Reply(554, "5.6.0 " + "word " * 100))
    assert verdict.text == ("word " * 40)[:199] + "…"
    assert verdict.reason == f"DATA: 554 5.6.0 {'word ' * 40}"[:199] + "…"


@given(st.emails(), st.sampled_from(["<{}>: no", "no {} here", "{}", "to=<{}>, x"]))
def test_no_address_is_left_in_a_reason(address: str, frame: str) -> None:
    assert "@" not in clean(frame.format(address))


def test_we_left_ourselves_is_no_try_before_the_message_and_unknown_after() -> None:
    assert verdict_on(Stage.RCPT, Loss.LEFT).verdict is Verdict.NOT_SENT
    assert verdict_on(Stage.MESSAGE, Loss.LEFT).verdict is UNKNOWN


def test_only_what_reached_the_mail_itself_is_a_try() -> None:
    assert {verdict for verdict in Verdict if verdict.is_try} == {
        Verdict.ACCEPTED,
        RETRY,
        FAILED,
        UNKNOWN,
    }


@pytest.mark.parametrize("stage", list(Stage))
def test_a_421_ends_the_session_and_a_plain_refusal_does_not(stage: Stage) -> None:
    assert ends_session(stage, Reply(421, "bye"))
    assert ends_session(stage, Loss.DROPPED)
    assert not ends_session(stage, Reply(550, "no"))
    assert not ends_session(stage, Reply(451, "later"))


# --- when a mail that was not taken comes back


@pytest.mark.parametrize(("attempt", "minutes"), [(1, 1), (2, 5), (3, 15), (4, 60)])
def test_the_first_four_delays_grow_to_an_hour(attempt: int, minutes: int) -> None:
    assert retry_delay(attempt, Random(1)) == timedelta(minutes=minutes)


def test_later_delays_spread_over_four_hours_give_or_take_a_fifth() -> None:
    rng = Random(1)
    delays = [retry_delay(attempt, rng) for attempt in range(5, 2_005)]
    assert timedelta(minutes=192) <= min(delays) < timedelta(minutes=197)
    assert timedelta(minutes=283) < max(delays) <= timedelta(minutes=288)


def test_there_is_no_try_before_the_first() -> None:
    with pytest.raises(ValueError, match="counted from 1"):
        retry_delay(0, Random(1))
