"""The simulated machine's nvidia-smi. Run with the machine's folder as its first argument, before nvidia-smi's own.

It imports little, so that it starts fast. Files it reads in the folder: `gpus.tsv` (a row a GPU: name, uuid, driver,
CUDA, MiB, watts, compute capability, bus id), `gpu_load` (optional: percent and MiB in use, a row a GPU) and
`no_gpu` (if it exists, the driver does not answer).
"""

from __future__ import annotations

import sys
import time

GPUS_FILE = "gpus.tsv"
LOAD_FILE = "gpu_load"
BROKEN_MARK = "no_gpu"

NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
    "Make sure that the latest NVIDIA driver is installed and running.\n"
)
IDLE_WATTS_SHARE = 0.05
UNITS = {
    "memory.total": "MiB",
    "memory.used": "MiB",
    "memory.free": "MiB",
    "memory.reserved": "MiB",
    "utilization.gpu": "%",
    "utilization.memory": "%",
    "power.draw": "W",
    "power.limit": "W",
    "clocks.sm": "MHz",
}
ALIASES = {"gpu_name": "name", "gpu_uuid": "uuid", "gpu_bus_id": "pci.bus_id"}

Gpu = dict[str, str]


def main(arguments: list[str]) -> int:
    """Answer as nvidia-smi does; the exit status."""
    folder, options = arguments[0], arguments[1:]
    if _read(f"{folder}/{BROKEN_MARK}") is not None:
        sys.stdout.write(NO_DRIVER)
        return 9
    gpus = _gpus(folder)
    fields: list[str] | None = None
    apps: list[str] | None = None
    form: list[str] = []
    listing = False
    while options:
        option = options.pop(0)
        name, sign, value = option.partition("=")
        if name in ("-i", "--id", "--format", "--query-gpu", "--query-compute-apps") and not sign:
            value = options.pop(0) if options else ""
        if name in ("-i", "--id"):
            wanted = value.split(",")
            gpus = [gpu for gpu in gpus if gpu["index"] in wanted or gpu["uuid"] in wanted]
            if not gpus:
                sys.stdout.write("No devices were found\n")
                return 6
        elif name == "--query-gpu":
            fields = [field.strip() for field in value.split(",")]
        elif name == "--query-compute-apps":
            apps = [field.strip() for field in value.split(",")]
        elif name == "--format":
            form = [word.strip() for word in value.split(",")]
        elif name in ("-L", "--list-gpus"):
            listing = True
        else:
            sys.stdout.write(
                f"Invalid combination of input arguments. Please run 'nvidia-smi -h' for help.\n{option}\n"
            )
            return 2
    if listing:
        sys.stdout.write("".join(f"GPU {g['index']}: {g['name']} (UUID: {g['uuid']})\n" for g in gpus))
        return 0
    if fields is not None or apps is not None:
        if "csv" not in form:
            sys.stdout.write("\"--format=\" switch is missing. Please run 'nvidia-smi -h' for help.\n")
            return 2
        return _query(gpus, fields, form) if fields is not None else _no_apps(apps or [], form)
    sys.stdout.write(_table(gpus))
    return 0


def _read(path: str) -> str | None:
    try:
        with open(path) as file:  # noqa: PTH123 - pathlib would double the time that this takes to start
            return file.read()
    except FileNotFoundError:
        return None


def _gpus(folder: str) -> list[Gpu]:
    rows = [line.split("\t") for line in (_read(f"{folder}/{GPUS_FILE}") or "").splitlines()]
    loads = [line.split() for line in (_read(f"{folder}/{LOAD_FILE}") or "").splitlines()]
    now = time.time()
    found = []
    for index, (name, uuid, driver, cuda, memory, watts, capability, bus_id) in enumerate(rows):
        percent, used = (int(loads[index][0]), int(loads[index][1])) if index < len(loads) else (0, 1)
        draw = float(watts) * (IDLE_WATTS_SHARE + (0.9 - IDLE_WATTS_SHARE) * percent / 100)
        milliseconds = int(now % 1 * 1000)
        found.append(
            {
                "index": str(index),
                "count": str(len(rows)),
                "name": name,
                "uuid": uuid,
                "driver_version": driver,
                "cuda_version": cuda,
                "memory.total": memory,
                "memory.used": str(used),
                "memory.free": str(int(memory) - used),
                "memory.reserved": "350",
                "utilization.gpu": str(percent),
                "utilization.memory": str(percent // 2),
                "temperature.gpu": str(31 + percent * 4 // 10),
                "power.draw": f"{draw:.2f}",
                "power.limit": f"{float(watts):.2f}",
                "clocks.sm": "2520" if percent else "210",
                "fan.speed": str(percent // 2),
                "pci.bus_id": bus_id,
                "pstate": "P2" if percent else "P8",
                "compute_cap": capability,
                "compute_mode": "Default",
                "persistence_mode": "Enabled",
                "mig.mode.current": "[N/A]",
                "ecc.errors.uncorrected.volatile.total": "[N/A]",
                "serial": "[N/A]",
                "timestamp": time.strftime("%Y/%m/%d %H:%M:%S", time.gmtime(now)) + f".{milliseconds:03d}",
            }
        )
    return found


def _header(fields: list[str], form: list[str]) -> str:
    if "noheader" in form:
        return ""
    return ", ".join(f"{field} [{UNITS[field]}]" if field in UNITS else field for field in fields) + "\n"


def _query(gpus: list[Gpu], fields: list[str], form: list[str]) -> int:
    for field in fields:
        if not gpus or ALIASES.get(field, field) not in gpus[0]:
            sys.stdout.write(f'Field "{field}" is not a valid field to query.\n\n')
            return 2
    text = _header(fields, form)
    for gpu in gpus:
        values = []
        for field in fields:
            value = gpu[ALIASES.get(field, field)]
            values.append(value if field not in UNITS or "nounits" in form else f"{value} {UNITS[field]}")
        text += ", ".join(values) + "\n"
    sys.stdout.write(text)
    return 0


def _no_apps(fields: list[str], form: list[str]) -> int:
    named = [f"{field} [MiB]" if field in ("used_memory", "used_gpu_memory") else field for field in fields]
    sys.stdout.write("" if "noheader" in form else ", ".join(named) + "\n")
    return 0


def _table(gpus: list[Gpu]) -> str:
    driver, cuda = (gpus[0]["driver_version"], gpus[0]["cuda_version"]) if gpus else ("N/A", "N/A")
    thin = "+-----------------------------------------+------------------------+----------------------+"
    wide = "+" + "-" * 89 + "+"
    lines = [
        time.strftime("%a %b %e %H:%M:%S %Y", time.gmtime()) + " " * 7,
        wide,
        f"| NVIDIA-SMI {driver:<22} Driver Version: {driver:<14} CUDA Version: {cuda:<8} |",
        "|" + thin[1:-1] + "+",
        "| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |",
        "| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |",
        "|                                         |                        |               MIG M. |",
        "|" + thin[1:-1].replace("-", "=") + "|",
    ]
    for gpu in gpus:
        watts, most = f"{float(gpu['power.draw']):.0f}W", f"{float(gpu['power.limit']):.0f}W"
        used, total = gpu["memory.used"] + "MiB", gpu["memory.total"] + "MiB"
        lines += [
            f"| {gpu['index']:>3}  {gpu['name'][:30]:<30}  On | {gpu['pci.bus_id']:>18} Off | {'Off':>20} |",
            f"| {gpu['fan.speed']:>2}%  {gpu['temperature.gpu']:>3}C    {gpu['pstate']:<4} {watts:>13} / {most:>5} |"
            f" {used:>9} / {total:>10} | {gpu['utilization.gpu'] + '%':>7} {'Default':>12} |",
            f"| {'':39} | {'':22} | {'N/A':>20} |",
            thin,
        ]
    lines += [
        " " * 91,
        wide,
        f"| {'Processes:':<87} |",
        "|  GPU   GI   CI        PID   Type   Process name                              GPU Memory |",
        "|        ID   ID                                                               Usage      |",
        "|" + "=" * 89 + "|",
        f"|  {'No running processes found':<86} |",
        wide,
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
