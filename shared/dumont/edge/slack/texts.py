"""Texts as people type them into Slack, and as Slack hands them on: mended before they are read. Pure."""

from __future__ import annotations

import re
import shlex

TEXT_MOST = 4000
"""A command longer than this is cut: Slack sends no more than 4,000 characters of a message, we need a tenth."""

_QUOTES = str.maketrans(
    {"“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "‟": '"', "‘": "'", "’": "'", "‚": "'", "‛": "'",
     "\u00a0": " ", "\u202f": " ", "\u2007": " ", "\u200b": "", "\ufeff": "", "\u2060": "", "\u2026": "..."}
)  # fmt: skip
_LINK = re.compile(r"<(?!@|#|!)([^<>|\s]*)(?:\|([^<>]*))?>")
_MENTION = re.compile(r"<([@#])([A-Z0-9]+)(?:\|[^<>]*)?>")
_DASHES = re.compile(r"(?<!\S)[—–―−]+(?=[A-Za-z])")
"""What a phone's keyboard makes of "--" before a word."""
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&amp;": "&"}
_ENTITY = re.compile("|".join(_ENTITIES))
_MARKS = "`*_~"
_LENGTH = re.compile(
    r"(\d{1,6}(?:\.\d{1,6})?)\s*(days?|d|hours?|hrs?|hr|h|minutes?|mins?|min|m|seconds?|secs?|sec|s)(?![a-z])"
)
_UNITS = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_NUMBER = re.compile(r"^[+]?\d{1,9}(?:[.,]\d{1,9})?$")


def words(text: str) -> list[str]:
    """The words of a command, quotes obeyed where they are paired. Never raises."""
    plain = text[:TEXT_MOST].replace("\0", " ").translate(_QUOTES)
    plain = _LINK.sub(_unlinked, plain)
    plain = _MENTION.sub(lambda found: found.group(1) + found.group(2), plain)
    plain = _ENTITY.sub(lambda found: _ENTITIES[found.group()], plain)
    plain = _DASHES.sub("--", plain)
    try:
        split = shlex.split(plain, posix=True)
    except ValueError:  # a quote without its pair, as in "the team's"
        split = [word.strip("\"'") for word in plain.replace("\\", " ").split()]
    return [mended for word in split if (mended := _unmarked(word))]


def _unlinked(found: re.Match[str]) -> str:
    """Slack makes links of what looks like one: <http://trainer.ai|trainer.ai> was "trainer.ai"."""
    address, shown = found.group(1), found.group(2)
    return shown if shown is not None else address.removeprefix("mailto:")


def _unmarked(word: str) -> str:
    """`trainer` and *trainer*: formatting around a whole word is no part of it."""
    while len(word) > 1 and word[0] in _MARKS and word[-1] == word[0]:
        word = word[1:-1]
    return word.strip("`")


def seconds(text: str) -> float | None:
    """ "2h", "30 min", "1h30m", "90 minutes" → seconds; None for what is no length of time."""
    compact = text.strip().lower()
    parts = _LENGTH.findall(compact)
    rest = _LENGTH.sub("", compact).replace("and", "").replace(",", "").split()
    if not parts or rest:
        return None
    return sum(float(count) * _UNITS[unit[0]] for count, unit in parts)


def number(text: str) -> float | None:
    """ "0.4", "$0,40", "0.4/h", "50GB", "24 GiB" → the number; None for what is none."""
    bare = text.strip().lower().replace("usd", "").replace("$", "").replace("€", "")
    bare = re.sub(r"\s*(/\s*h(our|r)?|per hour|gib|gb|mbps|mbit/s|tb|x|×)\s*$", "", bare).strip()
    if not _NUMBER.fullmatch(bare):
        return None
    return float(bare.replace(",", "."))
