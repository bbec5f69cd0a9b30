"""Time zones as everybody here understands them."""

import zoneinfo
from datetime import UTC, datetime, timedelta
from importlib.resources import files

import pytest

from taskbell.zones import resolve_zone, zone_named

PINNED = files("tzdata").joinpath("zones").read_text().split()


def test_every_zone_of_the_pinned_data_is_known_but_the_one_that_is_none() -> None:
    assert [name for name in PINNED if resolve_zone(name) is None] == ["Factory"]
    assert len(PINNED) > 500


def test_the_pinned_rules_are_read_and_not_the_machines() -> None:
    """Compared with the pinned file itself, at every change of the clock from 2020 to 2037 and the second before."""
    differing = []
    for name in PINNED:
        if name == "Factory":
            continue
        with files("tzdata.zoneinfo").joinpath(*name.split("/")).open("rb") as rules:
            expected = zoneinfo.ZoneInfo.from_file(rules)
        found = resolve_zone(name)
        assert found is not None
        at = datetime(2020, 1, 1, tzinfo=UTC)
        while at.year < 2038:
            if at.astimezone(found).utcoffset() != at.astimezone(expected).utcoffset():
                differing.append(name)
                break
            at += timedelta(days=5)
    assert differing == []


@pytest.mark.parametrize(
    "name",
    [
        *("", None, "localtime", "Factory", "posixrules", "posix/Europe/Berlin", "right/UTC"),
        *("Foo/Bar", "Europe", "europe/berlin", "EUROPE/BERLIN", " UTC", "UTC ", "../UTC", "/etc/localtime"),
        *("zone.tab", "tzdata.zi", "leapseconds", "__init__.py", "a\x00b", "x" * 5000, "Europe/", "UTC\n", "\udc80"),
    ],
)
def test_what_is_no_zone_is_none(name: str | None) -> None:
    assert resolve_zone(name) is None


def test_the_same_name_is_the_same_object() -> None:
    assert resolve_zone("Europe/Berlin") is resolve_zone("Europe/Berlin")


def test_its_times_are_right_on_both_sides_of_a_change() -> None:
    berlin = resolve_zone("Europe/Berlin")
    # 2026-10-25: at 01:00 UTC clocks go back from 03:00 to 02:00.
    assert datetime(2026, 10, 25, 0, 59, tzinfo=UTC).astimezone(berlin).isoformat() == "2026-10-25T02:59:00+02:00"
    assert datetime(2026, 10, 25, 1, 0, tzinfo=UTC).astimezone(berlin).isoformat() == "2026-10-25T02:00:00+01:00"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("berlin", "'berlin' is not an IANA time zone; did you mean 'Europe/Berlin'?"),
        ("Mars/Base", "'Mars/Base' is not an IANA time zone; give one such as Europe/Berlin or UTC"),
        ("", "'' is not an IANA time zone; give one such as Europe/Berlin or UTC"),
        ("factory", "'factory' is not an IANA time zone; give one such as Europe/Berlin or UTC"),
    ],
)
def test_an_unknown_zone_is_refused_with_what_to_write(name: str, sentence: str) -> None:
    with pytest.raises(ValueError, match="is not an IANA time zone") as refused:
        zone_named(name)
    assert str(refused.value) == sentence


def test_another_word_that_is_allowed_may_be_what_was_meant() -> None:
    with pytest.raises(ValueError, match="did you mean 'recipient'"):
        zone_named("Recipients", or_one_of=["recipient"])
    assert zone_named("Europe/Berlin", or_one_of=["recipient"]).key == "Europe/Berlin"
