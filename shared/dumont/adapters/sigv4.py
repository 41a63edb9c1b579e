"""AWS Signature Version 4 for S3, as the AWS documentation of "Signature Version 4 for API requests" has it."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Iterable, Mapping
from urllib.parse import quote

ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
UNSIGNED = "UNSIGNED-PAYLOAD"
SERVICE = "s3"


def amz_date(now: float) -> str:
    """Seconds since the epoch as X-Amz-Date has them: 20261122T054500Z."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))


def scope(date: str, region: str) -> str:
    """The credential's scope; `date` is an `amz_date`."""
    return f"{date[:8]}/{region}/{SERVICE}/aws4_request"


def canonical_path(path: str) -> str:
    """A decoded path, encoded as S3 signs it: once, and slashes stay."""
    return quote(path, safe="/-_.~")


def canonical_query(query: Iterable[tuple[str, str]]) -> str:
    """Decoded parameters, encoded and in order."""
    encoded = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in query)
    return "&".join(f"{name}={value}" for name, value in encoded)


def string_to_sign(
    *,
    method: str,
    path: str,
    query: Iterable[tuple[str, str]],
    headers: Mapping[str, str],
    signed: Iterable[str],
    payload: str,
    date: str,
    region: str,
) -> str:
    """What is signed of a request. `headers` has lower-case names; `signed` names those that count; `payload` is the
    value of x-amz-content-sha256.
    """
    names = sorted(signed)
    lines = "".join(f"{name}:{' '.join(headers.get(name, '').split())}\n" for name in names)
    request = "\n".join(
        [method, canonical_path(path), canonical_query(query), lines, ";".join(names), payload],
    )
    return "\n".join([ALGORITHM, date, scope(date, region), hashlib.sha256(request.encode()).hexdigest()])


def signature(secret: str, date: str, region: str, text: str) -> str:
    """The signature of a string to sign."""
    key = f"AWS4{secret}".encode()
    for part in scope(date, region).split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def authorization(
    key_id: str,
    secret: str,
    *,
    region: str,
    method: str,
    path: str,
    query: Iterable[tuple[str, str]],
    headers: Mapping[str, str],
) -> str:
    """The Authorization header of a request, signing all of `headers` (lower-case names, with host, x-amz-date and
    x-amz-content-sha256 among them).
    """
    date = headers["x-amz-date"]
    text = string_to_sign(
        method=method,
        path=path,
        query=query,
        headers=headers,
        signed=headers,
        payload=headers["x-amz-content-sha256"],
        date=date,
        region=region,
    )
    names = ";".join(sorted(headers))
    signed = signature(secret, date, region, text)
    return f"{ALGORITHM} Credential={key_id}/{scope(date, region)}, SignedHeaders={names}, Signature={signed}"
