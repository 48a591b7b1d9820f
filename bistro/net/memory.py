"""Remembers answers to GETs: used again while fresh, and asked for by their tag afterwards.

Whoever looks again and again mostly finds what it knew. The server says for how long that may
be believed (``max-age``) and names it (``ETag``): within that time nobody is asked, and later a
few bytes say that nothing has changed. What may not be stored is not.

Source: RFC 9111, sections 3, 4.2 and 4.3; docs/spec/api.md, caching.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

from bistro.net.session import Answer, Session

MAX_REMEMBERED: Final = 256
MAX_REMEMBERED_SIZE: Final = 65_536
"""Bytes of one answer: all that is asked for again and again is smaller."""

_MAX_AGE: Final = re.compile(r"max-age=([0-9]{1,9})")
_SECONDS: Final = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class _Known:
    answer: Answer
    until_s: float


class Memory:
    """What one program has been answered, the last few hundred answers; in memory only."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def fresh(self, url: str) -> Answer | None:
        """The answer to a GET that nobody needs to be asked for again yet."""
        known = self._known.get(url)
        return None if known is None or known.until_s <= _now_s() else known.answer

    async def ask(self, session: Session, url: str, *, limit: int) -> Answer:
        """Send a GET, with the tag of what is known; the whole answer, also if it is the same.

        Raises:
            BistroError: As ``Session.ask``.
        """
        known = self._known.pop(url, None)
        tag = None if known is None else known.answer.headers.get("ETag")
        headers = {} if tag is None else {"If-None-Match": tag}
        asked_s = _now_s()
        answer = await session.ask("GET", url, headers=headers, limit=limit)
        if known is not None and answer.status == HTTPStatus.NOT_MODIFIED:
            answer = replace(known.answer, headers=answer.headers)
        self._keep(url, answer, asked_s)
        return answer

    def _keep(self, url: str, answer: Answer, asked_s: float) -> None:
        fresh_s = _fresh_for_s(answer.headers)
        if fresh_s is None or len(answer.body) > MAX_REMEMBERED_SIZE:
            return
        if len(self._known) >= MAX_REMEMBERED:
            del self._known[next(iter(self._known))]  # asked for longest ago
        self._known[url] = _Known(answer, asked_s + fresh_s)


def _fresh_for_s(headers: Mapping[str, str]) -> int | None:
    """For how long an answer may be believed; ``None``: it may not be kept."""
    directives = headers.get("Cache-Control", "").replace(" ", "").lower().split(",")
    if not headers.get("ETag") or "no-store" in directives or "no-cache" in directives:
        return None
    ages = [int(match[1]) for one in directives if (match := _MAX_AGE.fullmatch(one))]
    return max(0, ages[0] - _age_s(headers)) if ages else 0


def _age_s(headers: Mapping[str, str]) -> int:
    """How long a cache in between has had the answer already."""
    age = headers.get("Age", "")
    return int(age) if _SECONDS.fullmatch(age) else 0


def _now_s() -> float:
    return asyncio.get_running_loop().time()
