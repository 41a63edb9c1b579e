"""A workspace that is a mount point cannot be renamed: its entries are replaced one by one, on the mount itself.

The mounts are made in a namespace of the test's own, which needs no privilege where the kernel allows such namespaces.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine_rig import Rig, as_json, picture, reference, weights

_MOUNT = """
import os, subprocess, sys
workspace, job, stop_after = sys.argv[1:4]
subprocess.run(["mount", "-t", "tmpfs", "none", workspace], check=True)
os.makedirs(workspace + "/old/inner")
open(workspace + "/old/file", "w").write("what was there before")
open(workspace + "/kept name", "w").write("another content")
device = os.stat(workspace).st_dev
from dumont.agent.engine import swap
from dumont.agent.engine.command import main
import io
if int(stop_after):
    # Killed between two renames: that many names are in place, the others are not.
    left = [int(stop_after)]
    rename = os.rename
    def dying(source, target):
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)
        rename(source, target)
    child = os.fork()
    if not child:
        os.rename = dying
        main(io.StringIO(open(job).read()), io.StringIO())
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
out = io.StringIO()
assert main(io.StringIO(open(job).read()), out) == 0, out.getvalue()
assert os.stat(workspace).st_dev == device
from tests.engine_rig import picture
from pathlib import Path
print(repr(sorted(picture(Path(workspace)).items())))
"""


def _namespace() -> bool:
    try:
        probe = ["unshare", "--user", "--map-root-user", "--mount", "true"]
        return subprocess.run(probe, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    if not _namespace():
        pytest.skip("this system allows no mount namespace")
    rig = Rig(tmp_path)
    (rig.workspace / "m.safetensors").write_bytes(weights(1_500_000))
    (rig.workspace / "kept name").write_bytes(b"small")
    (rig.workspace / "folder/inner").mkdir(parents=True)
    (rig.workspace / "folder/inner/file").write_bytes(b"more")
    (rig.workspace / "link").symlink_to("kept name")
    return rig


@pytest.mark.parametrize("renames_before_a_kill", [0, 1, 3, 5])
def test_a_mount_point_is_restored_whole_and_so_after_a_kill_in_the_midst(
    rig: Rig, tmp_path: Path, renames_before_a_kill: int
) -> None:
    taken = rig.snapshot("s1")
    target = tmp_path / "mount"
    target.mkdir()
    values = {"manifest": reference(taken), "workspace": str(target), "state_dir": str(tmp_path / "new state")}
    job = tmp_path / "job.json"
    job.write_text(as_json(rig.job("restore", "s1", **values)))
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", _MOUNT]
    run = subprocess.run(
        [*command, str(target), str(job), str(renames_before_a_kill)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.strip() == repr(sorted(picture(rig.workspace).items()))
