"""Releases Dumont: plans, applies, looks whether it answers, and goes back to the last release if it does not.

    python3 infra/release.py prepare --project P    the APIs and the empty secrets, before anything can be deployed
    python3 infra/release.py plan --project P       what would change, kept for `deploy`
    python3 infra/release.py deploy --project P     change it

Settings are Terraform's variables, in gs://P-dumont-state/dumont.tfvars (infra/bootstrap.sh makes it). A release is
kept there too, whole: Terraform files and bundles. So to go back is to apply the last one, as it was: sources,
settings, rights and schedules alike. What holds data is never taken away by it (`prevent_destroy`).

Needs terraform, gcloud, and Python's standard library.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from email.message import Message
from pathlib import Path
from typing import Any, Final

PLAN: Final = "release.plan"
BUNDLES: Final = Path("build") / "functions"
FIRST_TARGETS: Final = ("google_project_service.api", "google_secret_manager_secret.secret")
ANSWER_SECONDS: Final = 30.0
PATIENCE_SECONDS: Final = 60.0
"""Rights reach all of Google's front doors within a minute or so."""
WRONG_KEY: Final = f"dmt_smoketest_{'0' * 64}"
"""Of a key's form and nobody's: to refuse it, a function must ask the store."""


class ReleaseError(Exception):
    """What went wrong, in words."""


class Release:
    """One checkout's release. `root` holds `infra/` and `build/functions/`."""

    def __init__(self, project: str, root: Path, terraform: str, *, patience_seconds: float) -> None:
        self._project = project
        self._root = root
        self._terraform = terraform
        self._patience_seconds = patience_seconds

    @property
    def _store(self) -> str:
        return f"gs://{self._project}-dumont-state"

    def prepare(self) -> None:
        """Make what must be there before the secrets can have values."""
        self._init(self._root)
        targets = [f"-target={target}" for target in FIRST_TARGETS]
        self._run_terraform(self._root, "apply", "-input=false", "-auto-approve", *self._variables(), *targets)

    def plan(self) -> None:
        """Write down what is to change. Raises `ReleaseError` where a secret has no value yet."""
        if missing := [name for name in sorted(self._declared()["secrets"].values()) if not self._has_version(name)]:
            raise ReleaseError(f"secrets without a value: {', '.join(missing)}. Run infra/secrets.sh {self._project}")
        self._init(self._root)
        self._run_terraform(self._root, "plan", "-input=false", f"-out={PLAN}", *self._variables())

    def deploy(self, release_id: str) -> None:
        """Apply the plan; keep the release if it answers. Else go back, and raise `ReleaseError`."""
        try:
            self._run_terraform(self._root, "apply", "-input=false", PLAN)
            self.smoke(self._root)
        except ReleaseError as error:
            last = self._last()
            if last is None:
                where = f"{self._store}/releases/current"
                raise ReleaseError(f"{error}. There is no release to go back to, or {where} cannot be read") from error
            self._go_back(last, error)
            raise ReleaseError(f"{error}. Went back to release {last}") from error
        self._keep(release_id)

    def smoke(self, root: Path) -> None:
        """See that each public function answers, and as it should. Raises `ReleaseError` naming what does not."""
        url = json.loads(self._run_terraform(root, "output", "-json", "url", quiet=True))
        public = sorted(name for name, function in self._declared(root)["functions"].items() if function["public"])
        faults = {name: look(url, name) for name in public}
        until = time.monotonic() + self._patience_seconds
        while any(faults.values()) and time.monotonic() < until:
            time.sleep(3.0)  # nothing tells when a revision serves all its traffic, or an invoker's right holds
            faults |= {name: look(url, name) for name, fault in faults.items() if fault}
        if any(faults.values()):
            raise ReleaseError("; ".join(fault for fault in faults.values() if fault))
        say(f"{len(public)} functions answer at {url}")

    # --- Releases that were kept ----------------------------------------------------------------------------------

    def _keep(self, release_id: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / f"{release_id}.tgz"
            with tarfile.open(archive, "w:gz") as packed:
                for file in sorted((self._root / "infra").glob("*")):
                    if file.suffix in (".tf", ".json", ".hcl") or file.name == ".terraform.lock.hcl":
                        packed.add(file, f"infra/{file.name}")
                for file in sorted((self._root / BUNDLES).glob("*.zip")):
                    packed.add(file, f"{BUNDLES}/{file.name}")
            self._run_gcloud("storage", "cp", str(archive), f"{self._store}/releases/{archive.name}")
            pointer = Path(folder) / "current"
            pointer.write_text(release_id, encoding="utf-8")
            # Last: what it names is whole.
            self._run_gcloud("storage", "cp", str(pointer), f"{self._store}/releases/current")
        say(f"release {release_id} is kept")

    def _last(self) -> str | None:
        try:
            return self._run_gcloud("storage", "cat", f"{self._store}/releases/current").strip() or None
        except ReleaseError:
            return None

    def _go_back(self, release_id: str, why: ReleaseError) -> None:
        say(f"{why}. Going back to release {release_id}")
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            archive = root / "release.tgz"
            self._run_gcloud("storage", "cp", f"{self._store}/releases/{release_id}.tgz", str(archive))
            _unpack(archive, root)
            self._init(root)
            # A secret that only the newer release has stays: its value may be the only one that there is.
            newer = f"-var=more_secrets={json.dumps(self._declared()['secrets'])}"
            self._run_terraform(root, "apply", "-input=false", "-auto-approve", *self._variables(), newer)
            self.smoke(root)

    # --- Terraform and gcloud -------------------------------------------------------------------------------------

    def _init(self, root: Path) -> None:
        self._run_terraform(root, "init", "-input=false", f"-backend-config=bucket={self._project}-dumont-state")

    def _variables(self) -> list[str]:
        settings = self._root / "build" / "dumont.tfvars"
        settings.parent.mkdir(exist_ok=True)
        self._run_gcloud("storage", "cp", f"{self._store}/dumont.tfvars", str(settings))
        return [f"-var-file={settings.resolve()}", f"-var=project={self._project}"]

    def _declared(self, root: Path | None = None) -> dict[str, Any]:
        text = ((root or self._root) / "infra" / "declared.json").read_text(encoding="utf-8")
        declared: dict[str, Any] = json.loads(text)
        return declared

    def _has_version(self, secret: str) -> bool:
        """Whether it has a value. Raises `ReleaseError` where that cannot be asked: that is not none."""
        try:
            found = self._run_gcloud(
                *("secrets", "versions", "list", secret, "--filter=state=ENABLED", "--limit=1", "--format=value(name)"),
                f"--project={self._project}",
            )
        except ReleaseError as error:
            raise ReleaseError(f"whether {secret} has a value cannot be asked ({error}); `prepare` makes it") from error
        return bool(found.strip())

    def _run_terraform(self, root: Path, *arguments: str, quiet: bool = False) -> str:
        return _run([self._terraform, f"-chdir={root / 'infra'}", *arguments], show=not quiet)

    def _run_gcloud(self, *arguments: str) -> str:
        return _run(["gcloud", *arguments], show=False)


# --- Does it answer? --------------------------------------------------------------------------------------------------


def look(url: str, name: str) -> str | None:
    """What is wrong with a function's answer to a caller with a wrong key; None if nothing is."""
    try:
        status, headers, body = _ask(f"{url}/{name}", "GET")
        if status == 405:  # it takes changes alone
            status, headers, body = _ask(f"{url}/{name}", "POST")
    except OSError as error:
        return f"{name} does not answer ({type(error).__name__})"
    if "X-Request-Id" not in headers:
        return f"{name} answers {status}, and not as Dumont does"
    if name == "agent":
        right = status == 200 and headers.get("ETag", "").strip('"') == hashlib.sha256(body).hexdigest()
        return None if right else f"{name} answers {status}, and with no agent whose hash is right"
    return None if status == 401 else f"{name} answers {status} to a wrong key"


def _ask(url: str, method: str) -> tuple[int, Message, bytes]:
    """Status, headers and body. Raises `OSError`."""
    data = b"{}" if method == "POST" else None
    asked = urllib.request.Request(url, data, {"X-Api-Key": WRONG_KEY}, method=method)  # noqa: S310  # from our output
    try:
        with urllib.request.urlopen(asked, timeout=ANSWER_SECONDS) as answer:  # noqa: S310
            return answer.status, answer.headers, answer.read(1 << 22)
    except urllib.error.HTTPError as error:
        return error.code, error.headers, b""


# --- The command ------------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """Tell whoever watches."""
    sys.stdout.write(f"release: {text}\n")
    sys.stdout.flush()


def _unpack(archive: Path, root: Path) -> None:
    """The files of a release. Its own names alone: what else lies in the archive is nobody's."""
    with tarfile.open(archive) as packed:
        for member in packed:
            path = Path(member.name)
            content = packed.extractfile(member) if path.parent in (Path("infra"), BUNDLES) else None
            if content is not None:
                (root / path.parent).mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(content.read())


def _run(command: Sequence[str], *, show: bool) -> str:
    """A program's output, shown as it comes or not. Raises `ReleaseError` if it fails."""
    words = " ".join(part for part in command[:4] if not part.startswith("-"))
    try:
        done = subprocess.run(command, stdout=None if show else subprocess.PIPE, text=True, check=False)
    except OSError as error:
        raise ReleaseError(f"{Path(command[0]).name} is not to be had: {error.strerror}") from error
    if done.returncode:
        raise ReleaseError(f"{words} failed ({done.returncode})")
    return done.stdout or ""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 if what was asked for is not so at the end, 130 if it was interrupted."""
    parser = argparse.ArgumentParser(description="Releases Dumont.")
    parser.add_argument("what", choices=("prepare", "plan", "deploy", "smoke"))
    parser.add_argument("--project", required=True)
    parser.add_argument("--release", default=time.strftime("%Y%m%d-%H%M%S", time.gmtime()), help="its name")
    parser.add_argument("--patience", type=float, default=PATIENCE_SECONDS, help="seconds until a wrong answer counts")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help=argparse.SUPPRESS)
    wish = parser.parse_args(arguments)
    # In Cloud Build an earlier step leaves it in the workspace: no image has both terraform and gcloud.
    brought = wish.root / "build" / "terraform"
    terraform = str(brought) if brought.is_file() else "terraform"
    release = Release(wish.project, wish.root, terraform, patience_seconds=wish.patience)
    try:
        match wish.what:
            case "prepare":
                release.prepare()
            case "plan":
                release.plan()
            case "deploy":
                release.deploy(wish.release)
            case _:
                release.smoke(wish.root)
    except ReleaseError as error:
        sys.stderr.write(f"release: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(f"release: interrupted: what `{wish.what}` had begun may be half done. Run it again\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
