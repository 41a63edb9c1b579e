"""Google's emulators are found, started, and gone again, whatever ends us; where they are missing we say so."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from dumont.local.emulators import (
    EmulatorFailed,
    EmulatorMissing,
    FirestoreEmulator,
    PubSubEmulator,
    find_java,
    sdk_roots,
)
from tests import waiting

START_AND_WAIT = """
import sys
import psutil
from dumont.local.emulators import PubSubEmulator

with PubSubEmulator() as emulator:
    (java,) = psutil.Process().children()
    print(emulator.host, java.pid, flush=True)
    sys.stdin.readline()
"""


def listens(host: str) -> bool:
    name, port = host.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((name, int(port))) == 0


def sdk_without_emulators(folder: Path) -> dict[str, str]:
    """An environment whose SDK has no emulators."""
    (folder / "platform").mkdir()
    return {"CLOUDSDK_ROOT_DIR": str(folder), "PATH": "/usr/bin:/bin"}


@pytest.mark.emulator
@pytest.mark.parametrize("name", ["firestore_emulator", "pubsub_emulator"])
def test_an_emulator_listens_on_the_host_it_names(name: str, request: pytest.FixtureRequest) -> None:
    host = request.getfixturevalue(name)
    assert host.startswith("127.0.0.1:")
    assert listens(host)


@pytest.mark.emulator
def test_an_emulator_ends_with_its_block_and_leaves_nothing(pubsub_emulator: str) -> None:
    with PubSubEmulator() as emulator:
        assert emulator.host != pubsub_emulator
        ours = [child for child in psutil.Process().children() if emulator.host.split(":")[1] in str(child.cmdline())]
        assert len(ours) == 1
    assert not listens(emulator.host)
    assert not ours[0].is_running()


@pytest.mark.emulator
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_parent_that_is_killed_leaves_no_emulator(pubsub_emulator: str, tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", START_AND_WAIT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},  # what it wrote there is left, and goes with the test's folder
    )
    assert parent.stdout is not None
    host, java_pid = parent.stdout.readline().split()
    java = psutil.Process(int(java_pid))
    assert listens(host)
    parent.kill()
    parent.communicate(timeout=10)
    # A zombie that nobody reaps is none; and the port closes with the last of its threads.
    waiting.wait_for(lambda: not java.is_running() or java.status() == psutil.STATUS_ZOMBIE, "its end")
    waiting.wait_for(lambda: not listens(host), "a closed port")


@pytest.mark.parametrize("emulator", [FirestoreEmulator, PubSubEmulator])
def test_a_missing_emulator_is_said_with_the_way_to_get_it(
    emulator: type[FirestoreEmulator | PubSubEmulator], tmp_path: Path
) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.touch()
    environment = sdk_without_emulators(tmp_path) | {"JAVA_HOME": str(tmp_path)}
    with pytest.raises(EmulatorMissing, match="gcloud components install"), emulator(environment):
        pass


def test_missing_java_is_said(tmp_path: Path) -> None:
    with pytest.raises(EmulatorMissing, match="Java"):
        find_java({"PATH": str(tmp_path)})


def test_an_emulator_that_ends_at_once_says_what_it_said(tmp_path: Path) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'no room for a heap'\nexit 3\n")
    java.chmod(0o755)
    jar = tmp_path / "platform" / "pubsub-emulator" / "lib" / "cloud-pubsub-emulator-0.0.0-all.jar"
    jar.parent.mkdir(parents=True)
    jar.touch()
    environment = {"CLOUDSDK_ROOT_DIR": str(tmp_path), "JAVA_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    with pytest.raises(EmulatorFailed, match="ended with 3: no room for a heap"), PubSubEmulator(environment):
        pass


def test_the_sdk_that_the_environment_names_is_the_only_one_looked_at(tmp_path: Path) -> None:
    assert sdk_roots(sdk_without_emulators(tmp_path)) == [tmp_path]


def test_gcloud_itself_leads_to_its_sdk(tmp_path: Path) -> None:
    gcloud = tmp_path / "sdk" / "bin" / "gcloud"
    gcloud.parent.mkdir(parents=True)
    gcloud.touch(mode=0o755)
    (tmp_path / "sdk" / "platform").mkdir()
    assert tmp_path / "sdk" in sdk_roots({"PATH": str(gcloud.parent)})
