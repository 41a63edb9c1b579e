"""Invariant 9: no secret that a process was given, or that it made, is in a log, an answer, a URL, a stored record or a
command line. A cloud is given secrets that are like nothing else, is used in every way that brings one into play, and
everything that it left is looked through."""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from dumont.agent import tokens as agent_tokens
from tests.end_to_end.cloud import Cloud, local_cloud, wait_for
from tests.end_to_end.gateway_support import Served
from tests.end_to_end.snapshot_support import ObjectStore

GIVEN = {
    "DUMONT_SLACK_SIGNING_SECRET": "8f1e-slack-signing-secret-not-to-be-seen",
    "DUMONT_SLACK_BOT_TOKEN": "xoxb-7c2d-slack-bot-token-not-to-be-seen",
    "CLOUDFLARE_API_TOKEN": "3b9a-cloudflare-token-not-to-be-seen",
}
SHORTEST = 16
"""Of a secret: shorter ones would be found by chance."""


@dataclass
class Watch:
    """What a cloud shows while it is used: each answer and URL, and the command lines of all of its processes."""

    cloud: Cloud
    answers: list[str] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    commands: set[str] = field(default_factory=set)
    logs: dict[str, str] = field(default_factory=dict)
    """Of hosts, which are gone at the end."""

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="command lines", daemon=True)
        self._thread.start()

    def client(self, secret: str | None, **headers: str) -> httpx.Client:
        """A caller whose answers are kept."""
        proof = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.cloud.port}", headers=proof | headers, timeout=90, trust_env=False,
            event_hooks={"response": [self._keep]},
        )  # fmt: skip

    def keep_logs(self) -> None:
        """What hosts' own programs wrote so far."""
        for path in (self.cloud.folder / "data/market").rglob("*.log"):
            with contextlib.suppress(FileNotFoundError):
                self.logs[str(path)] = path.read_text(errors="replace")

    def close(self) -> None:
        self._over.set()
        self._thread.join(timeout=10)

    def _keep(self, response: httpx.Response) -> None:
        response.read()
        self.urls.append(str(response.request.url))
        self.answers.append(f"{response.headers}\n{response.text}")

    def _look(self) -> None:
        while not self._over.wait(0.02):
            with contextlib.suppress(psutil.Error):
                root = psutil.Process(self.cloud.pid)
                for process in [root, *root.children(recursive=True)]:
                    with contextlib.suppress(psutil.Error):
                        self.commands.add(" ".join(process.cmdline()))


@dataclass
class Used:
    """A cloud that was used, what it showed, and its secrets by name."""

    cloud: Cloud
    watch: Watch
    secrets: dict[str, str]


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Used]:
    """Machines come, save, sleep, wake and go; keys and tokens are made, shown once, used, misused and ended."""
    # DNS is not set, so that Cloudflare's token is one that nothing needs, and that is there all the same.
    with local_cloud(
        tmp_path_factory.mktemp("secrets"), environment={**GIVEN, "DUMONT_WRONG_KEYS_PER_MINUTE": "0"}
    ) as cloud:
        watch = Watch(cloud)
        try:
            yield Used(cloud, watch, {**GIVEN, **_use(cloud, watch)})
        finally:
            watch.close()


def _use(cloud: Cloud, watch: Watch) -> dict[str, str]:
    secrets = _own(cloud) | {"the local cloud's key": cloud.key}
    admin = watch.client(cloud.key)
    # What is shown once is taken past the watch: everything else is not to have it.
    created = cloud.http.post("/keys", json={"name": "ci", "role": "operator"}).json()
    key_id, secrets["a key"] = created["key"]["id"], created["secret"]
    token = httpx.post(f"{cloud.url}/token", headers={"Authorization": f"Bearer {created['secret']}"}, trust_env=False)
    secrets["a token"] = token.json()["token"]
    for name in ("a key", "a token"):
        with watch.client(secrets[name]) as client:
            for path in ("/machines", "/operations", "/costs", "/audit", "/routes", "/v1/models"):
                assert client.get(path).status_code == 200, path
            client.post("/destroy", json={"name": "nobody", "discard": True})

    served = Served(cloud, "trainer", {"models": ["tiny"]})
    secrets["a gateway token"] = served.token
    secrets |= _of_machine(cloud, served)
    served.answers()
    with watch.client(served.token) as client:
        assert client.get(f"/gateway/trainer/{served.port}/echo").status_code == 200
        assert client.post("/v1/chat/completions", json={"model": "nothing"}).status_code == 404
    store = ObjectStore(cloud)
    snapshot = admin.post("/snapshot", json={"name": "trainer"}).json()["operation"]
    keys = wait_for(lambda: store.keys("trainer"), seconds=20, why="the snapshot has its key")
    assert cloud.ended(snapshot)["state"] == "succeeded"
    secrets |= {f"a storage key {number}": str(key["secret"]) for number, key in enumerate(keys)}
    secrets["the object store's key"] = store.account_secret()
    watch.keep_logs()
    served.sleep()
    with watch.client(secrets["a key"]) as client:
        waked = client.get(f"/gateway/trainer/{served.port}/echo", headers={"X-Dumont-Wait": "60"})
        assert waked.status_code == 200, waked.text
    _misuse(watch, secrets, key_id)

    rotated = cloud.http.post(f"/keys/{key_id}/rotate", json={"grace_seconds": 60}).json()
    secrets["a rotated key"] = rotated["secret"]
    for path in ("/keys?all=true", "/audit?limit=500", "/machines?all=true", "/machines/trainer", "/operations",
                 "/machines/trainer/logs", "/snapshot", "/routes", "/jobs", "/budgets"):  # fmt: skip
        assert admin.get(path).status_code == 200, path
    admin.post(f"/keys/{key_id}/revoke")
    for name in ("a key", "a rotated key", "a token"):
        with watch.client(secrets[name]) as client:
            assert client.get("/machines").status_code == 401
    watch.keep_logs()
    served.end()
    admin.close()
    return secrets


OWN = ("market-key", "webhook-secret", "data-master-key", "token-key")


def _own(cloud: Cloud) -> dict[str, str]:
    """What the cloud has made for itself."""
    data = cloud.folder / "data"
    read = {name: (data / name).read_text().strip() for name in OWN}
    made_from = {
        b"dumont agent tokens": "token-key",
        b"dumont api tokens": "token-key",
        b"dumont data key\0trainer": "data-master-key",
    }
    for purpose, name in made_from.items():
        derived = hmac.new(read[name].encode(), purpose, "sha256").digest()
        read[f"{purpose!r}, hex"] = derived.hex()
        read[f"{purpose!r}, base64"] = base64.b64encode(derived).decode().rstrip("=")
    return read | {"the SSH key": (data / "id_ed25519").read_text().splitlines()[2]}


def _of_machine(cloud: Cloud, served: Served) -> dict[str, str]:
    """The token of a machine's agent, as the control plane made it."""
    record = served.record()
    key = (cloud.folder / "data/token-key").read_text().strip().encode()
    secret = hmac.new(key, b"dumont agent tokens", "sha256").digest()
    return {"an agent's token": agent_tokens.make(secret, "trainer", record.epoch, str(record.instance_id))}


def _misuse(watch: Watch, secrets: dict[str, str], key_id: str) -> None:
    """Secrets where they do not belong, half right ones, and requests that fail on the way with a right one."""
    for name in ("a key", "a token", "a gateway token", "an agent's token"):
        secret = secrets[name]
        for text in (secret, secret[:-1], f"{secret}x"):
            for headers in (
                {"Authorization": f"Bearer {text}"},
                {"Authorization": f"Basic {base64.b64encode(f'me:{text}'.encode()).decode()}"},
                {"X-Api-Key": text},
                {"X-Dumont-Token": text},
            ):
                with watch.client(None, **headers) as client:
                    for method, path in (("GET", "/machines"), ("GET", "/gateway/nobody/1/"), ("GET", "/v1/models"),
                                         ("POST", "/heartbeat"), ("POST", "/keys"), ("POST", "/token")):  # fmt: skip
                        client.request(method, path, json={"name": 7} if method == "POST" else None)
    with watch.client(secrets["the local cloud's key"]) as client:
        client.post("/keys", content=b"\xff\x00{")
        client.post(f"/keys/{key_id}/rotate", json={"grace_seconds": -1})
        client.post("/provision", json={"name": "x", "gpu": 5})


def spellings(secret: str) -> Iterator[str]:
    """A secret as it might be written: its telling parts, too."""
    yield secret
    for part in secret.replace(".", "_").split("_"):
        if len(part) >= 32:
            yield part
    yield base64.b64encode(secret.encode()).decode().rstrip("=")[:-2]
    yield json.dumps(secret)[1:-1]


def found_in(used: Used, text: str) -> list[str]:
    return sorted({name for name, secret in used.secrets.items() for s in spellings(secret) if s in text})


def test_there_are_secrets_to_look_for(used: Used) -> None:
    assert len(used.secrets) > 15
    assert [name for name, secret in used.secrets.items() if len(secret) < SHORTEST] == []
    assert len(used.watch.answers) > 100
    assert any("agent" in command for command in used.watch.commands), "processes were looked at while they ran"
    assert found_in(used, f"…{used.secrets['a token']}…") == ["a token"], "the search itself finds"


def test_no_secret_is_in_any_log(used: Used) -> None:
    data = used.cloud.folder / "data"
    ours = [used.cloud.folder / "up.log", *data.glob("*.jsonl")]
    logs = used.watch.logs | {str(path): path.read_text(errors="replace") for path in ours}
    assert any(path.endswith("agent.log") for path in logs)
    assert len(logs) > 2
    for path, text in logs.items():
        assert found_in(used, text) == [], path


def test_no_secret_is_in_an_answer_or_a_url(used: Used) -> None:
    for answer in used.watch.answers:
        assert found_in(used, answer) == [], answer[:500]
    assert found_in(used, "\n".join(used.watch.urls)) == []


def test_no_secret_is_in_a_command_line(used: Used) -> None:
    assert found_in(used, "\n".join(used.watch.commands)) == []


def test_no_secret_is_in_a_stored_record(used: Used) -> None:
    stored = [path for path in (used.cloud.folder / "data").glob("store.sqlite3*") if path.is_file()]
    assert stored
    for path in stored:
        assert found_in(used, path.read_bytes().decode("latin-1")) == [], path


def test_secrets_on_the_disk_are_their_owners_alone(used: Used) -> None:
    """Files that must hold one, and nothing else of the cloud's own."""
    data: Path = used.cloud.folder / "data"
    for name in (*OWN, "id_ed25519"):
        assert (data / name).stat().st_mode & 0o077 == 0, name
    assert (used.cloud.folder / "config/dumont/credentials.json").stat().st_mode & 0o077 == 0
