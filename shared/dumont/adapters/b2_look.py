"""What a key of Backblaze B2's may do, and how its bucket stands. Nothing is changed, and no file is read."""

from __future__ import annotations

from typing import Any

import msgspec
from b2sdk.v3 import B2Api, B2HttpApiConfig, InMemoryAccountInfo
from b2sdk.v3 import exception as b2

from dumont.adapters.b2_http import BoundedSession, Budget, GaveUp
from dumont.domain.errors import BlobRefused, BlobUnavailable

LOOK_SECONDS = 15.0


class StoreSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A key, and the bucket that it is to be used with."""

    capabilities: tuple[str, ...]
    restricted_to: str | None
    """The one bucket that the key reaches; such a key can make no others."""
    kind: str | None
    """The bucket's: "allPrivate", "allPublic"; None where there is none of its name."""
    cancels_unfinished: bool
    """Whether uploads that were begun and not ended go by themselves."""
    loses_versions: bool
    """Whether what is hidden is deleted by itself."""


def look(key_id: str, key: str, bucket: str, *, realm: str = "production") -> StoreSeen:
    """Raises `BlobRefused` for a key that is none, `BlobUnavailable` without an answer. Neither quotes the key."""
    budget = Budget()
    api = B2Api(InMemoryAccountInfo(), api_config=B2HttpApiConfig(http_session_factory=lambda: BoundedSession(budget)))
    try:
        with budget.call(LOOK_SECONDS):
            api.authorize_account(key_id.strip(), key.strip(), realm=realm)
            allowed = api.account_info.get_allowed()
            found = _bucket(api, bucket)
    except GaveUp as error:
        raise BlobUnavailable(str(error)) from None
    except b2.B2Error as error:
        # Its name only: the texts of some hold what was sent.
        kind = BlobUnavailable if error.should_retry_http() else BlobRefused
        raise kind(type(error).__name__) from None
    except OSError as error:
        raise BlobUnavailable(type(error).__name__) from None
    rules = found.lifecycle_rules if found is not None else []
    only = allowed.get("buckets") or []
    return StoreSeen(
        capabilities=tuple(sorted(allowed.get("capabilities") or ())),
        restricted_to=str(only[0].get("name")) if only else None,
        kind=None if found is None else str(found.type_),
        cancels_unfinished=any(rule.get("daysFromStartingToCancelingUnfinishedLargeFiles") for rule in rules),
        loses_versions=any(rule.get("daysFromHidingToDeleting") for rule in rules),
    )


def _bucket(api: B2Api, name: str) -> Any:
    try:
        return next(iter(api.list_buckets(name)), None)
    except b2.B2Error as error:
        if isinstance(error, GaveUp) or error.should_retry_http():
            raise
        return None  # not there, or not for this key, which may lack the right to list at all
