"""`dumont doctor`: against an API, a market, an object store, Slack and DNS that answer, or do not."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dumont.adapters.b2 import B2Blobs
from dumont.cli.doctor import names, store
from dumont.domain.findings import State, skew
from dumont.local.market.server import MarketServer
from dumont.local.object_store.server import ObjectStoreServer
from infra import b2_setup
from tests.contract import blob_stores
from tests.contract.blob_stores import BUCKET, MovedClock
from tests.contract.market_rig import KEY as MARKET_KEY
from tests.contract.market_rig import VirtualClock
from tests.contract.scripted_http import Asked, Said, ScriptedServer, said
from tests.unit.cli_world import KEY, World, output, problem, world

Findings = dict[tuple[str, str], dict[str, str]]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[World]:
    """A control plane whose market answers."""
    with world(tmp_path) as made:
        made.says("GET /machines", {"machines": []})
        made.says("GET /audit", {"entries": []})
        made.says("GET /search", {"offers": [{}], "count": 42})
        made.says("GET /budgets", {"budgets": [], "credit": [{"provider": "vast", "credit_usd": 31.5, "low": False}]})
        yield made


def doctor(api: World, **environment: str) -> tuple[int, Findings]:
    """The exit status, and the findings by area and name."""
    done = api.run("doctor", "--json", **{"DUMONT_ALERTS": "", **environment})
    for secret in (KEY, *(v for n, v in environment.items() if any(w in n for w in ("KEY", "TOKEN", "SECRET")))):
        assert not secret or secret not in done.output
    return done.exit_code, {(f["area"], f["name"]): f for f in output(done)["findings"]}


def states(findings: Findings, area: str) -> dict[str, str]:
    return {name: finding["state"] for (of, name), finding in findings.items() if of == area}


# --- The command line's own ---------------------------------------------------------------------------------------


def test_a_set_up_that_works_is_well_and_says_what_it_cannot_know(api: World) -> None:
    status, found = doctor(api)
    assert status == 0
    assert states(found, "api") == {"url": "ok", "key": "ok", "version": "skipped", "clock": "ok"}
    assert "operator or more" in found["api", "key"]["says"]
    assert found["vast", "key"]["says"].endswith("42 offers")
    assert found["vast", "credit"]["says"] == "$31.50"
    assert "the control plane has the key" in found["b2", "key"]["says"]
    assert {found["b2", "key"]["state"], found["slack", "app"]["state"], found["dns", "zone"]["state"]} == {"skipped"}


def test_a_viewers_key_is_told_from_an_operators(api: World) -> None:
    api.says("GET /audit", problem(403, "forbidden", "this needs the role operator"))
    assert "viewer" in doctor(api)[1]["api", "key"]["says"]


def test_a_wrong_key_and_none_at_all_are_missing_and_what_hangs_on_them_is_left(api: World) -> None:
    api.says("GET /machines", problem(401, "wrong_key", "the API key is wrong or was revoked"))
    api.says("GET /search", problem(401, "wrong_key", "the API key is wrong or was revoked"))
    status, found = doctor(api)
    assert (status, found["api", "key"]["state"], found["vast", "key"]["state"]) == (1, "missing", "skipped")
    assert found["api", "url"]["state"] == "ok"
    assert found["api", "key"]["mend"] == "unset DUMONT_API_KEY", "it wins over the file that `local up` writes"


def test_a_key_that_cannot_be_sent_is_a_finding_and_not_the_end(api: World) -> None:
    status, found = doctor(api, DUMONT_API_KEY=f"{KEY}é")
    assert (status, found["api", "key"]["state"], found["vast", "key"]["state"]) == (1, "missing", "skipped")
    assert "DUMONT_API_KEY" in found["api", "key"]["says"]


@pytest.mark.parametrize("text", ['{"http://localhost', "[]", ""])
def test_a_file_of_keys_that_cannot_be_read_is_told(api: World, text: str) -> None:
    file = api.folder / "config" / "dumont" / "credentials.json"
    file.parent.mkdir(parents=True, mode=0o700)
    file.touch(mode=0o600)
    file.write_text(text, encoding="utf-8")
    status, found = doctor(api)
    assert (status, found["cli", "credentials file"]["state"]) == (1, "missing")
    assert found["cli", "credentials file"]["mend"].startswith(f"mv '{file}'")


def test_without_an_api_it_says_how_to_start_one(api: World) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    done = api.run("doctor", "--url", f"http://localhost:{port}")
    assert done.exit_code == 1
    assert "dumont local up" in done.stdout
    assert "Traceback" not in done.output


def test_an_api_in_trouble_is_unknown_and_not_missing(api: World) -> None:
    api.says("GET /machines", Said(503, b"oops"))
    status, found = doctor(api)
    assert (status, found["api", "url"]["state"]) == (1, "unknown")


def test_files_that_others_can_read_are_found_with_the_command_that_shuts_them(api: World) -> None:
    folder = api.folder / "config" / "dumont"
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    for name in ("credentials.json", "id_ed25519"):
        (folder / name).write_text("{}", encoding="utf-8")
        (folder / name).chmod(0o640)
    status, found = doctor(api)
    assert status == 1
    assert found["cli", "config folder"]["mend"] == f"chmod 700 '{folder}'"
    assert found["cli", "credentials file"]["mend"] == f"chmod 600 '{folder / 'credentials.json'}'"
    assert found["cli", "ssh key"]["state"] == "missing"
    for path, mode in ((folder, 0o700), (folder / "credentials.json", 0o600), (folder / "id_ed25519", 0o600)):
        path.chmod(mode)
    assert {states(doctor(api)[1], "cli")[name] for name in ("config folder", "credentials file", "ssh key")} == {"ok"}


def test_a_machine_without_ssh_is_told(api: World, tmp_path: Path) -> None:
    assert doctor(api, PATH=str(tmp_path))[1]["cli", "ssh"]["mend"] == "sudo apt-get install openssh-client"


@pytest.mark.parametrize(("seconds", "state"), [(4.9, "ok"), (-4.9, "ok"), (5.1, "warning"), (-300, "warning")])
def test_clocks_may_differ_by_five_seconds(seconds: float, state: str) -> None:
    assert skew("api", "the API", seconds).state == state
    assert skew("api", "the API", None).state is State.UNKNOWN


def test_a_person_reads_a_table_and_the_commands(api: World) -> None:
    api.says("GET /machines", problem(401, "no_key", "this needs an API key"))
    done = api.run("doctor", key=None)
    assert done.stdout.startswith("STATE")
    assert "what mends it, in this order:" in done.stdout


# --- Vast ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def market(tmp_path: Path) -> Iterator[MarketServer]:
    with MarketServer(folder=tmp_path / "m", clock=VirtualClock(), api_keys=[MARKET_KEY], machines=False) as server:
        yield server


def test_a_key_for_vast_is_tried_where_there_is_one(api: World, market: MarketServer) -> None:
    status, found = doctor(api, VAST_API_KEY=MARKET_KEY, VAST_URL=market.url)
    assert status == 0
    assert states(found, "vast") == {"key": "ok", "credit": "ok", "right to list": "ok", "right to rent": "skipped"}
    assert found["vast", "credit"]["says"] == "$100.00"


def test_a_key_that_vast_refuses_is_missing(api: World, market: MarketServer) -> None:
    for key in ("f" * 64, "no key at all"):
        status, found = doctor(api, VAST_API_KEY=key, VAST_URL=market.url)
        assert (status, found["vast", "key"]["state"]) == (1, "missing")


@pytest.mark.parametrize(("credit_usd", "state"), [(0.0, "missing"), (2.0, "warning"), (50.0, "ok"), (None, "unknown")])
def test_credit_that_runs_out_is_seen(api: World, credit_usd: float | None, state: str) -> None:
    user = said(200, {"id": 1, "credit": credit_usd})
    listed = said(200, {"success": True, "instances_found": 0, "total_instances": 0, "instances": []})
    with ScriptedServer(lambda asked: user if "users" in asked.path else listed) as server:
        assert doctor(api, VAST_API_KEY="f" * 64, VAST_URL=server.url)[1]["vast", "credit"]["state"] == state


def test_a_key_that_may_not_list_is_told(api: World) -> None:
    refusal = said(403, {"success": False, "error": "not_authorized", "msg": "lacks instance_read"})
    user = said(200, {"id": 1, "credit": 20.0})
    with ScriptedServer(lambda asked: user if "users" in asked.path else refusal) as server:
        found = doctor(api, VAST_API_KEY="f" * 64, VAST_URL=server.url)[1]
    assert found["vast", "right to list"]["state"] == "missing"


def test_a_control_plane_whose_market_does_not_answer_is_told(api: World) -> None:
    api.says("GET /search", problem(502, "market_unavailable", "no market answered"))
    assert doctor(api)[1]["vast", "key"]["state"] == "unknown"


def test_the_control_planes_word_on_credit_is_passed_on(api: World) -> None:
    api.says("GET /budgets", {"budgets": [], "credit": [{"provider": "vast", "credit_usd": 31.5, "low": True}]})
    assert doctor(api)[1]["vast", "credit"]["state"] == "warning"
    api.says("GET /budgets", {"budgets": [], "credit": []})
    assert doctor(api)[1]["vast", "credit"]["state"] == "skipped"


# --- B2 -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def objects(tmp_path: Path) -> Iterator[ObjectStoreServer]:
    with blob_stores.serving(tmp_path / "store", MovedClock()) as running:
        yield running


def b2(server: ObjectStoreServer, **changed: str) -> dict[str, str]:
    known = {"B2_APPLICATION_KEY_ID": server.key_id, "B2_APPLICATION_KEY": server.key, "DUMONT_BUCKET": BUCKET}
    return {**known, "DUMONT_B2_REALM": server.url, **changed}


def test_a_key_for_b2_and_its_bucket_are_looked_at(api: World, objects: ObjectStoreServer) -> None:
    status, found = doctor(api, **b2(objects))
    assert status == 0
    assert states(found, "b2") == {"key": "ok", "capabilities": "ok", "bucket": "ok", "lifecycle": "warning"}


def test_a_key_of_one_bucket_can_make_none_for_hosts(api: World, objects: ObjectStoreServer) -> None:
    blobs = B2Blobs(objects.key_id, objects.key, BUCKET, clock=MovedClock(), realm=objects.url)
    bound = blobs.mint_key("m/", "write", 3600)
    found = doctor(api, **b2(objects, B2_APPLICATION_KEY_ID=bound.key_id, B2_APPLICATION_KEY=bound.secret))[1]
    assert found["b2", "capabilities"]["state"] == "missing"


def test_what_is_wrong_with_b2_is_told_apart(api: World, objects: ObjectStoreServer) -> None:
    assert doctor(api, **b2(objects, B2_APPLICATION_KEY="K00wrong"))[1]["b2", "key"]["state"] == "missing"
    assert doctor(api, **b2(objects, DUMONT_BUCKET="no-such-bucket"))[1]["b2", "bucket"]["state"] == "missing"
    half = doctor(api, B2_APPLICATION_KEY_ID="K00")[1]["b2", "key"]
    assert half["says"].startswith("B2_APPLICATION_KEY and DUMONT_BUCKET are not set")
    with ScriptedServer(lambda _: Said(503, b"{}")) as server:
        away = doctor(api, **b2(objects, DUMONT_B2_REALM=server.url))[1]["b2", "key"]
    assert away["state"] == "unknown"


def test_what_is_wanted_of_a_key_is_what_the_set_up_gives_it() -> None:
    assert set(store.NEEDED) == set(b2_setup.CAPABILITIES)


# --- Slack --------------------------------------------------------------------------------------------------------

SLACK = {
    "DUMONT_SLACK_SIGNING_SECRET": "hush",
    "DUMONT_SLACK_BOT_TOKEN": "xoxb-1-hush",
    "DUMONT_SLACK_CHANNEL": "C0ALERTS1",
}
SCOPES = "chat:write,commands,channels:history,groups:history"
BOT = {"ok": True, "team": "Team", "team_id": "T0TEAM1", "user": "dumont", "bot_id": "B1"}


def slack(api: World, bot: Said | None = None, history: Any = None, **changed: str) -> Findings:
    """The findings where Slack says so of the bot, and of its channel."""
    of_bot = bot or said(200, BOT, X_OAuth_Scopes=SCOPES)
    of_channel = said(200, history or {"ok": True, "messages": []})

    def answer(asked: Asked) -> Said:
        return of_bot if asked.path.endswith("auth.test") else of_channel

    with ScriptedServer(answer) as server:
        return doctor(api, **{**SLACK, "DUMONT_SLACK_API_URL": f"{server.url}/api/", **changed})[1]


def test_an_app_that_is_whole_is_well(api: World) -> None:
    found = slack(api)
    assert states(found, "slack") == {"signing secret": "ok", "token": "ok", "scopes": "ok", "channel": "ok"}


@pytest.mark.parametrize(
    ("changed", "name", "state"),
    [
        ({"bot": said(200, {"ok": False, "error": "invalid_auth"})}, "token", "missing"),
        ({"bot": Said(503, b"oops")}, "token", "unknown"),
        ({"bot": said(200, BOT, X_OAuth_Scopes="commands")}, "scopes", "missing"),
        ({"bot": said(200, BOT)}, "scopes", "unknown"),
        ({"history": {"ok": False, "error": "not_in_channel"}}, "channel", "missing"),
        ({"history": {"ok": False, "error": "channel_not_found"}}, "channel", "missing"),
        ({"DUMONT_SLACK_CHANNEL": ""}, "channel", "missing"),
        ({"DUMONT_SLACK_TEAM": "T0OTHER"}, "workspace", "missing"),
        ({"DUMONT_SLACK_SIGNING_SECRET": ""}, "signing secret", "missing"),
        ({"DUMONT_SLACK_BOT_TOKEN": "none-abc"}, "token", "missing"),
        ({"DUMONT_SLACK_BOT_TOKEN": ""}, "token", "missing"),
    ],
)
def test_what_is_wrong_with_slack_is_told(api: World, changed: dict[str, Any], name: str, state: str) -> None:
    assert slack(api, **changed)["slack", name]["state"] == state


def test_a_webhook_will_do_and_is_not_shown(api: World) -> None:
    hook: dict[str, Any] = {
        "DUMONT_SLACK_BOT_TOKEN": "",
        "DUMONT_SLACK_WEBHOOK_URL": "https://hooks.slack.example/services/T/B/hush",
    }
    found = slack(api, **hook)
    assert found["slack", "webhook"]["state"] == "warning"
    assert "hush" not in json.dumps([*found.values()])
    bad = slack(api, **{**hook, "DUMONT_SLACK_WEBHOOK_URL": "none-hush"})
    assert bad["slack", "webhook"]["state"] == "missing"


# --- DNS ----------------------------------------------------------------------------------------------------------

CLOUDFLARE = {
    "DUMONT_DNS": f"cloudflare:{'0' * 32}",
    "DUMONT_DNS_ZONE": "gpu.example.com",
    "CLOUDFLARE_API_TOKEN": "t0k",
}
CLOUD_DNS = {"DUMONT_DNS": "clouddns:p/z", "DUMONT_DNS_ZONE": "gpu.example.com", "GOOGLE_OAUTH_ACCESS_TOKEN": "ya29.t"}


@pytest.mark.parametrize("environment", [CLOUDFLARE, CLOUD_DNS])
@pytest.mark.parametrize(("answer", "state"), [(Said(200), "ok"), (Said(403), "missing"), (Said(503), "unknown")])
def test_a_zone_is_read(environment: dict[str, str], answer: Said, state: str) -> None:
    with ScriptedServer(lambda _: replace(answer)) as server:
        found = {f.name: f for f in names.look(environment, urls=(server.url, server.url))}
        assert found["zone"].state == state
        assert "/managedZones/z/" in server.asked[0].path or "/zones/000" in server.asked[0].path


def test_what_is_wrong_with_dns_is_told_before_anybody_is_asked(api: World) -> None:
    assert doctor(api, DUMONT_DNS="elsewhere")[1]["dns", "zone"]["state"] == "missing"
    without = {**CLOUDFLARE, "CLOUDFLARE_API_TOKEN": "", "DUMONT_DNS_ZONE": ""}
    assert states(doctor(api, **without)[1], "dns") == {"domain": "missing", "token": "missing"}
