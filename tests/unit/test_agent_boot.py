"""The agent's file, its script and its token, and that it runs on old Pythons."""

from __future__ import annotations

import ast
import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.agent import boot, tokens
from dumont.agent.tokens import AgentIdentity

HOST = Path(boot.__file__).parent / "host"
SECRET = b"a secret of the control plane"
LONGEST = boot.AgentConfig(
    url="https://a-region-with-a-name-northeast1-and-a-project-with-a-long-id.cloudfunctions.net",
    token="t" * tokens.CHARACTERS_MOST,
    machine="m" * 40,
    instance="dumont.deployment1234567." + "m" * 40 + ".12345." + "u" * 32,
    epoch=12345,
    workspace="/a/workspace/that/lies/deep" * 10,
)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-.", min_size=1, max_size=60)


def test_the_file_is_the_same_each_time_and_is_its_hash() -> None:
    first = boot.agent_file()
    boot.agent_file.cache_clear()
    assert boot.agent_file() == first
    assert boot.agent_sha256() == hashlib.sha256(first).hexdigest()
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
        assert {f"dumont/agent/host/{path.name}" for path in HOST.glob("*.py")} <= set(archive.namelist())


def test_the_agent_is_python_3_8_and_the_standard_library_alone() -> None:
    for path in HOST.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes(), str(path), feature_version=(3, 8))):
            modules: list[str] = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            for module in modules:
                assert module.startswith("dumont.agent.host") or module.split(".")[0] in sys.stdlib_module_names, path


def test_no_call_of_the_agent_is_newer_than_python_3_8() -> None:
    # Annotations are never evaluated, and so not looked at: each file says `from __future__ import annotations`.
    vermin = "import sys; from vermin import main; main()"
    words = ["--target=3.8-", "--violations", "--no-tips", str(HOST)]
    done = subprocess.run([sys.executable, "-c", vermin, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_starts_no_heavier_than_it_must() -> None:
    script = "import sys; import dumont.agent.host.main; print(*sorted(sys.modules))"
    path = str(HOST.parents[2])
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {path!r}); {script}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not {"asyncio", "logging", "dataclasses_json", "multiprocessing", "concurrent.futures"} & set(
        done.stdout.split()
    )


def test_the_script_fits_whatever_the_names() -> None:
    assert len(boot.on_start(LONGEST)) <= boot.ON_START_CHARACTERS_MOST


def test_a_script_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="characters"):
        boot.on_start(msgspec.structs.replace(LONGEST, workspace="w" * 2000))


def test_no_name_gets_out_of_its_place_in_the_script() -> None:
    evil = "'; touch /tmp/x; '\nDUMONT\n$(id)`id`"
    script = boot.on_start(msgspec.structs.replace(LONGEST, machine=evil, workspace=evil, url=f"http://x/{evil}"))
    here = script.index("<<'DUMONT'\n")
    line = script[here:].split("\n")[1]
    assert msgspec.json.decode(line)["machine"] == evil
    assert script[here:].split("\n")[2] == "DUMONT"
    with pytest.raises(ValueError, match="instance"):
        boot.on_start(msgspec.structs.replace(LONGEST, instance=evil))
    with pytest.raises(ValueError, match="instance"):
        boot.on_start(msgspec.structs.replace(LONGEST, instance=""))


def test_no_repr_shows_the_token() -> None:
    assert LONGEST.token not in repr(LONGEST)


def test_a_token_says_whose_it_is() -> None:
    token = tokens.make(SECRET, "trainer", 3, "dumont.main.trainer.3.x_y")
    assert token.startswith("dag_")
    assert tokens.read(SECRET, token) == AgentIdentity(machine="trainer", epoch=3, instance="dumont.main.trainer.3.x_y")
    assert token.isascii()


@given(NAMES, st.integers(0, 10**9), NAMES)
def test_every_token_reads_back(machine: str, epoch: int, instance: str) -> None:
    token = tokens.make(SECRET, machine, epoch, instance)
    assert tokens.read(SECRET, token) == AgentIdentity(machine=machine, epoch=epoch, instance=instance)
    assert tokens.read(b"another", token) is None


@given(st.data())
def test_a_token_that_was_changed_anywhere_is_none(data: st.DataObject) -> None:
    token = tokens.make(SECRET, "trainer", 3, "instance")
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters().filter(lambda character: character != token[place]))
    assert tokens.read(SECRET, token[:place] + other + token[place + 1 :]) is None


@given(st.text())
def test_no_text_is_a_token(text: str) -> None:
    assert tokens.read(SECRET, text) is None
    assert tokens.read(SECRET, f"dag_{text}") is None


def test_endless_tokens_and_empty_secrets_are_none() -> None:
    assert tokens.read(SECRET, "dag_" + "a" * 10_000_000) is None
    unsigned = tokens.make(SECRET, "trainer", 3, "instance")
    assert tokens.read(b"", unsigned) is None
    with pytest.raises(ValueError, match="secret"):
        tokens.make(b"", "trainer", 3, "instance")


@pytest.mark.parametrize(
    ("machine", "epoch", "instance"), [("a\nb", 1, "i"), ("", 1, "i"), ("a", -1, "i"), ("a", 1, "i" * 900)]
)
def test_what_has_no_token_is_refused(machine: str, epoch: int, instance: str) -> None:
    with pytest.raises(ValueError, match=r"name"):
        tokens.make(SECRET, machine, epoch, instance)
