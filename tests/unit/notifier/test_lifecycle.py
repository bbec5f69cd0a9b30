"""What becomes of a row after a submission, and what a sweeper does about one that waits."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

import pytest

from taskbell_notifier.lifecycle import (
    CHECK_AGAIN,
    CUT_OFFS,
    HOLD,
    IN_QUEUE,
    LOST_AFTER,
    OUTCOME_UNKNOWN,
    PAUSED_AT_MOST,
    Change,
    Claimed,
    DeliveryState,
    Enqueue,
    OpenRow,
    Phase,
    Postpone,
    Stretch,
    SweeperView,
    after_submission,
    answered_between,
    judge,
)
from taskbell_notifier.smtp.replies import Stage, Submission, Verdict

T = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
NOW = T + timedelta(hours=1)
CLAIM = UUID(int=1)
MINUTE = timedelta(minutes=1)

ROW = Claimed(
    id=7,
    mailing_id=3,
    kind="overdue",
    user_id=5,
    address=None,
    at=T,
    props={},
    claim=CLAIM,
    before=DeliveryState.PLANNED,
    attempts=1,
    was_unknown=False,
    message_id="<overdue.7@example.org>",
)
RESENT = replace(ROW, before=DeliveryState.UNKNOWN, attempts=2, was_unknown=True)

OPEN = OpenRow(
    id=7,
    mailing_id=3,
    at=T,
    cancelled=False,
    state=DeliveryState.PLANNED,
    phase=None,
    claim=None,
    lease_until=None,
    resends=0,
    cut_offs=0,
    was_unknown=False,
    next_attempt_at=None,
    queued_at=NOW - 5 * MINUTE,
    expires_at=T + timedelta(hours=12),
    reason=None,
)
CUT_OFF = replace(OPEN, state=DeliveryState.SENDING, phase=Phase.ENVELOPE, claim=CLAIM, lease_until=NOW - MINUTE)
IN_DOUBT = replace(CUT_OFF, phase=Phase.DATA)
UNKNOWN = replace(
    OPEN, state=DeliveryState.UNKNOWN, was_unknown=True, next_attempt_at=NOW - MINUTE, queued_at=NOW - 10 * MINUTE
)

LEASE = 2 * MINUTE
VIEW = SweeperView(now=NOW, lease=LEASE, answering=[Stretch(T, NOW)], may_queue=True, idle=True, hold=False)


def submitted(verdict: Verdict, stage: Stage | None = Stage.RCPT, row: Claimed = ROW) -> Change:
    return after_submission(row, Submission(verdict, stage, text="said so"), "a@example.org", Random(1))


def test_a_mail_that_was_taken_is_sent() -> None:
    change = submitted(Verdict.ACCEPTED, Stage.MESSAGE)
    assert (change.state, change.untried, change.address) == (DeliveryState.SENT, False, "a@example.org")


@pytest.mark.parametrize(("attempts", "minutes"), [(1, 1), (2, 5), (3, 15), (4, 60)])
def test_a_mail_not_taken_now_is_tried_again_later_and_later(attempts: int, minutes: int) -> None:
    change = submitted(Verdict.RETRY, row=replace(ROW, attempts=attempts))
    assert (change.state, change.wait) == (DeliveryState.RETRY, minutes * MINUTE)


def test_a_mail_refused_for_good_failed() -> None:
    assert submitted(Verdict.FAILED).state is DeliveryState.FAILED


def test_an_address_that_never_takes_mail_is_to_be_suppressed() -> None:
    refusal = Submission(Verdict.FAILED, Stage.RCPT, 550, "5.1.1", "no such user", suppress=True)
    change = after_submission(ROW, refusal, "a@example.org", Random(1))
    assert (change.state, change.suppress, change.reason) == (
        DeliveryState.FAILED,
        True,
        "RCPT: 550 5.1.1 no such user",
    )


@pytest.mark.parametrize("before", [DeliveryState.PLANNED, DeliveryState.RETRY, DeliveryState.UNKNOWN])
@pytest.mark.parametrize(
    "verdict", [Verdict.SERVER_FAULT, Verdict.CONFIGURATION_FAULT, Verdict.PAUSED, Verdict.NOT_SENT]
)
def test_what_was_not_tried_is_as_it_was(verdict: Verdict, before: DeliveryState) -> None:
    change = submitted(verdict, None, replace(ROW, before=before))
    assert (change.state, change.untried) == (before, True)


def test_no_answer_to_the_message_makes_the_outcome_unknown_once() -> None:
    assert submitted(Verdict.UNKNOWN, Stage.MESSAGE).state is DeliveryState.UNKNOWN
    again = submitted(Verdict.UNKNOWN, Stage.MESSAGE, RESENT)
    assert again.state is DeliveryState.FAILED
    assert again.reason.startswith(OUTCOME_UNKNOWN)


def test_a_resend_ends_sent_or_failed_whatever_the_server_says_to_the_message() -> None:
    assert submitted(Verdict.ACCEPTED, Stage.MESSAGE, RESENT).state is DeliveryState.SENT
    assert submitted(Verdict.RETRY, Stage.MESSAGE, RESENT).state is DeliveryState.FAILED
    assert submitted(Verdict.FAILED, Stage.MESSAGE, RESENT).reason == "outcome unknown; resend: message: said so"


def test_a_resend_broken_off_between_its_marker_and_its_first_byte_is_not_counted() -> None:
    change = submitted(Verdict.RETRY, Stage.DATA, RESENT)
    assert (change.state, change.untried, change.wait) == (DeliveryState.UNKNOWN, True, 5 * MINUTE)
    assert not submitted(Verdict.RETRY, Stage.DATA).untried


def test_a_resend_that_did_not_get_to_the_message_is_still_to_come() -> None:
    change = submitted(Verdict.RETRY, Stage.RCPT, RESENT)
    assert (change.state, change.untried) == (DeliveryState.UNKNOWN, False)


def test_a_row_whose_process_lives_is_left_alone_until_its_lease_is_over() -> None:
    row = replace(CUT_OFF, lease_until=NOW + MINUTE)
    assert judge(row, VIEW) == Postpone(7, MINUTE)


@pytest.mark.parametrize(
    ("answering", "wait"),
    [
        ([], CHECK_AGAIN),
        ([Stretch(NOW, NOW)], CHECK_AGAIN),
        # The lease ran out a minute ago, so a stretch counts from three minutes ago.
        ([Stretch(T, NOW - 3 * MINUTE)], CHECK_AGAIN),
        ([Stretch(T, NOW - 3 * MINUTE), Stretch(NOW - MINUTE, NOW)], CHECK_AGAIN),
        ([Stretch(NOW - 2 * MINUTE + timedelta(seconds=4), NOW)], timedelta(seconds=4)),
        # Two notifiers that saw the same minute saw one minute.
        ([Stretch(NOW - MINUTE, NOW), Stretch(NOW - MINUTE, NOW)], CHECK_AGAIN),
    ],
)
def test_nothing_in_doubt_is_judged_before_postgresql_was_seen_to_answer_for_a_lease(
    answering: list[Stretch], wait: timedelta
) -> None:
    assert judge(IN_DOUBT, replace(VIEW, answering=answering)) == Postpone(7, wait)


@pytest.mark.parametrize(
    "answering",
    [
        [Stretch(NOW - 2 * MINUTE, NOW)],
        [Stretch(T, NOW - 2 * MINUTE), Stretch(NOW - MINUTE, NOW)],
        # A crash loop: each process lives for twelve seconds of each eighteen.
        [Stretch(NOW - timedelta(seconds=18 * n + 12), NOW - timedelta(seconds=18 * n)) for n in range(10)],
    ],
)
def test_it_is_judged_once_postgresql_was_seen_to_answer_for_a_lease_in_all(answering: list[Stretch]) -> None:
    found = judge(IN_DOUBT, replace(VIEW, answering=answering))
    assert isinstance(found, Change)
    assert found.state is DeliveryState.UNKNOWN


def test_a_row_cut_off_before_the_data_waits_for_nothing() -> None:
    found = judge(CUT_OFF, replace(VIEW, answering=[]))
    assert isinstance(found, Change)
    assert (found.state, found.claim) == (DeliveryState.RETRY, CLAIM)


def test_stretches_that_overlap_count_once_and_only_within_the_time_asked_for() -> None:
    seen = [Stretch(T, T + 3 * MINUTE), Stretch(T + MINUTE, T + 5 * MINUTE), Stretch(T + 2 * MINUTE, T + 4 * MINUTE)]
    assert answered_between(seen, T, T + 10 * MINUTE) == 5 * MINUTE
    assert answered_between(seen, T + 2 * MINUTE, T + 4 * MINUTE) == 2 * MINUTE
    assert answered_between(list(reversed(seen)), T - MINUTE, T + MINUTE) == MINUTE
    assert answered_between([], T, NOW) == timedelta(0)


def test_a_row_cut_off_before_the_data_is_tried_again_at_once() -> None:
    change = judge(CUT_OFF, VIEW)
    assert isinstance(change, Change)
    assert (change.state, change.wait, change.cut_off, change.untried) == (
        DeliveryState.RETRY,
        timedelta(0),
        True,
        False,
    )


def test_a_resend_cut_off_before_the_data_is_still_to_come() -> None:
    change = judge(replace(CUT_OFF, was_unknown=True), VIEW)
    assert isinstance(change, Change)
    assert change.state is DeliveryState.UNKNOWN


def test_a_row_that_is_cut_off_again_and_again_is_queued_alone_and_given_up_in_the_end() -> None:
    queue = judge(replace(OPEN, state=DeliveryState.RETRY, cut_offs=2), VIEW)
    assert queue == Enqueue(7, 3, alone=True)
    change = judge(replace(CUT_OFF, cut_offs=CUT_OFFS - 1), VIEW)
    assert isinstance(change, Change)
    assert (change.state, change.reason) == (DeliveryState.FAILED, "cut off before the data, 20 times")


def test_a_row_cut_off_after_the_data_had_begun_is_unknown_and_after_its_resend_failed() -> None:
    first = judge(IN_DOUBT, VIEW)
    assert isinstance(first, Change)
    assert (first.state, first.claim) == (DeliveryState.UNKNOWN, CLAIM)
    second = judge(replace(IN_DOUBT, was_unknown=True, resends=1), VIEW)
    assert isinstance(second, Change)
    assert second.state is DeliveryState.FAILED


def test_a_row_of_unknown_outcome_is_queued_for_its_resend() -> None:
    assert judge(UNKNOWN, VIEW) == Enqueue(7, 3)


def test_held_it_waits_for_48_hours_after_its_time_and_then_failed() -> None:
    held = replace(VIEW, hold=True)
    assert judge(UNKNOWN, held) == Postpone(7, T + HOLD - NOW)
    over = judge(UNKNOWN, replace(held, now=T + HOLD))
    assert isinstance(over, Change)
    assert (over.state, over.reason) == (DeliveryState.FAILED, "outcome unknown")


@pytest.mark.parametrize("state", [DeliveryState.PLANNED, DeliveryState.RETRY])
def test_a_row_that_waited_too_long_expires_and_says_what_it_waited_for(state: DeliveryState) -> None:
    late = replace(VIEW, now=OPEN.expires_at)
    assert judge(replace(OPEN, state=state), late) == Change(7, None, DeliveryState.EXPIRED, "not sent in time")
    change = judge(replace(OPEN, state=state, reason="RCPT: 450 later"), late)
    assert isinstance(change, Change)
    assert change.reason == "not sent in time; RCPT: 450 later"


def test_a_row_of_unknown_outcome_that_waited_too_long_is_not_called_expired() -> None:
    change = judge(UNKNOWN, replace(VIEW, now=UNKNOWN.expires_at))
    assert isinstance(change, Change)
    assert (change.state, change.reason) == (DeliveryState.FAILED, "outcome unknown")


@pytest.mark.parametrize("state", [DeliveryState.PLANNED, DeliveryState.RETRY])
def test_a_cancelled_mailings_waiting_rows_are_skipped(state: DeliveryState) -> None:
    change = judge(replace(OPEN, state=state, cancelled=True), VIEW)
    assert isinstance(change, Change)
    assert (change.state, change.reason) == (DeliveryState.SKIPPED, "mailing cancelled")


def test_a_cancelled_mailings_rows_whose_message_has_begun_are_left_to_end() -> None:
    row = replace(IN_DOUBT, cancelled=True, lease_until=NOW + MINUTE)
    assert isinstance(judge(row, VIEW), Postpone)


@pytest.mark.parametrize("was_unknown", [False, True])
def test_a_cancelled_mailings_claims_end_before_the_message_begins(was_unknown: bool) -> None:
    row = replace(CUT_OFF, cancelled=True, lease_until=NOW + MINUTE, was_unknown=was_unknown)
    found = judge(row, VIEW)
    assert isinstance(found, Change)
    assert (found.claim, found.untried) == (CLAIM, True)
    skipped, unknown = (DeliveryState.SKIPPED, "mailing cancelled"), (DeliveryState.FAILED, OUTCOME_UNKNOWN)
    assert (found.state, found.reason) == (unknown if was_unknown else skipped)


def test_a_retry_is_queued_when_its_time_has_come_and_not_before() -> None:
    row = replace(OPEN, state=DeliveryState.RETRY, next_attempt_at=NOW + MINUTE)
    assert judge(row, VIEW) == Postpone(7, MINUTE)
    assert judge(replace(row, next_attempt_at=NOW), VIEW) == Enqueue(7, 3)


def test_a_retry_due_is_queued_however_busy_the_queue_is() -> None:
    row = replace(OPEN, state=DeliveryState.RETRY, next_attempt_at=NOW)
    assert isinstance(judge(row, replace(VIEW, idle=False)), Enqueue)


def test_while_sending_is_paused_nothing_is_queued_and_rows_are_looked_at_less_and_less_often() -> None:
    paused = replace(VIEW, may_queue=False)
    assert judge(replace(OPEN, queued_at=NOW), paused) == Postpone(7, CHECK_AGAIN)
    assert judge(replace(OPEN, queued_at=NOW - 6 * MINUTE), paused) == Postpone(7, 6 * MINUTE)
    assert judge(replace(OPEN, queued_at=NOW - 120 * MINUTE), paused) == Postpone(7, LOST_AFTER)


def test_what_falls_due_while_sending_is_paused_is_queued_minutes_after_it_at_most() -> None:
    paused = replace(VIEW, may_queue=False)
    row = replace(OPEN, state=DeliveryState.RETRY, queued_at=NOW - 120 * MINUTE)
    assert judge(replace(row, next_attempt_at=NOW), paused) == Postpone(7, CHECK_AGAIN)
    assert judge(replace(row, next_attempt_at=NOW - 2 * MINUTE), paused) == Postpone(7, 2 * MINUTE)
    assert judge(replace(row, next_attempt_at=NOW - 60 * MINUTE), paused) == Postpone(7, PAUSED_AT_MOST)


def test_a_message_is_written_again_when_the_queue_is_empty_and_it_has_not_come() -> None:
    assert judge(replace(OPEN, queued_at=NOW - IN_QUEUE), VIEW) == Enqueue(7, 3)


def test_in_a_long_queue_a_row_is_looked_at_less_and_less_often() -> None:
    busy = replace(VIEW, idle=False)
    assert judge(replace(OPEN, queued_at=NOW - 3 * MINUTE), busy) == Postpone(7, 3 * MINUTE)
    assert judge(replace(OPEN, queued_at=NOW - 6 * MINUTE), busy) == Postpone(7, 6 * MINUTE)
    assert judge(replace(OPEN, queued_at=NOW - LOST_AFTER), busy) == Enqueue(7, 3)
