"""Whom refusals blame, in the dialects of servers; and when two refusals say the same."""

import pytest

from taskbell_notifier.smtp.blame import Blame, alike, blamed

DIALECTS: dict[tuple[Blame, bool], list[tuple[int, str | None, str]]] = {
    (Blame.SENDER, False): [
        (553, None, "sender not owned"),
        (553, "5.7.1", "<s@example.org>: Sender address rejected: not owned by user a"),
        (550, "5.1.0", "<a@example.org>: Sender address rejected: User unknown in local recipient table"),
        (554, None, "relay access denied"),
        (554, "5.7.1", "<p@example.net>: Relay access denied"),
        (550, None, "Relaying denied"),
        (550, None, "relay not permitted"),
        (571, None, "Relaying not allowed"),
        (551, None, "we do not relay"),
        (550, "5.7.1", "Unable to relay for bob@example.net"),
        (553, None, "sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)"),
        (554, None, "address is not verified"),
        (554, None, "Message rejected: Email address is not verified."),
        (550, None, "The from address does not match a verified Sender Identity"),
        (553, None, "From address not verified - see https://example.com/sendfrom-07.html"),
        (550, None, "5.7.1 : sender domain not verified"),
        (550, None, "Sender verify failed"),
        (550, None, "Sender is not allowed"),
        (550, None, "You are not allowed to send from this address"),
        (550, "5.7.60", "SMTP; Client does not have permissions to send as this sender"),
        (550, "5.7.1", "Client does not have permissions to send as this sender"),
        (554, "5.2.252", "SendAsDenied; a@example.org not allowed to send as c@example.org"),
        (550, "5.7.57", "Client not authenticated to send mail"),
        (501, "5.1.7", "Invalid address"),
        (553, "5.1.8", "Domain of sender address does not exist"),
        (550, "5.7.0", "Authentication required"),
        (530, "5.7.0", "Must issue a STARTTLS command first"),
        (530, None, "no"),
        (535, "5.7.8", "no"),
        (550, "5.7.9", "no"),
        (550, None, "authentication required"),
        (550, "5.7.23", "no"),
        (550, "5.7.26", "This message does not pass authentication checks"),
        (554, "5.7.1", "Service unavailable; Client host [192.0.2.4] blocked using zen.spamhaus.org"),
        (550, "5.4.5", "Daily user sending limit exceeded"),
        (554, None, "Sandbox subdomains are for test purposes only"),
    ],
    (Blame.RECIPIENT, True): [
        (550, "5.1.1", "no"),
        (550, "5.1.1", "<b@example.net>: Recipient address rejected: User unknown in local recipient table"),
        (550, "5.1.1", "unknown; see your account's page"),
        (550, "5.1.6", "moved"),
        (550, "5.1.10", "RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup"),
        (550, "5.4.1", "Recipient address rejected: Access denied. AS(201806281)"),
        (550, None, "Unrouteable address"),
        (550, None, "#5.1.0 Address rejected."),
        (550, None, "#5.1.0"),
        (550, None, "5.1.1: gone"),
        (511, None, "sorry, no mailbox here by that name (#5.1.1 - chkuser)"),
        (550, "5.1.1", "The email account that you tried to reach does not exist. Please try double-checking it"),
        (554, None, "delivery error: dd This user doesn't have a yahoo.com account (b@yahoo.com) [-5]"),
        (554, None, "delivery error: dd Requested mail action aborted, mailbox not found"),
        (550, None, "no such user"),
        (550, None, "No Such User Here"),
        (550, None, "<bob>: User unknown"),
        (550, None, "unknown user"),
        (550, None, "Invalid recipient"),
        (550, None, "Mailbox does not exist"),
        (550, None, "bob is not a valid mailbox"),
        (550, None, "Recipient not found"),
    ],
    (Blame.RECIPIENT, False): [
        (550, "5.2.1", "The email account that you tried to reach is disabled"),
        (550, "5.2.2", "over quota"),
        (550, "5.1.4", "ambiguous"),
        (550, None, "Requested action not taken: mailbox unavailable"),
        (551, None, "user not local"),
        (556, None, "no"),
    ],
    (Blame.MESSAGE, False): [
        (552, None, "too large"),
        (554, "5.3.4", "too large"),
        (554, "5.6.0", "malformed"),
        (552, "5.7.0", "This message was blocked because its content presents a potential security issue"),
    ],
    (Blame.NOBODY, False): [
        (550, None, "no"),
        (554, None, "Transaction failed"),
        (554, "5.7.1", "Message rejected as spam"),
        (554, "5.7.1", "Recipient address rejected: Access denied"),
        (550, "5.7.1", "rejected by the organisation's policy"),
        (550, None, "unknown, see 5.1.1"),
        (503, "5.5.1", "bad sequence of commands"),
        (500, None, "unrecognised"),
        (550, None, "Administrative prohibition"),
        (554, "5.7.0", "no"),
    ],
}


@pytest.mark.parametrize(
    ("code", "enhanced", "text", "expected"),
    [(*reply, expected) for expected, replies in DIALECTS.items() for reply in replies],
)
def test_a_refusal_blames_whom_it_names(
    code: int, enhanced: str | None, text: str, expected: tuple[Blame, bool]
) -> None:
    assert blamed(code, enhanced, text) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("<ann@a.example>: no such thing", "<bob@b.example>: no such thing"),
        ("ann is refused (4F3A9)", "bob is refused (7BC01)"),
        ("refused at 10:20:30 for a.example", "refused at 11:21:31 for b.example"),
        ("refused, see https://x.example/?id=ann", "refused, see https://x.example/?id=bob"),
        ("blocked [192.0.2.1] d2e1a72-71e5si12.12 - gsmtp", "blocked [192.0.2.9] a5b1a72-81e5si99.7 - gsmtp"),
        ("Refused  by\npolicy", "refused by policy"),
    ],
)
def test_two_people_met_the_same_words_although_names_and_numbers_differ(one: str, other: str) -> None:
    assert alike(550, None, one, "ann@a.example") == alike(550, None, other, "bob@b.example")


def test_other_words_or_another_code_are_not_the_same() -> None:
    assert alike(550, None, "refused by policy", "ann@a.example") != alike(
        550, None, "refused by filter", "bob@a.example"
    )
    assert alike(550, None, "refused", "ann@a.example") != alike(554, None, "refused", "bob@a.example")
    assert alike(550, "5.1.1", "no", "ann@a.example") != alike(550, "5.1.2", "no", "bob@a.example")
