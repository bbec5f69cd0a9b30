"""The mail addresses that people have: read as they were meant, in one form everywhere.

`read_address` is the only place that decides what an address is. Suppressions, the ledger, `taskbell mail why` and the
mail itself use its forms: `addr_spec` is what is written into To and RCPT, `key` is what addresses are compared by.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import idna

LOCAL_LIMIT = 64
"""Characters before the @ (RFC 5321 §4.5.3.1.1), without the quotes that they may need."""
ADDRESS_LIMIT = 254
"""Characters of an address; RFC 5321 §4.5.3.1.3 allows 256 with the angle brackets."""

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_DOT_ATOM = re.compile(rf"{_ATEXT}+(?:\.{_ATEXT}+)*\Z")
# Dots may stand anywhere: Japanese providers gave out addresses with two dots in a row, or with one before the @.
_WITH_DOTS = re.compile(rf"(?:{_ATEXT}|\.)+\Z")
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\[ -~])+)"\Z')
# `_` is in no host name, but in domains that take mail.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}\Z")
_USUAL = re.compile(rf" *({_ATEXT}+(?:\.{_ATEXT}+)*)@((?:{_LABEL}\.)*{_LABEL}) *\Z")
"""The form of nearly every address: nothing about it needs a second look."""

_AT_SIGNS = "\uff20\ufe6b"
_FULL_WIDTH = {ord(sign): "@" for sign in _AT_SIGNS} | {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
"""Forms that an input method for Chinese, Japanese or Korean writes in place of ASCII."""
_BLANKS = " \t\u00a0\u3000"
_ZERO_WIDTH = "\u00ad\u200b\u200c\u200d\u2060\ufeff"
_BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_AROUND = f"{_BLANKS}\r\n\v\f{_ZERO_WIDTH}{_BIDI}"
"""What is pasted along with an address, unseen."""
_WITHOUT_ZERO_WIDTH = dict.fromkeys(map(ord, _ZERO_WIDTH))

MARKS = "".join(map(chr, _FULL_WIDTH)) + _AROUND + '"\\'
"""For SQL's translate(): characters that one form of an address has and another lacks. MEANT has what some become."""
MEANT = "".join(_FULL_WIDTH.values())


@dataclass(frozen=True, slots=True)
class MailAddress:
    """An address that mail can be sent to. Quotes that are not needed are gone; a domain of another script is ASCII."""

    local: str
    """Before the @, without quotes."""
    domain: str

    @property
    def addr_spec(self) -> str:
        """As it stands in To and RCPT, in quotes if it needs them (RFC 5321 §4.1.2)."""
        return f"{quoted_if_needed(self.local)}@{self.domain}"

    @property
    def key(self) -> str:
        """What addresses are compared by: two with one key are one. SQL's lower() of `addr_spec` is the same."""
        return self.addr_spec.lower()


def read_address(text: str | None) -> MailAddress | None:
    """The address that a text from a form, a table or a setting means; None: it is not one address.

    Blanks, zero-width characters and direction marks around it do not count, nor do blanks around the @, a dot at the
    end of the domain, and the difference between full-width characters and ASCII. A domain in another script becomes
    its IDNA 2008 form. The part before the @ must be ASCII, with dots anywhere, or in quotes; the domain must be a
    name, in which `_` may stand.
    """
    text = text or ""
    usual = _USUAL.match(text)
    if usual is not None:
        local, domain = usual[1], usual[2]
    else:
        before, _, after = text.translate(_FULL_WIDTH).strip(_AROUND).rpartition("@")
        local = _read_local(before.rstrip(_BLANKS)) or ""
        domain = ascii_domain(after.lstrip(_BLANKS)) or ""
    if not local or len(local) > LOCAL_LIMIT or not _DOMAIN.match(domain):
        return None
    address = MailAddress(local, domain)
    return address if len(address.addr_spec) <= ADDRESS_LIMIT else None


def _read_local(text: str) -> str | None:
    if _DOT_ATOM.match(text):
        return text
    text = text.translate(_WITHOUT_ZERO_WIDTH)
    if _WITH_DOTS.match(text):
        return text
    found = _QUOTED.match(text)
    return None if found is None else re.sub(r"\\(.)", r"\1", found[1])


def quoted_if_needed(local: str) -> str:
    """The part before the @ as it is written: in quotes unless it is a dot-atom (RFC 5322 §3.4.1)."""
    if _DOT_ATOM.match(local):
        return local
    escaped = re.sub(r'(["\\])', r"\\\1", local)
    return f'"{escaped}"'


def ascii_domain(domain: str) -> str | None:
    """The domain without a dot at its end, in its IDNA 2008 form if it is not ASCII; None: it has no such form."""
    if domain.isascii():
        return domain.removesuffix(".")
    try:
        # Label by label: a domain may have labels with `_` beside one in another script.
        labels = idna.uts46_remap(domain, std3_rules=False).removesuffix(".").split(".")
        return ".".join(label if label.isascii() else idna.alabel(label).decode("ascii") for label in labels)
    except UnicodeError:
        # idna.IDNAError is one.
        return None


def normal_form(text: str) -> str:
    """The key of the address that the text means; if it means none, the text in lower case."""
    address = read_address(text)
    return text.strip(_AROUND).lower() if address is None else address.key


def other_spellings(text: str | None) -> Sequence[str]:
    """The further forms under which an address may be stored, in lower case; none for nearly every address.

    Former versions stored addresses as the web app's tables had them. Left out is the text itself in lower case and
    without blanks around it, which SQL can make; among the others is the key.
    """
    text = text or ""
    if _USUAL.match(text) and "xn--" not in text.lower():
        return ()
    address = read_address(text)
    if address is None:
        return ()
    forms = {address.key, f"{address.local}@{address.domain}".lower()}
    if "xn--" in address.key:
        forms |= {form for it in forms if (form := _in_script(it)) is not None}
    return sorted(forms - {text.strip(" ").lower()})


def stored_forms(text: str) -> Sequence[str]:
    """Every form, in lower case, under which the ledger or a suppression may have the address that the text means."""
    return sorted({normal_form(text), text.strip(" ").lower(), *other_spellings(text)})


def _in_script(address: str) -> str | None:
    local, _, domain = address.rpartition("@")
    try:
        return f"{local}@{idna.decode(domain)}"
    except UnicodeError:
        return None


def split_addresses(text: str) -> list[str]:
    """The addresses of a list separated by commas, without blanks around them; a comma in quotes separates nothing."""
    pieces = re.findall(r'(?:"(?:[^"\\]|\\.)*"|[^,"]|")+', text)
    return [piece for it in pieces if (piece := it.strip())]
