"""The HTTP client of the API. A problem document becomes a `CliError`; nothing that was sent is sent again unasked."""

from __future__ import annotations

import math
import os
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from dumont.cli.credentials import normal_url, read_key
from dumont.cli.errors import UNREACHABLE, USAGE, CliError, Json, exit_code_of_status

if TYPE_CHECKING:
    import click
    import httpx

DEFAULT_URL = "http://localhost:8080"
TIMEOUT_SECONDS = 30.0


def checked_url(url: str) -> str:
    """The API's base URL without a trailing slash; raises `CliError` if it is none."""
    text = (url if "://" in url else f"http://{url}").rstrip("/")
    try:
        parts = urlsplit(text)
        port_is_one = parts.port is None or parts.port > 0
    except ValueError:
        port_is_one = False
    if not port_is_one or parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise CliError(
            f"{url!r} is not the URL of an API",
            exit_code=USAGE,
            code="invalid_input",
            hint=f"set DUMONT_URL, or --url, to something like {DEFAULT_URL}",
        )
    return text


def is_local(url: str) -> bool:
    """Whether a URL leads to this machine itself."""
    return urlsplit(normal_url(url)).hostname == "localhost"


class Client:
    """Calls to one API, with one key. `key` None takes DUMONT_API_KEY, else the file of credentials."""

    def __init__(self, url: str, key: str | None = None, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        # httpx imports its own command line, and with it all of rich, if it can; that is most of its import's time.
        sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # None: "cannot be imported"
        import httpx

        self.url = checked_url(url)
        self.clock_skew_seconds = 0.0
        """How far the server's clock is ahead of ours, to the second; for how long something has been going on."""
        key = _checked_key(key or os.environ.get("DUMONT_API_KEY") or read_key(self.url) or "")
        import ssl

        headers = {"Accept": "application/json", "User-Agent": "dumont-cli"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self._has_key = bool(key)
        self._http = httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=timeout_seconds,
            # The certificates of all authorities take long to read, and without TLS nobody asks for them.
            verify=True if self.url.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            trust_env=not is_local(self.url),  # a proxy set for the internet must not swallow localhost
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._http.close()

    def get(self, *path: str, **parameters: object) -> Json:
        """GET /path?parameters → the JSON object of the answer. Parameters that are None are left out."""
        given = {name: _text(value) for name, value in parameters.items() if value is not None}
        return self._call("GET", path, parameters=given)

    def post(self, *path: str, body: Json) -> Json:
        """POST the body to /path → the JSON object of the answer."""
        return self._call("POST", path, body=body)

    def delete(self, *path: str) -> Json:
        """DELETE /path → the JSON object of the answer."""
        return self._call("DELETE", path)

    def machine(self, name: str) -> Json:
        """One machine's view."""
        view: Json = self.get("machines", name).get("machine") or {}
        return view

    def operation(self, operation_id: str) -> Json:
        """One operation's view."""
        view: Json = self.get("operations", operation_id).get("operation") or {}
        return view

    def _call(
        self, method: str, path: tuple[str, ...], *, parameters: dict[str, str] | None = None, body: Json | None = None
    ) -> Json:
        import httpx

        address = "/" + "/".join(_checked_part(part) for part in path)
        _check_numbers(body or {})
        try:
            response = self._http.request(method, address, params=parameters, json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise self._nobody(error) from error
        except httpx.HTTPError as error:
            raise self._broken_off(method, error) from error
        self._note_clock(response)
        return self._answer(response)

    def _nobody(self, error: Exception) -> CliError:
        if is_local(self.url):
            return CliError(
                f"no local cloud answers at {self.url}",
                exit_code=UNREACHABLE,
                code="unreachable",
                hint="start it with `dumont local up`, or set DUMONT_URL",
            )
        return CliError(
            f"nothing answers at {self.url} ({error})",
            exit_code=UNREACHABLE,
            code="unreachable",
            hint="check DUMONT_URL and the network",
        )

    def _broken_off(self, method: str, error: Exception) -> CliError:
        reason = str(error) or type(error).__name__
        hint = "try again" if method == "GET" else "it may have been taken all the same: look with `dumont ls` first"
        return CliError(
            f"{self.url} was reached and did not answer ({reason})",
            exit_code=UNREACHABLE,
            code="no_answer",
            hint=hint,
        )

    def _answer(self, response: httpx.Response) -> Json:
        try:
            value = response.json()
        except ValueError:
            value = None
        if response.is_success and isinstance(value, dict):
            return value
        if isinstance(value, dict) and ("detail" in value or "title" in value):
            raise self._refusal(response.status_code, value)
        if response.is_success or response.status_code < 500:
            raise CliError(
                f"something answers at {self.url}, and it is not Dumont (status {response.status_code})",
                exit_code=UNREACHABLE,
                code="not_dumont",
                hint="check DUMONT_URL",
            )
        raise CliError(
            f"{self.url} is in trouble: it answered with status {response.status_code}",
            exit_code=UNREACHABLE,
            code="server_error",
            hint="try again; if it stays so, look at its logs",
        )

    def _refusal(self, status: int, problem: Json) -> CliError:
        hint = str(problem.get("hint") or "")
        if problem.get("code") == "wrong_key" and os.environ.get("DUMONT_API_KEY"):
            # What the API says of headers is for programs; and a variable that was forgotten is hard to see.
            hint = "it is that of DUMONT_API_KEY: set another, or unset it where `dumont local up` has kept one"
        elif status == 401 and not self._has_key:
            hint = f"no key is kept for {self.url}: set DUMONT_API_KEY"
        elif status == 401 and not hint:
            hint = "set DUMONT_API_KEY"
        detail = str(problem.get("detail") or problem.get("title"))
        field = problem.get("field")
        option = option_of(str(field)) if field else None
        if option is not None:
            detail = f"{max(option.opts, key=len)}: {detail}"
            hint = hint or (option.help or "")
        elif field and str(field) not in detail:
            detail = f"{field}: {detail}"
        return CliError(
            detail,
            exit_code=exit_code_of_status(status),
            code=str(problem.get("code") or "failed"),
            safe=str(problem.get("safe") or ""),
            hint=hint,
            problem=problem,
        )

    def _note_clock(self, response: httpx.Response) -> None:
        import email.utils

        stated = email.utils.parsedate_tz(response.headers.get("date", ""))
        if stated is not None:
            ahead = email.utils.mktime_tz(stated) - time.time()
            # The header counts whole seconds: less than that is no difference.
            self.clock_skew_seconds = ahead if abs(ahead) > 2.0 else 0.0


def option_of(field: str) -> click.Option | None:
    """The option of the command that runs now by which a field of the API was given; None where there is none."""
    import click

    context = click.get_current_context(silent=True)
    options = context.command.params if context is not None else []
    return next((one for one in options if isinstance(one, click.Option) and one.name == field), None)


def _checked_key(key: str) -> str:
    """A key without the blanks of the file that it came from. Raises `CliError` for what no header can hold: httpx
    would, with the key in its words."""
    key = key.strip()
    if not (key.isascii() and key.isprintable()):
        raise CliError(
            "the API key has characters that no key has",
            exit_code=USAGE,
            code="invalid_input",
            hint="set DUMONT_API_KEY to the key alone: dmt_…, or a token",
        )
    return key


def _checked_part(part: str) -> str:
    """A part of a path. Raises `CliError` for one that would lead elsewhere: `/budgets/` without a name, or
    `/gateway/../token`, is another path, and what is done there is not what was meant."""
    if part in ("", ".", "..") or "/" in part:
        raise CliError(
            f"{part!r} names nothing",
            exit_code=USAGE,
            code="invalid_input",
            hint="is a variable of your shell empty?" if not part else "",
        )
    return quote(part, safe="")


def _check_numbers(body: Json) -> None:
    """Raises `CliError` for a number that JSON has not: not a number, or infinite."""
    for name, value in body.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise CliError(f"{name}: {value} is no amount", exit_code=USAGE, code="invalid_input")


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
