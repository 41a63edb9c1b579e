"""The environment, read once: which adapters stand behind the ports, and where. The same code runs in every mode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from dumont.domain.errors import InvalidInput
from dumont.domain.keys import ApiKey, bootstrap
from dumont.domain.names import check_deployment
from dumont.domain.records import Role


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
    Slack: `DUMONT_SLACK_SIGNING_SECRET` proves its requests, of the workspace `DUMONT_SLACK_TEAM` ("T…"; "" is any) and
    with the roles of `DUMONT_SLACK_ROLES` ({"U…": "operator"}; all others may look). `DUMONT_ALERTS` says who is told
    what happens by itself: "slack" (with `DUMONT_SLACK_BOT_TOKEN` and `DUMONT_SLACK_CHANNEL`, or the incoming webhook
    `DUMONT_SLACK_WEBHOOK_URL`), "log", or "" for nobody.
    Agents on rented hosts reach our functions at `DUMONT_PUBLIC_URL`; without it machines run unwatched.
    With `DUMONT_CALLER`, workers and the sweep run only for identity tokens that Google signed for that account and
    for `DUMONT_AUDIENCE`; `DUMONT_CALLER_CHECKED=iam` says that Google's front door has checked their signatures.
    `DUMONT_WEBHOOKS_LOOPBACK=1` lets webhooks out go to this machine itself, by http too: in the local cloud.
    `DUMONT_GOOGLE_KEYS_URL` is where the keys of those are, if not at Google.
    One key may change things `DUMONT_CHANGES_PER_MINUTE` times, and one address may try as many wrong keys as
    `DUMONT_WRONG_KEYS_PER_MINUTE` says, before 429 is all it is told; one key or gateway token may send
    `DUMONT_REQUESTS_PER_MINUTE` requests through the gateway and /v1; 0 sets no limit. An address is what the first of
    the `DUMONT_PROXIES` proxies before us saw.
    `DUMONT_BOOTSTRAP_KEY` (ID:SHA256) is an admin's key beside those in the store: the way in that is always there.
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
    token_key: str = ""
    token_key_file: str = ""
    scheduler_job: str = ""
    caller: str = ""
    audience: str = ""
    caller_checked: str = ""
    google_keys_url: str = ""
    changes_per_minute: int = 240
    wrong_keys_per_minute: int = 60
    requests_per_minute: int = 6000
    bootstrap_key: ApiKey | None = None
    proxies: int = 0
    alerts: str = ""
    slack_signing_secret: str = ""
    slack_bot_token: str = ""
    slack_webhook_url: str = ""
    slack_channel: str = ""
    slack_team: str = ""
    slack_roles: dict[str, Role] = msgspec.field(default_factory=dict)
    slack_api_url: str = "https://slack.com/api/"
    webhooks_loopback: bool = False
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
    caller, audience = environment.get("DUMONT_CALLER", ""), environment.get("DUMONT_AUDIENCE", "")
    if caller and not audience:
        raise InvalidInput("says for whom the caller's tokens are to be, and is missing", field="DUMONT_AUDIENCE")
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
        token_key=environment.get("DUMONT_TOKEN_KEY", ""),
        token_key_file=environment.get("DUMONT_TOKEN_KEY_FILE", ""),
        scheduler_job=environment.get("DUMONT_SCHEDULER_JOB", ""),
        caller=caller,
        audience=audience,
        caller_checked=_one_of(environment.get("DUMONT_CALLER_CHECKED", ""), ("", "iam"), "DUMONT_CALLER_CHECKED"),
        google_keys_url=environment.get("DUMONT_GOOGLE_KEYS_URL", ""),
        changes_per_minute=_count(environment, "DUMONT_CHANGES_PER_MINUTE", 240),
        wrong_keys_per_minute=_count(environment, "DUMONT_WRONG_KEYS_PER_MINUTE", 60),
        requests_per_minute=_count(environment, "DUMONT_REQUESTS_PER_MINUTE", 6000),
        bootstrap_key=bootstrap(named) if (named := environment.get("DUMONT_BOOTSTRAP_KEY", "").strip()) else None,
        proxies=_count(environment, "DUMONT_PROXIES", 0),
        webhooks_loopback=_one_of(
            environment.get("DUMONT_WEBHOOKS_LOOPBACK", ""), ("", "0", "1"), "DUMONT_WEBHOOKS_LOOPBACK"
        )
        == "1",
        **_slack(environment),
        cors_origins=tuple(o.strip() for o in environment.get("DUMONT_CORS_ORIGINS", "").split(",") if o.strip()),
        log_level=environment.get("DUMONT_LOG_LEVEL", "INFO").upper(),
    )


def _count(environment: Mapping[str, str], variable: str, by_default: int) -> int:
    text = environment.get(variable, "") or str(by_default)
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise InvalidInput("is no whole number from 0 to 999999", field=variable)
    return int(text)


def _one_of(text: str, known: tuple[str, ...], variable: str) -> str:
    if text not in known:
        raise InvalidInput(f"is none of {', '.join(name for name in known if name)}", field=variable)
    return text


def _slack(environment: Mapping[str, str]) -> dict[str, Any]:
    alerts = environment.get("DUMONT_ALERTS", "")
    if alerts not in ("", "log", "slack"):
        raise InvalidInput('is none of "slack", "log" and ""', field="DUMONT_ALERTS")
    try:
        roles = msgspec.json.decode(environment.get("DUMONT_SLACK_ROLES", "") or "{}", type=dict[str, Role])
    except msgspec.MsgspecError as error:
        raise InvalidInput(
            f"cannot be read: {error}", field="DUMONT_SLACK_ROLES", hint='for example {"U012AB3CD": "operator"}'
        ) from error
    # A secret of Google's must have a value, also where there is no Slack.
    token, webhook = environment.get("DUMONT_SLACK_BOT_TOKEN", ""), environment.get("DUMONT_SLACK_WEBHOOK_URL", "")
    return {
        "alerts": alerts,
        "slack_roles": roles,
        "slack_signing_secret": environment.get("DUMONT_SLACK_SIGNING_SECRET", ""),
        "slack_bot_token": token if token.startswith("xox") else "",
        "slack_webhook_url": webhook if webhook.startswith(("https://", "http://127.0.0.1")) else "",
        "slack_channel": environment.get("DUMONT_SLACK_CHANNEL", ""),
        "slack_team": environment.get("DUMONT_SLACK_TEAM", ""),
        "slack_api_url": environment.get("DUMONT_SLACK_API_URL", "") or "https://slack.com/api/",
    }


def _dns(text: str) -> str:
    kind, _, place = text.partition(":")
    if text and (kind not in ("clouddns", "cloudflare") or not place or (kind == "clouddns" and "/" not in place)):
        raise InvalidInput("is neither clouddns:<project>/<zone> nor cloudflare:<zone id>", field="DUMONT_DNS")
    return text
