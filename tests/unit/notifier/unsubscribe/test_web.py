"""The unsubscribe pages over HTTP: what a GET shows, what a POST changes, and what is refused."""

import base64
import hashlib

import pytest
from httpx import ASGITransport, AsyncClient
from starlette.applications import Starlette
from tests.support.kinds import KINDS, MAILINGS, OVERDUE, WEEKLY, name
from tests.unit.notifier.mail import reading

from taskbell.errors import DatabaseUnavailable
from taskbell.kinds import Kind
from taskbell_notifier.kinds.table import OWN
from taskbell_notifier.mail.words import Languages
from taskbell_notifier.unsubscribe import web
from taskbell_notifier.unsubscribe.pages import Pages
from taskbell_notifier.unsubscribe.tokens import Unsubscriber
from taskbell_notifier.unsubscribe.web import FAILURES, Failures, UnsubscribePages

unsubscriber = Unsubscriber(KINDS, "a secret key of some length")
PAGES = Pages(Languages(OWN, "Taskbell"), "Tasks & Co")


class Preferences:
    """People's preferences, in memory; can be made to fail."""

    def __init__(self) -> None:
        self.opted_out: list[tuple[int, str]] = []
        self.locales: dict[int, str | None] = {7: "de-AT", 8: None, 9: "ja"}
        self.away = False

    async def opt_out(self, user_id: int, kind: str) -> None:
        if self.away:
            raise DatabaseUnavailable
        self.opted_out.append((user_id, kind))

    async def locale_of(self, user_id: int) -> str | None:
        if self.away:
            raise DatabaseUnavailable
        return self.locales.get(user_id)


@pytest.fixture
def preferences() -> Preferences:
    return Preferences()


@pytest.fixture
async def client(preferences: Preferences):
    pages = UnsubscribePages(unsubscriber, PAGES, preferences.opt_out, preferences.locale_of)
    transport = ASGITransport(app=Starlette(routes=pages.routes()))
    async with AsyncClient(transport=transport, base_url="https://taskbell.example.com") as client:
        yield client


def path(user_id: int = 8, kind: Kind = OVERDUE) -> str:
    return f"/u/{unsubscriber.token(user_id, kind)}"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_looking_changes_nothing(client: AsyncClient, preferences: Preferences, method: str):
    response = await client.request(method, path())
    assert response.status_code == 200
    assert preferences.opted_out == []


@pytest.mark.parametrize("kind", MAILINGS, ids=name)
async def test_the_page_has_one_button_that_posts_to_itself(client: AsyncClient, kind: Kind):
    root = reading.read((await client.get(path(8, kind))).text)
    (form,) = root.all("form")
    assert form.attributes == {"method": "post"}
    (button,) = root.all("button")
    assert button.text() == "Unsubscribe"
    (heading,) = root.all("h1")
    assert heading.text().startswith("Unsubscribe from ")
    assert not {element.tag for element in root.all()} & {"a", "script", "img", "link", "input"}
    assert root.all("html")[0].attributes["lang"] == "en"
    assert root.all("main")


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"List-Unsubscribe=One-Click", "application/x-www-form-urlencoded"),
        (
            b'--x\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
        ),
        (b"", "application/x-www-form-urlencoded"),
        (b"\xff\x00 anything", "application/octet-stream"),
    ],
)
async def test_one_click_and_the_button_unsubscribe_alike(
    client: AsyncClient, preferences: Preferences, content: bytes, content_type: str
):
    response = await client.post(path(8, WEEKLY), content=content, headers={"Content-Type": content_type})
    assert response.status_code == 200
    assert preferences.opted_out == [(8, "weekly")]
    assert "sends you no more weekly summaries" in response.text
    assert "location" not in response.headers
    assert "set-cookie" not in response.headers


async def test_posting_again_is_answered_alike(client: AsyncClient, preferences: Preferences):
    answers = [await client.post(path()) for _ in range(3)]
    assert {(answer.status_code, answer.text) for answer in answers} == {(200, answers[0].text)}
    assert set(preferences.opted_out) == {(8, "overdue")}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("token", ["x", "A" * 26, "%00", "..%2f..", "é", unsubscriber.token(8, OVERDUE)[:-1]])
async def test_a_link_that_is_none_of_ours_is_not_found(
    client: AsyncClient, preferences: Preferences, method: str, token: str
):
    response = await client.request(method, f"/u/{token}")
    assert response.status_code == 404
    assert preferences.opted_out == []


async def test_who_tries_many_tokens_is_slowed_down_but_a_valid_one_is_never_refused(
    client: AsyncClient, preferences: Preferences
):
    statuses = [(await client.get(f"/u/{'A' * 25}{number}")).status_code for number in range(FAILURES + 2)]
    assert statuses == [404] * FAILURES + [429] * 2
    refused = await client.post("/u/broken")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    assert (await client.get(path())).status_code == 200
    assert (await client.post(path())).status_code == 200
    assert preferences.opted_out == [(8, "overdue")]


async def test_failures_are_counted_by_network_for_a_while_and_for_so_many_networks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(web, "FAILURES", 2)
    monkeypatch.setattr(web, "PEERS", 3)
    failures = Failures()
    assert [failures.too_many("2001:db8::1"), failures.too_many("2001:db8::2")] == [False, False]
    assert failures.too_many("2001:db8::ffff:3")
    assert not failures.too_many("2001:db8:0:1::1")
    assert not failures.too_many("192.0.2.1")
    assert failures.too_many("2001:db8::1")
    assert not failures.too_many("192.0.2.2")  # the fourth network: the one that was quiet for longest is forgotten
    assert [failures.too_many("2001:db8:0:1::1") for _ in range(3)] == [False, False, True]
    monkeypatch.setattr(web, "WINDOW", 0.0)
    assert not failures.too_many("2001:db8:0:1::1")


async def test_a_slash_at_the_end_is_no_redirect(client: AsyncClient, preferences: Preferences):
    response = await client.post(path() + "/", headers={"Host": "evil.example.org"})
    assert response.status_code == 200
    assert preferences.opted_out == [(8, "overdue")]


async def test_a_broken_link_says_what_to_do(client: AsyncClient):
    response = await client.get("/u/broken")
    assert "This link does not work" in response.text
    assert not reading.read(response.text).all("form")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
async def test_other_methods_are_not_allowed(client: AsyncClient, preferences: Preferences, method: str):
    assert (await client.request(method, path())).status_code == 405
    assert preferences.opted_out == []


@pytest.mark.parametrize(
    ("user_id", "accepts", "lang"),
    [
        (7, "fr", "de-AT"),  # the recipient's own language comes first
        (8, "fr-CH, en;q=0.8", "fr-CH"),
        (8, "ja, es;q=0.5", "es"),
        (8, "", "en"),
        (8, "*;q=0.1, \x7f, ,", "en"),
        (9, "fr", "en"),  # a language that we have no words for: English falls in
        (99, "de", "de"),
    ],
)
async def test_pages_speak_the_recipients_language(client: AsyncClient, user_id: int, accepts: str, lang: str):
    response = await client.get(path(user_id), headers={"Accept-Language": accepts})
    assert response.headers["content-language"] == lang
    assert f'<html lang="{lang}" dir="ltr">' in response.text


async def test_while_the_database_is_away_looking_works_and_posting_asks_to_come_back(
    client: AsyncClient, preferences: Preferences
):
    preferences.away = True
    assert (await client.get(path(7))).status_code == 200
    response = await client.post(path(7), headers={"Accept-Language": "de"})
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert "Es wurde noch nichts geändert" in response.text


@pytest.mark.parametrize(("method", "token"), [("GET", "x"), ("GET", path()[3:]), ("POST", path()[3:])])
async def test_every_answer_tells_browsers_to_be_careful(client: AsyncClient, method: str, token: str):
    response = await client.request(method, f"/u/{token}")
    headers = response.headers
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "noindex" in headers["x-robots-tag"]
    policy = headers["content-security-policy"]
    for part in ("default-src 'none'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"):
        assert part in policy
    assert "unsafe" not in policy


async def test_the_policy_allows_the_pages_own_style_and_the_name_is_escaped(client: AsyncClient):
    response = await client.get(path())
    root = reading.read(response.text)
    (style,) = root.all("style")
    digest = base64.b64encode(hashlib.sha256(style.text().encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in response.headers["content-security-policy"]
    assert "Tasks &amp; Co" in response.text
    assert not [element for element in root.all() if "style" in element.attributes]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_pages_have_contrast_and_a_button_large_enough(client: AsyncClient, scheme: str):
    root = reading.read((await client.get(path())).text)
    css = root.all("style")[0].text()
    plain = css.partition("@media")[0]
    rules = reading.rules(plain)
    if scheme == "dark":
        rules += reading.rules(reading.media_block(css, "prefers-color-scheme: dark"))
    texts = reading.visible_texts(root.all("body")[0], rules)
    assert len(texts) == 5
    assert min(reading.contrast(colours) for _, colours in texts) >= 4.5
    (button,) = [block for selector, block in reading.rules(plain) if selector == "button"]
    assert int(button["min-height"].removesuffix("px")) >= 44
