"""What the command line reports when something goes wrong, and the exit status that says so to scripts."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

OK = 0
FAILED = 1
USAGE = 2
UNREACHABLE = 3
NOT_FOUND = 4
CONFLICT = 5
INTERRUPTED = 130

EXIT_CODES = """\
Exit status: 0 done · 1 the operation failed · 2 wrong usage or input · 3 the API cannot be reached, refuses the key,
or is in trouble · 4 not found · 5 conflict (the state does not allow it) · 130 interrupted.
`run` and `ssh` pass on the remote command's status.
"""


class CliError(Exception):
    """What happened (`detail`), what was kept safe (`safe`), what to do next (`hint`), as a person would say it.

    `problem` is the same for programs: the API's own problem document where it sent one.
    """

    def __init__(
        self,
        detail: str,
        *,
        exit_code: int = FAILED,
        code: str = "failed",
        safe: str = "",
        hint: str = "",
        problem: Json | None = None,
        extra: Json | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.exit_code = exit_code
        self.code = code
        self.safe = safe
        self.hint = hint
        made = {"type": f"about:blank#{code}", "title": code.replace("_", " "), "detail": detail, "code": code}
        self.problem: Json = {**made, **(problem or {})}
        for name, text in (("safe", safe), ("hint", hint)):
            if text:
                self.problem.setdefault(name, text)
        self.problem.update(extra or {})

    @property
    def may_pass(self) -> bool:
        """Whether asking again may help: the API is away or in trouble. That it refuses the key does not pass."""
        return self.exit_code == UNREACHABLE and self.problem.get("status") not in (401, 403)


def exit_code_of_status(status: int) -> int:
    """The exit status for an HTTP status that is an error."""
    if status in (401, 403, 429) or status >= 500:
        return UNREACHABLE
    if status == 404:
        return NOT_FOUND
    if status == 409:
        return CONFLICT
    return USAGE
