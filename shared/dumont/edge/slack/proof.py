"""Whose word a request is: Slack's signature, its age, the workspace it comes from, and the role of who asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dumont.domain.errors import Forbidden, Unauthenticated
from dumont.domain.records import Role
from dumont.ports import Clock
from dumont.settings import Settings

AGE_SECONDS_MAX = 300
"""As Slack's guide has it, and its SDK."""


def check(settings: Settings, clock: Clock, headers: Mapping[str, str], body: bytes) -> float:
    """When Slack signed the request. Raises `Unauthenticated`, in the same words whatever is wrong with it."""
    refusal = Unauthenticated("this needs Slack's signature, and there is none that holds")
    given = {name.lower(): value for name, value in headers.items()}
    timestamp, signature = given.get("x-slack-request-timestamp", ""), given.get("x-slack-signature", "")
    # The SDK trusts these to be ASCII, and the body to be UTF-8.
    if not timestamp.isascii() or not timestamp.isdecimal() or len(timestamp) > 12 or not signature.isascii():
        raise refusal
    if not settings.slack_signing_secret.strip() or not _is_text(body):
        raise refusal
    from slack_sdk.signature import SignatureVerifier  # a tenth of a second, that a stranger's request is not worth

    verifier = SignatureVerifier(settings.slack_signing_secret, clock)  # type: ignore[arg-type]  # it has a `now`
    if not verifier.is_valid(body, timestamp, signature):
        raise refusal
    return float(timestamp)


def check_team(settings: Settings, team: Any) -> None:
    """Raises `Forbidden` for a request of another workspace: an app may be installed in several."""
    if settings.slack_team and team != settings.slack_team:
        raise Forbidden("this Dumont belongs to another Slack workspace")


def role_of(settings: Settings, user: str) -> Role:
    """The role of a user; who is not named may look."""
    return settings.slack_roles.get(user, Role.VIEWER)


def authorise(settings: Settings, user: str) -> None:
    """Raises `Forbidden` unless a user may change machines."""
    if not role_of(settings, user).reaches(Role.OPERATOR):
        raise Forbidden(
            "you may look, but not touch",
            hint=f"an admin can make you an operator: DUMONT_SLACK_ROLES with your member id, {user}",
        )


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
