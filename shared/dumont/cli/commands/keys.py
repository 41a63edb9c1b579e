"""`dumont keys` and `dumont token`: who may come in, and with what."""

from __future__ import annotations

import click

from dumont.cli.errors import Json
from dumont.cli.output import Cli, common_options, moment, text_of

ROLES = click.Choice(["viewer", "operator", "admin"])
COLUMNS = ("ID", "NAME", "ROLE", "OWNER", "MADE", "ENDS", "LAST USED", "STATE")


@click.group()
def keys() -> None:
    """Who may come in: API keys, which admins manage."""


@keys.command()
@click.argument("name")
@click.option("--role", type=ROLES, default="operator", show_default=True, help="Viewers look, operators change "
              "machines, admins also manage keys.")  # fmt: skip
@click.option("--owner", metavar="WHO", help="Whose it is.")
@click.option("--valid-days", type=click.FloatRange(0.001, 3650), metavar="D", help="It ends by itself after D days. "
              "[default: only when it is revoked]")  # fmt: skip
@common_options
def create(cli: Cli, name: str, role: str, owner: str | None, valid_days: float | None) -> None:
    """Make a key, and print it.

    This is the one time that it can be read.
    """
    wish: Json = {"name": name, "role": role}
    if owner:
        wish["owner"] = owner
    if valid_days is not None:
        wish["valid_seconds"] = valid_days * 86_400
    with cli.client() as client:
        made = client.post("keys", body=wish)
    _show_secret(cli, made)


@keys.command("ls")
@click.option("--all", "all_", is_flag=True, help="Those that have ended, too.")
@common_options
def list_keys(cli: Cli, all_: bool) -> None:
    """List the keys. LAST USED is known to about an hour, and only of calls that could change something, or went
    through the gateway."""
    with cli.client() as client:
        found = client.get("keys", all=all_ or None)
    cli.result(found)
    rows = [
        [
            text_of(key.get("id")),
            text_of(key.get("name")),
            text_of(key.get("role")),
            text_of(key.get("owner")),
            "by setting" if key.get("by_setting") else moment(key.get("created_at")),
            moment(key.get("expires_at")),
            moment(key.get("last_used_at")),
            _state(key),
        ]
        for key in found.get("keys") or []
    ]
    cli.table(COLUMNS, rows)


@keys.command()
@click.argument("key_id", metavar="ID")
@click.option("--grace-hours", type=click.FloatRange(0, 720), metavar="H", help="For so long the secret before is good "
              "yet. [default: 24]")  # fmt: skip
@click.option(
    "--now", is_flag=True, help="End the secret before at once, and all tokens of the key: it was seen by others."
)
@common_options
def rotate(cli: Cli, key_id: str, grace_hours: float | None, now: bool) -> None:
    """Give a key a new secret, and print it. Its id, name and role stay."""
    if now and grace_hours is not None:
        raise click.UsageError("--now and --grace-hours say different things")
    wish: Json = {"grace_seconds": 0} if now else {}
    if grace_hours is not None:
        wish["grace_seconds"] = grace_hours * 3600
    with cli.client() as client:
        made = client.post("keys", key_id, "rotate", body=wish)
    _show_secret(cli, made)
    until = (made.get("key") or {}).get("previous_until")
    cli.note(f"the secret before is good until {moment(until)}" if until else "the secret before has ended")


@keys.command()
@click.argument("key_id", metavar="ID")
@common_options
def revoke(cli: Cli, key_id: str) -> None:
    """End a key and all of its tokens.

    The next request with one of them is refused.
    """
    with cli.client() as client:
        ended = client.post("keys", key_id, "revoke", body={})
    cli.result(ended)
    key = ended.get("key") or {}
    cli.say(f"{key.get('name')} ({key.get('id')}) is revoked")


@keys.command()
@click.option("--json", "as_json", is_flag=True, help="Machine-readable JSON on stdout.")
def bootstrap(as_json: bool) -> None:
    """Make an admin's key for a deployment's settings. Nothing is asked of any API.

    Its hash goes into the settings (Terraform's bootstrap_key_hash, or DUMONT_BOOTSTRAP_KEY), the key itself to whoever
    is to have it.
    """
    from dumont.adapters.clock import SystemIds
    from dumont.domain.keys import drawn, hash_of
    from dumont.domain.keys import text_of as key_text

    key_id, secret = drawn(SystemIds().random_bytes)
    setting = f"{key_id}:{hash_of(secret)}"
    cli = Cli(as_json=as_json, url="")
    cli.result({"secret": key_text(key_id, secret), "setting": setting})
    cli.say(key_text(key_id, secret))
    cli.note("keep it now: it is kept nowhere. What the deployment is told is its hash alone:")
    cli.note(f'bootstrap_key_hash = "{setting}"')


@click.command()
@click.option("--role", type=ROLES, help="What it may do at most. [default: what the key may]")
@click.option("--minutes", type=click.FloatRange(0.05, 60), metavar="M", help="For how long it is good. [default: 15]")
@common_options
def token(cli: Cli, role: str | None, minutes: float | None) -> None:
    """Print a short-lived token that stands for your API key.

    It is a JWT, and is sent like a key: `Authorization: Bearer …`, or in DUMONT_API_KEY.
    """
    wish: Json = {}
    if role is not None:
        wish["role"] = role
    if minutes is not None:
        wish["seconds"] = minutes * 60
    with cli.client() as client:
        made = client.post("token", body=wish)
    cli.result(made)
    cli.say(str(made.get("token")))
    cli.note(f"good until {moment(made.get('expires_at'))}")


def _state(key: Json) -> str:
    until = key.get("previous_until")
    return f"rotated; before it until {moment(until)}" if until else text_of(key.get("state"))


def _show_secret(cli: Cli, made: Json) -> None:
    cli.result(made)
    cli.say(str(made.get("secret")))
    cli.note("keep it now: it is not shown again")
