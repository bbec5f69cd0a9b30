"""Tables: whole on any terminal, so that ids can be copied. JSON: whole, and harmless on a terminal."""

import json

import pytest

from taskbell.cli.console import print_json, print_table

COLUMNS = ("message_id", "state", "reason")
ROWS = [("7d91ecc7-7734-50f1-9f2b-3d0e5b8a4c11", "sent", None), ("m2", "failed", "x" * 60)]


@pytest.fixture(autouse=True)
def _a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes any output for a terminal
    monkeypatch.setenv("TERM", "xterm")


def test_a_table_that_fits_has_a_line_a_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    print_table(COLUMNS, ROWS)
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert [ROWS[0][0], "sent"] in lines
    assert ["m2", "failed", "x" * 60] in lines


def test_one_that_does_not_fit_becomes_paragraphs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_table(COLUMNS, ROWS)
    assert capsys.readouterr().out == (
        "\n"
        "message_id  7d91ecc7-7734-50f1-9f2b-3d0e5b8a4c11\n"
        "     state  sent\n"
        "\n"
        "message_id  m2\n"
        "     state  failed\n"
        f"    reason  {'x' * 60}\n"
    )


def test_json_keeps_every_character_and_shows_none_that_controls_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    given = {"id\x9b": 'a\x1b[2J \u202eevil\u2066 \x7f \u2028 \U000e0001 \ud800 Žluťoučký 🐎 "\\\n'}
    print_json([given])
    written = capsys.readouterr().out
    assert all(char.isprintable() or char == "\n" for char in written)
    assert "Žluťoučký 🐎" in written
    assert json.loads(written) == [given]
