"""The addresses that links of a mail lead to; each is absolute."""

import re
from urllib.parse import urlsplit

TASK_URL_PATTERN = "{app_url}/tasks/{id}"

_ORDINARY = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:/[A-Za-z0-9/._~%?=&+-]*)?\Z")
"""The form of nearly every URL; the others are checked part by part."""


class Links:
    """The web app's addresses. With neither `app_url` nor a pattern that does without it, a mail has no links to it.

    Args:
        app_url: http(s) address of the web app.
        task_pattern: address of one task; `{app_url}` and `{id}` are filled in.

    Raises:
        ValueError: an address is not absolute http(s), or the pattern lacks `{id}` or has other braces.
    """

    def __init__(self, app_url: str | None = None, task_pattern: str = TASK_URL_PATTERN) -> None:
        self.app_url = absolute(app_url.rstrip("/"), "APP_URL") if app_url else None
        self._before = self._after = None
        if self.app_url is None and "{app_url}" in task_pattern:
            return
        pattern = task_pattern.replace("{app_url}", self.app_url or "")
        before, mark, after = pattern.partition("{id}")
        if not mark or "{" in before + after or "}" in before + after:
            msg = f"TASK_URL_PATTERN must contain {{id}} once and no other braces: {task_pattern!r}"
            raise ValueError(msg)
        absolute(pattern.replace("{id}", "1"), "TASK_URL_PATTERN")
        self._before, self._after = before, after

    def task(self, task_id: int) -> str | None:
        """The address of that task; None if it is not known."""
        return None if self._before is None else f"{self._before}{task_id}{self._after}"


def absolute(url: str, name: str) -> str:
    """The URL itself.

    Raises:
        ValueError: it is not absolute http(s), or contains blanks, quotes, controls or non-ASCII characters, which
            would have to be escaped in a header or a text part.
    """
    if _ORDINARY.match(url):
        return url
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        msg = f"{name} must look like https://host: {url!r}"
        raise ValueError(msg)
    if not url.isascii() or not url.isprintable() or set(url) & set(" \"'<>\\^`|"):
        msg = f"{name} must be an ASCII URL with everything else percent-encoded: {url!r}"
        raise ValueError(msg)
    return url
