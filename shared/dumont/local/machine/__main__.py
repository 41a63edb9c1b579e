"""`python -m dumont.local.machine`: one simulated machine until it is interrupted, or the nursery of a market's."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from dumont.local.machine import nursery
from dumont.local.machine.folder import Gpu, MachineFolder, MachineSpec
from dumont.local.machine.process import MachineProcess, bound_listener

ONE_GPU = Gpu(
    name="NVIDIA GeForce RTX 4090",
    uuid="GPU-00000000-0000-4000-8000-000000000000",
    driver_version="560.35.05",
    cuda_version="12.6",
    memory_mib=24564,
    watts=450,
    compute_cap="8.9",
    bus_id="00000000:01:00.0",
)


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m dumont.local.machine", description=__doc__)
    parser.add_argument("--nursery", action="store_true", help="take commands on standard input; for the market")
    parser.add_argument("--folder", type=Path, help="the machine's disk; made if it is not there")
    parser.add_argument("--port", type=int, default=0, help="of its SSH server; 0 picks a free one")
    parser.add_argument("--public-key-file", type=Path, help="who may log in as root")
    options = parser.parse_args()
    if options.nursery:
        return nursery.main()
    if options.folder is None:
        parser.error("--folder is needed")
    return run_one(MachineFolder(options.folder.resolve()), options.port, options.public_key_file)


def run_one(folder: MachineFolder, port: int, public_key_file: Path | None) -> int:
    """Run one machine in the foreground, open at once, until SIGINT or SIGTERM."""
    spec = folder.read_spec() if folder.spec_file.exists() else MachineSpec(gpus=(ONE_GPU,))
    folder.prepare(spec)
    if public_key_file is not None:
        folder.allow_keys(public_key_file.read_text().splitlines())
    listener = bound_listener(port)
    control_out, control_in = os.pipe()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os.close(control_in))
    os.write(control_in, b"boot\nopen\n")
    sys.stdout.write(f"ssh -p {listener.getsockname()[1]} root@127.0.0.1\n")
    sys.stdout.flush()
    MachineProcess(folder, listener, control_out).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
