"""Each bundle starts as Google would start it: with its own files and requirements, and nothing else within reach."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from dumont.adapters.clock import SystemClock, SystemIds
from dumont.adapters.sqlite_store import SqliteStore
from dumont.build.bundles import Bundle, BundleError, build
from dumont.build.declarations import Entry, load
from dumont.domain.records import Role
from dumont.edge import keys
from tests.end_to_end.bundle_support import Environments, build_bundles, serve

ROOT = Path(__file__).parents[2]
ENTRIES = [(declaration.name, entry) for declaration in load(ROOT / "functions") for entry in declaration.entries]

GATEWAYS = {"gateway", "v1"}
"""Doors to machines: what is at their root, and how they say no, is another matter."""
OWN_PROOF = {"agent": 200, "heartbeat": 400, "provider-webhook": 401, "slack": 401}
"""Doors that no API key opens, and what they say to a stranger: the agent's program is anyone's, the others ask for a
signature or a token of their own (heartbeat, which has no secret here, says that it can check none)."""
DOORS = [e for e in ENTRIES if e[1].topic is None and e[0] not in GATEWAYS and e[0] not in OWN_PROOF]
TO_A_VIEWER = {"advisor": 400, "audit": 403, "idle": 404, "keys": 403, "token": 400}
"""What a door says to a viewer who asks for nothing in particular, where that is neither what it has nor a refusal to
change anything: it wants to know which model or machine, or to be asked by an operator, or by an admin; or (token) has
no secret here to make what is asked for."""
WORKERS = [(name, entry) for name, entry in ENTRIES if entry.topic is not None]

every_function = pytest.mark.parametrize("name", sorted({name for name, _ in ENTRIES}))
every_door = pytest.mark.parametrize(("name", "entry"), DOORS, ids=[entry.name for _, entry in DOORS])
every_worker = pytest.mark.parametrize(("name", "entry"), WORKERS, ids=[entry.name for _, entry in WORKERS])


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    return build_bundles(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def environments(pytestconfig: pytest.Config) -> Environments:
    return Environments(pytestconfig)


def cloud_event(data: dict[str, str], topic: str) -> bytes:
    """A Pub/Sub message as Google delivers it: a CloudEvent, all of it in the body."""
    message = {"data": base64.b64encode(json.dumps(data).encode()).decode(), "messageId": "1"}
    event = {
        "specversion": "1.0",
        "id": "1",
        "type": "google.cloud.pubsub.topic.v1.messagePublished",
        "source": f"//pubsub.googleapis.com/projects/test/topics/{topic}",
        "datacontenttype": "application/json",
        "data": {"message": message, "subscription": f"projects/test/subscriptions/{topic}"},
    }
    return json.dumps(event).encode()


@every_door
def test_a_door_starts_with_its_own_requirements_alone_and_lets_in_who_has_a_key(
    name: str, entry: Entry, bundles: dict[str, Bundle], environments: Environments, tmp_path: Path
) -> None:
    path = tmp_path / "store.sqlite"
    with closing(SqliteStore(path)) as store:
        key = keys.make(store, SystemIds(), SystemClock(), name="test", role=Role.VIEWER)
    with serve(bundles[name], entry, environments.of(bundles[name]), path) as served:
        method = "POST" if served.client.get("/").status_code == 405 else "GET"

        stranger = served.client.request(method, "/")
        assert stranger.status_code == 401, served.log.read_text()
        assert stranger.headers["content-type"] == "application/problem+json"
        assert stranger.json()["code"] == "no_key"
        assert stranger.json()["request_id"] == stranger.headers["x-request-id"]

        known = served.client.request(method, "/", headers={"Authorization": f"Bearer {key}"})
        # A viewer may look, and only look.
        expected = TO_A_VIEWER.get(name, 200 if method == "GET" else 403)
        assert known.status_code == expected, served.log.read_text()
        assert known.json()
    assert key not in served.log.read_text()


@pytest.mark.parametrize(("name", "status"), sorted(OWN_PROOF.items()))
def test_a_door_with_a_proof_of_its_own_starts_with_its_own_requirements_alone(
    name: str, status: int, bundles: dict[str, Bundle], environments: Environments, tmp_path: Path
) -> None:
    entry = next(entry for entry in bundles[name].declaration.entries if entry.topic is None)
    with serve(bundles[name], entry, environments.of(bundles[name]), tmp_path / "store.sqlite") as served:
        method = "GET" if name == "agent" else "POST"
        answer = served.client.request(method, "/", json=None if name == "agent" else {})
        assert answer.status_code == status, (answer.text, served.log.read_text())


@pytest.mark.parametrize("name", sorted(GATEWAYS))
def test_a_gateway_starts_with_its_own_requirements_alone_and_refuses_strangers_before_all_else(
    name: str, bundles: dict[str, Bundle], environments: Environments, tmp_path: Path
) -> None:
    path = tmp_path / "store.sqlite"
    with closing(SqliteStore(path)) as store:
        key = keys.make(store, SystemIds(), SystemClock(), name="test", role=Role.OPERATOR)
    (entry,) = bundles[name].declaration.entries
    with serve(bundles[name], entry, environments.of(bundles[name]), path) as served:
        for address in ("/", "/trainer/8000/", "/chat/completions"):
            assert served.client.post(address).status_code == 401, served.log.read_text()
        known = served.client.post("/trainer/8000/", headers={"Authorization": f"Bearer {key}"})
        assert known.status_code == 404, served.log.read_text()
    assert key not in served.log.read_text()


@every_worker
def test_a_worker_starts_with_its_own_requirements_alone_and_spends_a_message_about_nothing(
    name: str, entry: Entry, bundles: dict[str, Bundle], environments: Environments, tmp_path: Path
) -> None:
    assert entry.topic is not None
    with serve(bundles[name], entry, environments.of(bundles[name]), tmp_path / "store.sqlite") as served:
        for operation_id in ("op-0123456789abcdef", "no such thing"):
            event = cloud_event({"operation_id": operation_id}, entry.topic)
            taken = served.client.post("/", content=event, headers={"Content-Type": "application/cloudevents+json"})
            # Anything else, and Pub/Sub would send it again for days.
            assert 200 <= taken.status_code < 300, served.log.read_text()


def common(bundle: Bundle) -> dict[str, int]:
    """What a bundle holds besides its main.py, with checksums."""
    with zipfile.ZipFile(bundle.archive) as archive:
        return {entry.filename: entry.CRC for entry in archive.infolist() if entry.filename != "main.py"}


NEEDS = {
    "ssh.py": "ssh",
    "tunnel.py": "ssh",
    "tunnel_stream.py": "ssh",
    "b2.py": "b2",
    "b2_http.py": "b2",
    "b2_look.py": "b2",
    "slack.py": "slack",
    "slack_look.py": "slack",
}
NEEDS_IN = {"gateway": "ssh"}
"""Adapter, or folder → the extra that it is made of. The engine is no module of a function's: it travels to hosts as
a file."""


EXTRAS = sorted({tuple(sorted(declaration.extras)) for declaration in load(ROOT / "functions")})


@pytest.mark.parametrize("extras", EXTRAS, ids="-".join)
def test_every_module_of_a_bundle_finds_what_it_imports(
    extras: tuple[str, ...], bundles: dict[str, Bundle], environments: Environments
) -> None:
    # Adapters are imported at first need, so a bundle that starts may still lack what one of them is made of. Those of
    # the same requirements differ in nothing but their main.py, which the tests above have started.
    bundle, *others = (bundle for bundle in bundles.values() if tuple(sorted(bundle.declaration.extras)) == extras)
    assert [other.declaration.name for other in others if common(other) != common(bundle)] == []
    modules = [
        path.relative_to(bundle.folder).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        for path in sorted((bundle.folder / "dumont").rglob("*.py"))
        if NEEDS.get(path.name, NEEDS_IN.get(path.parent.name, "gcp")) in bundle.declaration.extras
        and "engine" not in path.parts
    ]
    binaries = environments.of(bundle)
    command = [str(binaries / "python"), "-c", "\n".join(f"import {module}" for module in [*modules, "main"])]
    done = subprocess.run(command, cwd=bundle.folder, env={}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_same_sources_make_the_same_bytes(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    copied = tmp_path / "functions"
    shutil.copytree(ROOT / "functions", copied, copy_function=shutil.copy)  # with new times
    again = build(copied, ROOT / "requirements", tmp_path / "again")
    assert [bundle.sha256 for bundle in again] == [bundle.sha256 for bundle in bundles.values()]


@every_function
def test_a_zip_holds_what_its_folder_holds(name: str, bundles: dict[str, Bundle]) -> None:
    with zipfile.ZipFile(bundles[name].archive) as archive:
        packed = {entry: archive.read(entry) for entry in archive.namelist()}
    assert list(packed) == sorted(packed)
    folder = bundles[name].folder
    assert packed == {path: (folder / path).read_bytes() for path in packed}
    unpacked = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert set(packed) == {path.as_posix() for path in unpacked if "__pycache__" not in path.parts}
    assert {"main.py", "requirements.txt", "dumont/__init__.py"} <= packed.keys()


@every_function
def test_a_bundle_holds_no_test_no_secret_and_nothing_of_the_local_cloud(name: str, bundles: dict[str, Bundle]) -> None:
    with zipfile.ZipFile(bundles[name].archive) as archive:
        packed = {entry: archive.read(entry) for entry in archive.namelist()}
    others = [entry for entry in packed if not entry.startswith("dumont/")]
    assert sorted(others) == ["main.py", "requirements.txt"]
    assert [
        entry for entry in packed if re.match(r"dumont/(local|cli|build|openapi)/|.*(test|__pycache__|\.env)", entry)
    ] == []
    key = re.compile(rb"dmt_[a-z0-9]{8,32}_[0-9a-f]{64}|-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/]{32}")
    assert [entry for entry, content in packed.items() if key.search(content)] == []


def test_what_lies_beside_a_function_stays_out_of_its_bundle(tmp_path: Path) -> None:
    functions = tmp_path / "functions"
    shutil.copytree(ROOT / "functions" / "search", functions / "search")
    (functions / "search" / ".env").write_text("VAST_API_KEY=secret")
    (functions / "search" / "id_ed25519").write_text("secret")
    (bundle,) = build(functions, ROOT / "requirements", tmp_path / "out")
    assert {path.name for path in bundle.folder.iterdir()} == {"main.py", "requirements.txt", "dumont"}


def test_a_target_that_main_does_not_define_is_found_before_deployment(tmp_path: Path) -> None:
    functions = tmp_path / "functions"
    shutil.copytree(ROOT / "functions" / "search", functions / "search")
    (functions / "search" / "main.py").write_text("def serch() -> None: ...\n")
    with pytest.raises(BundleError, match="has no search"):
        build(functions, ROOT / "requirements", tmp_path / "out")
