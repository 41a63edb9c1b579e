"""How the market says no."""

from __future__ import annotations

from typing import Any


class Refused(Exception):
    """A request that the market does not do, with the answer that Vast.ai gives: status, error code and message.

    `extra` holds further keys of the answer, such as `new_contract` where an instance exists all the same.
    """

    def __init__(self, status: int, error: str, msg: str, **extra: Any) -> None:
        super().__init__(f"{status} {error}: {msg}")
        self.status = status
        self.error = error
        self.msg = msg
        self.extra = extra

    def body(self) -> dict[str, Any]:
        """The answer's JSON."""
        return {"success": False, "error": self.error, "msg": self.msg, **self.extra}


def no_such_instance(instance_id: int) -> Refused:
    """Unknown, or destroyed."""
    return Refused(404, "no_such_instance", f"Instance {instance_id} does not exist.")


def invalid_args(what: str) -> Refused:
    """A request that is malformed."""
    return Refused(400, "invalid_args", f"error 400/3467: Invalid args: {what}")


def offer_gone(ask_id: int, status: int = 410) -> Refused:
    """The offer is not to be had; Vast.ai says so in three ways."""
    if status == 404:
        msg = f"error 404/3603: no_such_ask Instance type by id {ask_id} is not available."
        return Refused(404, "invalid_args", msg, ask_id=ask_id)
    msg = f"error {status}/3907: no_such_ask Instance type {ask_id} is no longer available."
    return Refused(status, "no_such_ask", msg, ask_id=ask_id)


def out_of_credit() -> Refused:
    """The account cannot pay."""
    return Refused(400, "insufficient_credit", "Your account lacks credit; see the billing page.")
