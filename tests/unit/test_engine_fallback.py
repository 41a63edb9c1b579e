"""The standard library alone reads and writes the same format; each part that stands in for a wheel agrees with it."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from dumont.agent.engine import codec, crypto_pure
from dumont.agent.engine.blake3_pure import blake3_keyed
from dumont.agent.engine.crypto_libcrypto import load_libcrypto
from dumont.agent.engine.fetch import Fetch, weave
from dumont.build.engine import build, wheels
from tests.engine_rig import Rig, as_json, picture, reference, weights

KEY = bytes(range(32))
BARE = """
import runpy, sys
for name in ("blake3", "zstandard", "cryptography", "obstore", "numpy", *sys.argv[2:]):
    sys.modules[name] = None
sys.argv = [sys.argv[1]]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def bare(archive: Path, job: str, *also_missing: str, python: str = sys.executable) -> dict[str, object]:
    """Run engine.pyz in a Python without any of the wheels; its last line."""
    command = [python, "-I", "-c", BARE, str(archive), *also_missing]
    done = subprocess.run(command, input=job, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout, done.stderr
    line: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return line


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("agent")).path


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path)
    (rig.workspace / "m.safetensors").write_bytes(weights(700_001))
    (rig.workspace / "text").write_bytes(b"some text to compress " * 10_000)
    (rig.workspace / "noise").write_bytes(random.Random(1).randbytes(1_500_000))
    (rig.workspace / "link").symlink_to("text")
    return rig


def test_what_the_fallback_stores_the_wheels_restore(rig: Rig, archive: Path, tmp_path: Path) -> None:
    line = bare(archive, as_json(rig.job("snapshot", "s1")))
    assert line["event"] == "result", line
    assert line["hash"] == "blake2b"
    manifest = line["manifest"]
    assert isinstance(manifest, dict)
    taken = rig.snapshot("s2")
    taken.snapshot_id, taken.manifest = "s1", type(taken.manifest)(**manifest)
    rig.restore(taken, tmp_path / "back", options={"read_back": True})
    assert picture(tmp_path / "back") == picture(rig.workspace)


def test_what_the_wheels_store_the_fallback_restores(rig: Rig, archive: Path, tmp_path: Path) -> None:
    taken = rig.snapshot("s1")
    back = str(tmp_path / "back")
    line = bare(archive, as_json(rig.job("restore", "s1", manifest=reference(taken), workspace=back)))
    assert line["event"] == "result", line
    assert line["verified_by"] == "hash"
    assert picture(tmp_path / "back") == picture(rig.workspace)


def test_the_oldest_python_with_nothing_installed_does_both(rig: Rig, archive: Path, tmp_path: Path) -> None:
    python = shutil.which("python3.8", path=os.environ.get("DUMONT_OLD_PYTHON", os.environ["PATH"]))
    if python is None or subprocess.run([python, "-V"], capture_output=True, check=False).returncode:
        pytest.skip("no Python 3.8 here")
    shutil.rmtree(rig.workspace)
    rig.workspace.mkdir()
    (rig.workspace / "file").write_bytes(b"content " * 1000)
    line = bare(archive, as_json(rig.job("snapshot", "s1")), python=python)
    assert line["event"] == "result", line
    manifest = line["manifest"]
    assert isinstance(manifest, dict)
    taken = rig.snapshot("s2")
    taken.snapshot_id, taken.manifest = "s1", type(taken.manifest)(**manifest)
    job = rig.job("restore", "s1", manifest=reference(taken), workspace=str(tmp_path / "back"))
    assert bare(archive, as_json(job), python=python)["event"] == "result"
    assert picture(tmp_path / "back") == picture(rig.workspace)


def test_the_archive_is_the_same_from_the_same_sources(tmp_path: Path) -> None:
    assert build(tmp_path / "one").sha256 == build(tmp_path / "two").sha256


def test_every_wheel_is_pinned_by_version_and_hash() -> None:
    names = {wheel.requirement.partition("==")[0] for wheel in wheels()}
    assert {"blake3", "zstandard", "cryptography", "obstore", "numpy"} <= names
    assert all(wheel.sha256 for wheel in wheels())


def test_a_wheel_that_is_not_pinned_is_refused(tmp_path: Path) -> None:
    (tmp_path / "engine.txt").write_text("numpy>=2\n")
    with pytest.raises(ValueError, match="numpy"):
        wheels(tmp_path / "engine.txt")


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 1023, 1024, 1025, 3000, 9 * 1024 + 3, 40_000])
def test_blake3_in_pure_python_agrees_with_the_wheel(length: int) -> None:
    data = random.Random(length).randbytes(length)
    assert blake3_keyed(KEY, data) == blake3(data, key=KEY).digest()


@settings(max_examples=30, deadline=None)
@given(plain=st.binary(max_size=200), bound=st.binary(max_size=40), nonce=st.binary(min_size=12, max_size=12))
def test_aes_gcm_is_the_same_in_all_three(plain: bytes, bound: bytes, nonce: bytes) -> None:
    library = load_libcrypto()
    expected = AESGCM(KEY).encrypt(nonce, plain, bound)
    assert crypto_pure.encrypt(KEY, nonce, plain, bound) == expected
    assert crypto_pure.decrypt(KEY, nonce, expected, bound) == plain
    broken = bytes([expected[0] ^ 1]) + expected[1:]
    assert crypto_pure.decrypt(KEY, nonce, broken, bound) is None
    if library is not None:
        sealed, opened = bytearray(len(expected)), bytearray(len(plain))
        library.encrypt(KEY, nonce, memoryview(plain), bound, memoryview(sealed))
        assert sealed == expected
        assert library.decrypt(KEY, nonce, memoryview(expected), bound, memoryview(opened))
        assert opened == plain
        assert not library.decrypt(KEY, nonce, memoryview(broken), bound, memoryview(opened))


def test_small_files_are_read_among_large_ones() -> None:
    large = [Fetch(0, at, at + 1, at, [at]) for at in range(6)]
    small = [Fetch(1, at, at + 1, at, [10 + at]) for at in range(3)]
    chunks_of = {frame: list(range(100)) if frame >= 10 else [frame] for frame in (*range(6), 10, 11, 12)}
    order = weave(small + large, chunks_of)
    assert [fetch.pack for fetch in order] == [0, 1, 0, 0, 1, 0, 0, 1, 0]
    assert [fetch.start for fetch in order if fetch.pack == 0] == [0, 1, 2, 3, 4, 5]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 99), length=st.integers(0, 300_000), holds=st.sampled_from([codec.ANY, codec.HALF]))
def test_any_frame_is_decoded_to_what_was_encoded(seed: int, length: int, holds: int) -> None:
    chance = random.Random(seed)
    plain = [chance.randbytes(length), bytes(length), (b"abc%d" % seed * length)[:length]][seed % 3]
    how, stored = codec.Codec().encode(memoryview(plain), holds)
    assert bytes(codec.Codec().decode(how, memoryview(bytes(stored)), length)) == plain
