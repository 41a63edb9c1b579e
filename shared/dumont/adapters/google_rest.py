"""Google's REST APIs, asked many things at once: bounded in time, and whatever comes of a question is an answer."""

from __future__ import annotations

import email.utils
import json
import logging
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

import httpx

from dumont.domain.deployment.questions import Heard, Question

HOSTS = "https://{api}.googleapis.com"
REQUEST_SECONDS = 10.0
ALL_SECONDS = 30.0
AT_ONCE = 12
PAGES_MAX = 20
ANSWER_BYTES_MAX = 16 << 20
TELL_SECONDS = 0.5

logging.getLogger("httpx").setLevel(logging.WARNING)


class GoogleRest:
    """Asks in the name of whoever a token is for, and has `project` pay for the asking.

    `hosts` says where an API answers, "{api}" standing for its name; `now` is our clock.
    """

    def __init__(
        self,
        token: str,
        project: str,
        *,
        hosts: str = HOSTS,
        now: Callable[[], float] = time.time,
        request_seconds: float = REQUEST_SECONDS,
        all_seconds: float = ALL_SECONDS,
    ) -> None:
        self._token = token
        self._project = project
        self._hosts = hosts
        self._now = now
        self._request_seconds = request_seconds
        self._all_seconds = all_seconds

    def ask(
        self, questions: Iterable[Question], *, tell: Callable[[int, int], None] = lambda _done, _of: None
    ) -> dict[str, Heard]:
        """The answers by the questions' names, each within the time for all. `tell` hears, twice a second and more, how
        many of how many have answered."""
        asked = list(questions)
        until = time.monotonic() + self._all_seconds
        pool = ThreadPoolExecutor(max_workers=AT_ONCE)
        # The certificates of all authorities take long to read, and without TLS nobody asks for them.
        verify = True if self._hosts.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with httpx.Client(timeout=self._request_seconds, follow_redirects=False, verify=verify) as client:
            waiting: dict[Future[Heard], Question] = {
                pool.submit(self._answer, client, question, until): question for question in asked
            }
            heard: dict[str, Heard] = {}
            try:
                while waiting and time.monotonic() < until + 1.0:
                    done, _ = wait(waiting, timeout=TELL_SECONDS, return_when=FIRST_COMPLETED)
                    heard |= {waiting.pop(future).name: future.result() for future in done}
                    tell(len(heard), len(asked))
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        late = Heard(status=0, why=f"not within {self._all_seconds:.0f} s")
        return {question.name: heard.get(question.name, late) for question in asked}

    def _answer(self, client: httpx.Client, question: Question, until: float) -> Heard:
        rows: list[dict[str, Any]] = []
        params = dict(question.params)
        for _ in range(PAGES_MAX):
            heard = self._once(client, question, params, until)
            if not heard.is_answer or not question.rows:
                return heard
            page = heard.body.get(question.rows, [])
            if not isinstance(page, list) or not all(isinstance(row, dict) for row in page):
                return Heard(status=0, why="its answer cannot be read", ahead_seconds=heard.ahead_seconds)
            rows += page
            token = heard.body.get("nextPageToken")
            if not token:
                return Heard(status=heard.status, rows=tuple(rows), ahead_seconds=heard.ahead_seconds)
            params["pageToken"] = str(token)
        return Heard(status=0, why="its list does not end")

    def _once(self, client: httpx.Client, question: Question, params: Mapping[str, str], until: float) -> Heard:
        heard = self._send(client, question, params, until, {"X-Goog-User-Project": self._project})
        if heard.status == 403 and heard.reason in ("USER_PROJECT_DENIED", "SERVICE_DISABLED"):
            # Who may not have the project pay may look all the same, and an API that a deployment does not need
            # (billing's) may be off in it: gcloud's own tokens are paid for by a project of gcloud's.
            without = self._send(client, question, params, until, {})
            return without if without.is_answer else heard
        return heard

    def _send(
        self,
        client: httpx.Client,
        question: Question,
        params: Mapping[str, str],
        until: float,
        headers: Mapping[str, str],
    ) -> Heard:
        left = until - time.monotonic()
        if left <= 0:
            return Heard(status=0, why=f"not within {self._all_seconds:.0f} s")
        try:
            answer = client.request(
                question.method,
                self._hosts.format(api=question.api) + question.path,
                params=dict(params),
                json=question.body,
                headers={"Authorization": f"Bearer {self._token}", "User-Agent": "dumont-cli", **headers},
                timeout=min(left, self._request_seconds),
            )
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeEncodeError, ValueError) as error:
            # Not its text: what httpx says of a header that cannot be sent quotes it.
            return Heard(status=0, why=type(error).__name__)
        ahead = self._ahead(answer)
        if len(answer.content) > ANSWER_BYTES_MAX:
            return Heard(status=0, why="its answer is longer than is read", ahead_seconds=ahead)
        if answer.is_success and question.is_text:
            return Heard(status=answer.status_code, text=answer.text, ahead_seconds=ahead)
        return _heard(answer, ahead)

    def _ahead(self, answer: httpx.Response) -> float | None:
        """Seconds that their clock is ahead of ours: the header counts whole ones, so half of one is added."""
        stated = email.utils.parsedate_tz(answer.headers.get("date", ""))
        return None if stated is None else email.utils.mktime_tz(stated) + 0.5 - self._now()


def _heard(answer: httpx.Response, ahead: float | None) -> Heard:
    try:
        body = json.loads(answer.content or b"{}")
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        status = 0 if answer.is_success else answer.status_code
        return Heard(status=status, why="its answer cannot be read", ahead_seconds=ahead)
    if answer.is_success:
        return Heard(status=answer.status_code, body=body, ahead_seconds=ahead)
    error = body.get("error")
    error = error if isinstance(error, dict) else {}
    details = error.get("details")
    info = next(
        (d for d in (details if isinstance(details, list) else []) if isinstance(d, dict) and d.get("reason")), {}
    )
    metadata = info.get("metadata")
    return Heard(
        status=answer.status_code,
        why=" ".join(str(error.get("message") or "").split())[:300],
        reason=_reason(error, info),
        about={str(k): str(v) for k, v in metadata.items()} if isinstance(metadata, dict) else {},
        ahead_seconds=ahead,
    )


def _reason(error: Mapping[str, Any], info: Mapping[str, Any]) -> str:
    """`ErrorInfo`'s reason, or what Cloud Storage, which has none, says in its own form."""
    if info.get("reason"):
        return str(info["reason"])
    listed = error.get("errors")
    first = listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], dict) else {}
    return {"accessNotConfigured": "SERVICE_DISABLED"}.get(str(first.get("reason")), "")


__all__ = ["HOSTS", "GoogleRest"]
