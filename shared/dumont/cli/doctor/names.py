"""DNS: whether the zone that machines' names stand in can be read with what this environment has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import quote

from dumont.domain.findings import Finding, missing, ok, skipped, unknown

AREA = "dns"
CLOUDFLARE = "https://api.cloudflare.com/client/v4"
CLOUD_DNS = "https://dns.googleapis.com"
LOOK_SECONDS = 10.0


def look(environment: Mapping[str, str], *, urls: tuple[str, str] = (CLOUDFLARE, CLOUD_DNS)) -> Iterator[Finding]:
    """`DUMONT_DNS` is clouddns:PROJECT/ZONE or cloudflare:ZONE_ID; `urls` are of Cloudflare's and Google's APIs."""
    kind, _, place = environment.get("DUMONT_DNS", "").partition(":")
    if not kind:
        yield skipped(AREA, "zone", "DUMONT_DNS is not set: names are kept nowhere, and `dumont ssh` needs none")
        return
    if kind not in ("cloudflare", "clouddns") or not place or (kind == "clouddns" and "/" not in place):
        says = "DUMONT_DNS is neither clouddns:PROJECT/ZONE nor cloudflare:ZONE_ID"
        yield missing(AREA, "zone", says, "export DUMONT_DNS=cloudflare:ZONE_ID")
        return
    if not environment.get("DUMONT_DNS_ZONE"):
        yield missing(AREA, "domain", "DUMONT_DNS_ZONE is not set", "export DUMONT_DNS_ZONE=gpu.example.com")
    if kind == "cloudflare":
        token = environment.get("CLOUDFLARE_API_TOKEN", "").strip()
        again = "make one with Zone · DNS · Edit at https://dash.cloudflare.com/profile/api-tokens"
        if not token:
            yield missing(AREA, "token", "CLOUDFLARE_API_TOKEN is not set", again)
            return
        path = f"/zones/{quote(place, safe='')}/dns_records"
        yield _ask(urls[0] + path, {"per_page": "1"}, token, again)
        return
    from dumont.adapters.google_login import NotLoggedIn
    from dumont.adapters.google_login import token as google_token

    project, _, zone = place.partition("/")
    try:
        token = google_token(environment)
    except NotLoggedIn as error:
        yield unknown(
            AREA, "zone", f"no login at Google can be used here: {error}", "gcloud auth application-default login"
        )
        return
    path = f"/dns/v1/projects/{quote(project, safe='')}/managedZones/{quote(zone, safe='')}/rrsets"
    yield _ask(
        urls[1] + path, {"maxResults": "1"}, token, f"gcloud dns managed-zones describe {zone} --project={project}"
    )


def _ask(url: str, params: Mapping[str, str], token: str, mend: str) -> Finding:
    import time

    import httpx

    from dumont.adapters.dns_http import Again, ask
    from dumont.domain.errors import DnsRefused

    try:
        with httpx.Client() as client:
            until = time.monotonic() + LOOK_SECONDS
            status, _ = ask(client, "GET", url, token=token, until=until, params=params)
    except (Again, DnsRefused) as error:
        return unknown(AREA, "zone", str(error), "dumont doctor")
    if 200 <= status < 300:
        return ok(AREA, "zone", "can be read; that it can be written shows when a machine is proven")
    return missing(AREA, "zone", f"the zone is not there, or not for these credentials (status {status})", mend)
