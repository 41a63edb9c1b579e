"""A token of whoever is logged in at Google on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from dumont.domain.errors import DumontError

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
GCLOUD_SECONDS = 20.0


class NotLoggedIn(DumontError):
    """Nobody is logged in here; the message holds no secret."""


def token(environment: Mapping[str, str] = os.environ) -> str:
    """An access token: GOOGLE_OAUTH_ACCESS_TOKEN's (as Terraform takes it), else of the application default
    credentials, else gcloud's. Raises `NotLoggedIn`."""
    given = environment.get("GOOGLE_OAUTH_ACCESS_TOKEN", "").strip()
    if given:
        return given
    reasons = []
    # What they would do last, ask a machine's metadata server, takes seconds where there is none; gcloud comes first.
    for take in (_by_file, _by_gcloud, _by_default):
        try:
            found = take(environment)
        except NotLoggedIn as error:
            reasons.append(str(error))
        else:
            return found
    raise NotLoggedIn("; ".join(dict.fromkeys(reasons)))


def _by_file(environment: Mapping[str, str]) -> str:
    """The credentials of a file: named, or where `gcloud auth application-default login` puts it."""
    folder = environment.get("CLOUDSDK_CONFIG") or str(Path.home() / ".config" / "gcloud")
    named = environment.get("GOOGLE_APPLICATION_CREDENTIALS", "")
    if not named and not (Path(folder) / "application_default_credentials.json").is_file():
        raise NotLoggedIn("no application default credentials")
    return _by_default(environment)


def _by_default(environment: Mapping[str, str]) -> str:
    del environment
    try:
        import google.auth
        import google.auth.transport.requests
        from google.auth.exceptions import GoogleAuthError
    except ImportError as error:
        raise NotLoggedIn("google-auth is not installed") from error
    try:
        credentials, _ = google.auth.default(scopes=[SCOPE])
        credentials.refresh(google.auth.transport.requests.Request())  # type: ignore[no-untyped-call]
    except (GoogleAuthError, OSError, ValueError) as error:
        # Its own text may quote the answer of the token's server.
        raise NotLoggedIn(f"application default credentials: {type(error).__name__}") from None
    return str(credentials.token)


def _by_gcloud(environment: Mapping[str, str]) -> str:
    program = shutil.which("gcloud", path=environment.get("PATH"))
    if program is None:
        raise NotLoggedIn("gcloud is not installed")
    try:
        done = subprocess.run(
            [program, "auth", "print-access-token", "--quiet"],
            capture_output=True,
            text=True,
            timeout=GCLOUD_SECONDS,
            check=False,
            env=dict(environment),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotLoggedIn(f"gcloud did not run: {type(error).__name__}") from None
    if done.returncode or not done.stdout.strip():
        raise NotLoggedIn("gcloud has no account logged in")
    return done.stdout.strip()
