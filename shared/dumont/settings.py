"""The environment, read once: which adapters stand behind the ports, and where. The same code runs in every mode."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from dumont.domain.errors import InvalidInput
from dumont.domain.names import check_deployment


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the environment says.

    Store and bus: with `GOOGLE_CLOUD_PROJECT` (or `DUMONT_STORE=firestore`) Google's, otherwise the local cloud's
    (`DUMONT_STORE=sqlite:<path>`, `DUMONT_BUS=<url of the local dispatcher>`).
    Snapshots go to B2 (`B2_APPLICATION_KEY_ID`, `B2_APPLICATION_KEY`, `DUMONT_BUCKET`) or, for trials, to a folder
    (`DUMONT_BLOBS=folder:<path>`), encrypted with keys that are made from `DUMONT_DATA_MASTER_KEY`.
    `DUMONT_SCHEDULER_JOB` (projects/…/locations/…/jobs/…) is the schedule to pause while nothing runs; "" pauses none.
    `DUMONT_VAST_WEBHOOK_SECRET` is what Vast.ai signs its notices with; without it none is believed.
    Machines' names follow them in DNS below `DUMONT_DNS_ZONE` with `DUMONT_DNS=clouddns:<project>/<zone>` or
    `DUMONT_DNS=cloudflare:<zone id>` (and `CLOUDFLARE_API_TOKEN`).
    Agents on rented hosts reach our functions at `DUMONT_PUBLIC_URL`; without it machines run unwatched.
    """

    store: str = "sqlite:"
    bus: str = ""
    project: str = ""
    deployment: str = "main"
    vast_api_key: str = ""
    vast_url: str = "https://console.vast.ai"
    ssh_private_key: str = ""
    ssh_private_key_file: str = ""
    blobs: str = ""
    b2_key_id: str = ""
    b2_key: str = ""
    b2_realm: str = "production"
    bucket: str = ""
    public_url: str = ""
    dns: str = ""
    dns_zone: str = ""
    cloudflare_token: str = ""
    vast_webhook_secret: str = ""
    data_master_key: str = ""
    data_master_key_file: str = ""
    scheduler_job: str = ""
    cors_origins: tuple[str, ...] = ()
    log_level: str = "INFO"

    def __repr__(self) -> str:
        return "Settings(…)"  # it holds secrets, and must not reach a log by accident


def read(environment: Mapping[str, str]) -> Settings:
    """Settings from environment variables; raises `InvalidInput` naming the variable at fault."""
    project = environment.get("GOOGLE_CLOUD_PROJECT", "")
    store = environment.get("DUMONT_STORE") or ("firestore" if project else "")
    if not store:
        raise InvalidInput(
            "no store is configured",
            field="DUMONT_STORE",
            hint="set GOOGLE_CLOUD_PROJECT for Firestore, or DUMONT_STORE=sqlite:/path/to/file",
        )
    if store != "firestore" and not store.startswith("sqlite:"):
        raise InvalidInput("is neither firestore nor sqlite:<path>", field="DUMONT_STORE")
    bus = environment.get("DUMONT_BUS") or ("pubsub" if project else "")
    return Settings(
        store=store,
        bus=bus,
        project=project,
        deployment=check_deployment(environment.get("DUMONT_DEPLOYMENT", "main")),
        vast_api_key=environment.get("VAST_API_KEY", ""),
        vast_url=environment.get("VAST_URL", "") or "https://console.vast.ai",
        ssh_private_key=environment.get("DUMONT_SSH_PRIVATE_KEY", ""),
        ssh_private_key_file=environment.get("DUMONT_SSH_PRIVATE_KEY_FILE", ""),
        blobs=environment.get("DUMONT_BLOBS", "") or ("b2" if environment.get("B2_APPLICATION_KEY_ID") else ""),
        b2_key_id=environment.get("B2_APPLICATION_KEY_ID", ""),
        b2_key=environment.get("B2_APPLICATION_KEY", ""),
        b2_realm=environment.get("DUMONT_B2_REALM", "") or "production",
        bucket=environment.get("DUMONT_BUCKET", ""),
        dns=_dns(environment.get("DUMONT_DNS", "")),
        dns_zone=environment.get("DUMONT_DNS_ZONE", "").strip("."),
        cloudflare_token=environment.get("CLOUDFLARE_API_TOKEN", ""),
        public_url=environment.get("DUMONT_PUBLIC_URL", "").rstrip("/"),
        vast_webhook_secret=environment.get("DUMONT_VAST_WEBHOOK_SECRET", ""),
        data_master_key=environment.get("DUMONT_DATA_MASTER_KEY", ""),
        data_master_key_file=environment.get("DUMONT_DATA_MASTER_KEY_FILE", ""),
        scheduler_job=environment.get("DUMONT_SCHEDULER_JOB", ""),
        cors_origins=tuple(o.strip() for o in environment.get("DUMONT_CORS_ORIGINS", "").split(",") if o.strip()),
        log_level=environment.get("DUMONT_LOG_LEVEL", "INFO").upper(),
    )


def _dns(text: str) -> str:
    kind, _, place = text.partition(":")
    if text and (kind not in ("clouddns", "cloudflare") or not place or (kind == "clouddns" and "/" not in place)):
        raise InvalidInput("is neither clouddns:<project>/<zone> nor cloudflare:<zone id>", field="DUMONT_DNS")
    return text
