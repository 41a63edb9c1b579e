"""Run in a fresh process: imports one function, makes what its first request needs, and prints the seconds as JSON.

`import_one.py MAIN_PY NEED,NEED,… [HIDDEN,HIDDEN,…]`; hidden modules are as if not installed. Imports nothing but what
the interpreter has loaded anyway before the clock starts.
"""

import sys
import time

main, needs, hidden = sys.argv[1], sys.argv[2].split(","), sys.argv[3:4]
for name in hidden[0].split(",") if hidden and hidden[0] else []:
    sys.modules[name] = None  # type: ignore[assignment]  # None: "cannot be imported"

began = time.perf_counter()
import functions_framework  # noqa: E402, F401

framework = time.perf_counter()
import importlib.util  # noqa: E402

spec = importlib.util.spec_from_file_location("main", main)
assert spec is not None
assert spec.loader is not None
function = importlib.util.module_from_spec(spec)
sys.modules["main"] = function
spec.loader.exec_module(function)
started = time.perf_counter()

if "worker" in needs:
    import dumont.edge.events  # noqa: F401
from dumont.edge import wiring  # noqa: E402

ports = wiring.ports()  # the store with it: the caller's key is looked up there
if "market" in needs:
    ports.providers["vast"]
if "shell" in needs:
    ports.make_shell()
if "bus" in needs:
    # Google's client, which the first message would make: there is nobody here to send it to.
    getattr(ports.bus, "_bus", None)
ended = time.perf_counter()

import json  # noqa: E402

print(json.dumps({"framework": framework - began, "function": started - framework, "adapters": ended - started}))
