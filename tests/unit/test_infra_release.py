"""`infra/release.py` and its scripts: with programs in the place of terraform and gcloud that keep what they are told,
and functions that answer well or badly as the release that was applied is good or bad."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from infra import release
from tests.unit.infra_support import INFRA

AGENT = b"print('the agent')"
TERRAFORM = """#!/bin/sh
echo "$*" >> "$CLOUD/terraform"
here=${1#-chdir=}
case "$2" in
output) printf '"%s"\\n' "$(cat "$CLOUD/url")" ;;
plan)
    grep -q stops "$here/version.tf" && kill -INT $PPID
    cp "$here/version.tf" "$here/release.plan" ;;
apply)
    grep -q fails "$here/version.tf" && exit 1
    cp "$here/version.tf" "$CLOUD/deployed" ;;
esac
exit 0
"""
GCLOUD = """#!/bin/bash
echo "$*" >> "$CLOUD/gcloud"
local_of() { case "$1" in gs://*) echo "$CLOUD/gs/${1#gs://}" ;; *) echo "$1" ;; esac; }
case "$1 $2 $3" in
"storage cp "*)
    to=$(local_of "$4"); mkdir -p "$(dirname "$to")"
    [[ $5 == --if-generation-match=0 && -f $to ]] && exit 1
    if [[ $3 == - ]]; then cat > "$to"; else cp "$(local_of "$3")" "$to"; fi ;;
"storage cat "*) cat "$(local_of "$3")" ;;
"storage objects describe") [[ ! -f $CLOUD/away && -f $(local_of "$4") ]] ;;
"secrets versions list")
    [[ -f $CLOUD/away ]] && exit 1
    case "$*" in *DISABLED*) kept=disabled ;; *) kept=secrets ;; esac
    cat "$CLOUD/$kept/$4" 2>/dev/null || true ;;
"secrets versions add") mkdir -p "$CLOUD/secrets"; cat > "$CLOUD/secrets/$4" ;;
*) exit "$(cat "$CLOUD/others" 2>/dev/null || echo 0)" ;;
esac
"""


class Cloud:
    """What the programs and the functions know of each other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.deployed = folder / "deployed"

    def told(self, program: str) -> list[str]:
        file = self.folder / program
        return file.read_text().splitlines() if file.is_file() else []

    def keep(self, name: str, value: str) -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(value)


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    made = Cloud(tmp_path / "cloud")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in (("terraform", TERRAFORM), ("gcloud", GCLOUD)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("CLOUD", str(made.folder))
    made.keep("gs/p-dumont-state/dumont.tfvars", 'region = "us-central1"')
    made.keep("secrets/dumont-vast-api-key", "1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(made))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    made.keep("url", f"http://127.0.0.1:{server.server_port}")
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


def _handler(cloud: Cloud) -> type[BaseHTTPRequestHandler]:
    class Functions(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            bad = "breaks" in cloud.deployed.read_text()
            body = AGENT if self.path == "/agent" else b"{}"
            self.send_response(500 if bad and self.path == "/machines" else 200 if body is AGENT else 401)
            self.send_header("X-Request-Id", "req-12345678")
            self.send_header("ETag", f'"{hashlib.sha256(AGENT).hexdigest()}"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Functions


@pytest.fixture
def checkout(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a checkout whose release is as its name says: good-…, fails-… to apply, breaks-… the functions."""

    def make(version: str) -> Path:
        root = tmp_path / version
        (root / "infra").mkdir(parents=True)
        (root / "build" / "functions").mkdir(parents=True)
        (root / "build" / "functions" / "machines.zip").write_text(version)
        (root / "infra" / "version.tf").write_text(version)
        functions = {"agent": {"public": True}, "machines": {"public": True}, "wake-worker": {"public": False}}
        declared = {"functions": functions, "secrets": {"VAST_API_KEY": "dumont-vast-api-key"}}
        (root / "infra" / "declared.json").write_text(json.dumps(declared))
        return root

    return make


def command(root: Path, what: str, name: str = "r1") -> int:
    given = {"--project": "p", "--root": str(root), "--release": name, "--patience": "0"}
    return release.main([what, *(word for pair in given.items() for word in pair)])


def test_a_release_that_answers_is_kept(cloud: Cloud, checkout: Callable[[str], Path]) -> None:
    root = checkout("good-1")
    assert command(root, "plan") == 0
    assert command(root, "deploy") == 0
    assert cloud.deployed.read_text() == "good-1"
    assert (cloud.folder / "gs/p-dumont-state/releases/current").read_text() == "r1"
    assert (cloud.folder / "gs/p-dumont-state/releases/r1.tgz").is_file()


@pytest.mark.parametrize("second", ["fails-2", "breaks-2"])
def test_one_that_fails_or_does_not_answer_goes_back_to_the_last(
    cloud: Cloud, checkout: Callable[[str], Path], second: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = checkout("good-1")
    assert (command(first, "plan"), command(first, "deploy", "r1")) == (0, 0)
    root = checkout(second)
    assert command(root, "plan") == 0
    assert command(root, "deploy", "r2") == 1, "whoever waits for the build must see that it is not deployed"
    assert cloud.deployed.read_text() == "good-1"
    assert (cloud.folder / "gs/p-dumont-state/releases/current").read_text() == "r1"
    assert "Went back to release r1" in capsys.readouterr().err
    assert "more_secrets" in [line for line in cloud.told("terraform") if " apply " in line][-1]


def test_the_first_release_has_none_to_go_back_to(
    cloud: Cloud, checkout: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = checkout("breaks-1")
    assert (command(root, "plan"), command(root, "deploy")) == (0, 1)
    assert "machines answers 500" in (said := capsys.readouterr().err)
    assert "no release to go back to" in said


def test_nothing_is_planned_while_a_secret_has_no_value(
    cloud: Cloud, checkout: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (cloud.folder / "secrets" / "dumont-vast-api-key").unlink()
    assert command(checkout("good-1"), "plan") == 1
    assert "dumont-vast-api-key" in capsys.readouterr().err
    assert cloud.told("terraform") == []


def test_a_secret_that_cannot_be_asked_for_is_not_one_without_a_value(
    cloud: Cloud, checkout: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.keep("away", "")
    assert command(checkout("good-1"), "plan") == 1
    said = capsys.readouterr().err
    assert "whether dumont-vast-api-key has a value cannot be asked" in said
    assert "secrets.sh" not in said, "which would make what is there"


def test_who_interrupts_is_told_what_to_do_and_sees_no_traceback(cloud: Cloud, checkout: Callable[[str], Path]) -> None:
    root = checkout("stops-1")
    words = [sys.executable, str(INFRA / "release.py"), "plan", "--project", "p", "--root", str(root)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, start_new_session=True)
    assert done.returncode == 130
    assert "release: interrupted" in done.stderr
    assert "Traceback" not in done.stderr


def test_secrets_are_made_before_anything_that_reads_them(cloud: Cloud, checkout: Callable[[str], Path]) -> None:
    assert command(checkout("good-1"), "prepare") == 0
    init, apply = cloud.told("terraform")
    assert "-backend-config=bucket=p-dumont-state" in init
    assert all(f"-target={target}" in apply for target in release.FIRST_TARGETS)
    terraform = "\n".join(file.read_text(encoding="utf-8") for file in INFRA.glob("*.tf"))
    assert all('resource "{}" "{}"'.format(*target.split(".")) in terraform for target in release.FIRST_TARGETS)


def test_a_function_that_lets_a_wrong_key_in_is_no_release(cloud: Cloud) -> None:
    cloud.deployed.write_text("good")
    url = (cloud.folder / "url").read_text()
    assert release.look(url, "machines") is None
    assert release.look(url, "agent") is None
    assert "does not answer" in (release.look("http://127.0.0.1:1", "agent") or "")


LOOK_AT_ALL = """
import json, sys, threading
from pathlib import Path
import functions_framework
from waitress.server import create_server
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from dumont.build.declarations import load
from infra.release import look

doors = {d.name: e.target for d in load(Path("functions")) for e in d.entries if d.public and e.topic is None}
def as_google_has_it(app):
    return lambda environ, start: app({**environ, "PATH_INFO": environ["PATH_INFO"] or "/"}, start)
made = {n: functions_framework.create_app(t, f"functions/{n}/main.py") for n, t in doors.items()}
apps = {f"/{n}": as_google_has_it(app) for n, app in made.items()}
server = create_server(DispatcherMiddleware(lambda *_: [], apps), host="127.0.0.1", port=0)
threading.Thread(target=server.run, daemon=True).start()
print(json.dumps({name: look(f"http://127.0.0.1:{server.effective_port}", name) for name in doors}))
"""


def test_every_public_function_answers_as_a_release_must(tmp_path: Path) -> None:
    environment = {**os.environ, "DUMONT_STORE": f"sqlite:{tmp_path}/store", "DUMONT_TOKEN_KEY": "k" * 48}
    environment |= {"PYTHONPATH": "."}
    environment.pop("GOOGLE_CLOUD_PROJECT", None)
    command = [sys.executable, "-c", LOOK_AT_ALL]
    done = subprocess.run(
        command, cwd=INFRA.parent, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers = json.loads(done.stdout)
    assert {"agent", "heartbeat", "gateway", "provision"} <= set(answers)
    assert {name: fault for name, fault in answers.items() if fault} == {}


# --- The scripts --------------------------------------------------------------------------------------------------


def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(INFRA / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, start_new_session=True)


def test_bootstrap_leaves_the_settings_that_are_there(cloud: Cloud) -> None:
    done = script("bootstrap.sh", "p", "us-central1", "dumont-p")
    assert done.returncode == 0, done.stderr
    assert (cloud.folder / "gs/p-dumont-state/dumont.tfvars").read_text() == 'region = "us-central1"'
    done = script("bootstrap.sh", "q", "us-central1", "dumont-q")
    assert done.returncode == 0, done.stderr
    assert 'bucket = "dumont-q"' in (cloud.folder / "gs/q-dumont-state/dumont.tfvars").read_text()
    told = "\n".join(cloud.told("gcloud"))
    assert "roles/editor" not in told
    assert "roles/owner" not in told


def test_bootstrap_does_not_write_over_settings_that_it_could_not_look_at(cloud: Cloud) -> None:
    cloud.keep("away", "")
    assert script("bootstrap.sh", "p", "us-central1", "dumont-p").returncode != 0
    assert (cloud.folder / "gs/p-dumont-state/dumont.tfvars").read_text() == 'region = "us-central1"'


def test_no_second_master_key_is_made_while_google_does_not_say_whether_there_is_one(cloud: Cloud) -> None:
    cloud.keep("secrets/dumont-data-master-key", "the first")
    cloud.keep("away", "")
    done = script("secrets.sh", "p")
    assert done.returncode != 0
    assert "cannot be asked" in done.stderr
    assert [line for line in cloud.told("gcloud") if " add " in line] == []


def test_a_master_key_that_is_disabled_is_not_replaced(cloud: Cloud) -> None:
    cloud.keep("disabled/dumont-data-master-key", "1")
    done = script("secrets.sh", "p")
    assert done.returncode != 0
    assert "dumont-data-master-key is disabled" in done.stderr
    assert not (cloud.folder / "secrets" / "dumont-data-master-key").exists()


def test_secrets_that_can_be_made_are_made_once_and_shown_nowhere(cloud: Cloud) -> None:
    first = script("secrets.sh", "p")
    made = {file.name: file.read_text() for file in (cloud.folder / "secrets").iterdir()}
    assert made["dumont-ssh-private-key"].startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert len(made["dumont-data-master-key"]) == len(made["dumont-token-key"]) == 64
    assert made["dumont-data-master-key"] != made["dumont-token-key"]
    assert made["dumont-vast-api-key"] == "1", "what has a value keeps it"
    assert "dumont-b2-application-key" not in made
    assert first.returncode != 0, "some must be given by hand, and nobody is there to ask"
    said = first.stdout + first.stderr + "\n".join(cloud.told("gcloud"))
    assert made["dumont-data-master-key"] not in said
    assert made["dumont-token-key"] not in said
    assert "b2_setup.py" in said
    script("secrets.sh", "p")
    assert (cloud.folder / "secrets" / "dumont-data-master-key").read_text() == made["dumont-data-master-key"]
