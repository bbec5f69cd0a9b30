"""Reading what anybody may have sent, and sending it on."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import decode, encode

from taskbell.messaging.wire.properties import (
    ATTEMPT,
    CARRIED,
    LEFT_OUT,
    UNREADABLE,
    attempt_of,
    carried,
    own_headers,
    text_of,
)


def sent(headers: dict[str, Any]) -> dict[str, Any]:
    """These headers as they arrive, once they were carried on."""
    _, arrived = decode.field_table(encode.field_table(carried(headers)))
    return arrived


def test_what_brokers_wrote_and_route_by_is_left_out() -> None:
    headers = {
        "x-death": [{"count": 1}],
        "x-first-death-reason": "expired",
        "x-last-death-queue": "q",
        "x-delivery-count": 3,
        "x-acquired-count": 1,
        "x-opt-delivery-time": 5,
        "CC": ["maintenance.cleanup_completed_tasks"],
        "BCC": ["notifier.send_batch"],
        "traceparent": "00-ab-cd-01",
        "x-mine": 1,
    }
    assert own_headers(headers) == {"traceparent": "00-ab-cd-01", "x-mine": 1}


def test_usual_headers_are_carried_as_they_are() -> None:
    headers = {
        "text": "größe",
        "number": -7,
        "large": 2**63 - 1,
        "yes": True,
        "nothing": None,
        "half": 0.5,
        "time": datetime(2026, 11, 20, 7, tzinfo=UTC),
        "table": {"list": [1, "two", {"three": 3}]},
    }
    assert sent(headers) == headers


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        (b"\xff\xfe", bytearray(b"\xff\xfe")),
        (1e300, "1e+300"),
        (0.1, "0.1"),
        (float("inf"), float("inf")),
        (Decimal("3.14"), "3.14"),
        (Decimal(10) ** -255, str(Decimal(10) ** -255)),
        ({"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {"i": 1}}}}}}}}}, None),
    ],
)
def test_odd_values_arrive_as_text_rather_than_not_at_all(value: object, arrives: object) -> None:
    found = sent({"x": value})
    assert set(found) == {"x"}
    if arrives is not None:
        assert found["x"] == arrives


def test_too_deep_a_table_is_cut_off_where_it_gets_too_deep() -> None:
    value: Any = "bottom"
    for _ in range(9):
        value = [value]
    expected: Any = "(list)"
    for _ in range(8):
        expected = [expected]
    assert sent({"x": value}) == {"x": expected}


def test_what_is_too_large_is_only_named_and_its_neighbours_stay() -> None:
    found = sent({"small": 1, "large": "x" * CARRIED, "other": "y" * 1000})
    assert found == {"small": 1, "other": "y" * 1000, LEFT_OUT: "large"}


def test_thousands_of_headers_stay_within_the_limit() -> None:
    found = carried({f"header-{number}": "x" * 100 for number in range(5000)})
    assert len(encode.field_table(found)) <= CARRIED + 1024


def test_why_it_was_unreadable_is_told_by_the_reason_alone() -> None:
    assert carried({UNREADABLE: "why"}) == {}


scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.binary(max_size=50)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=50) | st.decimals(allow_nan=True)
)  # fmt: skip
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner))


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), values, max_size=5))
def test_whatever_arrived_can_be_sent_again(headers: dict[str, Any]) -> None:
    encode.field_table(carried(headers))


@pytest.mark.parametrize(
    ("value", "attempt"),
    [(0, 0), (2, 2), (1000, 1000), (1001, 0), (-1, 0), (True, 0), ("2", 0), (2.0, 0), (None, 0), ([1], 0)],
)
def test_an_attempt_is_a_small_number_or_none(value: object, attempt: int) -> None:
    assert attempt_of({ATTEMPT: value}) == attempt
    assert attempt_of({}) == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("abc", "abc"),
        ("", None),
        (None, None),
        ("a\x00b", "ab"),
        ("\x00", None),
        ("x" * 300, "x" * 255),
        ("ü" * 200, "ü" * 127),  # 254 bytes: half a character is none
        (b"\xffabc", "\ufffdabc"),
        (bytearray(b"abc"), "abc"),
        (7, "7"),
        ([1, 2], None),
        ({"a": 1}, None),
        ("a\udc80b", "a?b"),
    ],
)
def test_a_property_becomes_text_that_postgresql_and_amqp_can_hold(value: object, text: str | None) -> None:
    assert text_of(value) == text
