"""Writes `cloudbuild.yaml`: check, test, bundle, then deploy every entry of every function, all at once.

What a function is comes from its `function.toml`; a test holds the file in step with them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from dumont.build.declarations import Entry, FunctionDeclaration, load, secret_id

FILE = Path("cloudbuild.yaml")

_HEAD = """\
# Checks, tests, bundles and deploys Dumont: gcloud builds submit, or a trigger on the main branch.
# Written by `make cloudbuild` from functions/*/function.toml; change those, or shared/dumont/build/cloudbuild.py.
#
# Accounts, secrets, topics and the schedule come from infra/. A public function lets any caller through to Dumont's own
# check of its API key: Google's check would claim the same header.
steps:
"""

# Debian with Java, Python 3.11 and both of Google's emulators: the tests need all of them.
_TEST_IMAGE = "gcr.io/google.com/cloudsdktool/google-cloud-cli:emulators"
_DEPLOY_IMAGE = "gcr.io/google.com/cloudsdktool/google-cloud-cli:slim"
_CHECKS = ("lint", "types", "test", "build")

_TAIL = """\
options:
  logging: CLOUD_LOGGING_ONLY
  machineType: E2_HIGHCPU_8
  dynamicSubstitutions: true

timeout: 3600s
"""

_SUBSTITUTIONS = {
    "_REGION": "us-central1",
    "_DEPLOYMENT": "main",
    "_BUCKET": "dumont-${PROJECT_ID}",
    "_CORS_ORIGINS": "",
    "_LOG_LEVEL": "INFO",
    "_MAX_INSTANCES": "20",
    "_TRIGGER_ACCOUNT": "dumont-trigger@${PROJECT_ID}.iam.gserviceaccount.com",
}


def render(declarations: Sequence[FunctionDeclaration]) -> str:
    """The whole of `cloudbuild.yaml`."""
    steps = [_check_step(target) for target in _CHECKS]
    steps += [_deploy_step(declaration, entry) for declaration in declarations for entry in declaration.entries]
    accounts = {
        account_variable(entry): f"dumont-{entry.name}@${{PROJECT_ID}}.iam.gserviceaccount.com"
        for declaration in declarations
        for entry in declaration.entries
    }
    substitutions = "".join(f'  {name}: "{value}"\n' for name, value in (_SUBSTITUTIONS | accounts).items())
    return "\n".join([_HEAD + "\n".join(steps), f"substitutions:\n{substitutions}", _TAIL])


def deploy_arguments(declaration: FunctionDeclaration, entry: Entry) -> list[str]:
    """What `gcloud` is told, to deploy one entry."""
    # gcloud splits on the mark between the carets, since a list of origins has commas of its own.
    variables = "^|^" + "|".join(
        [
            "GOOGLE_CLOUD_PROJECT=${PROJECT_ID}",
            "DUMONT_DEPLOYMENT=${_DEPLOYMENT}",
            "DUMONT_LOG_LEVEL=${_LOG_LEVEL}",
            "DUMONT_BUCKET=${_BUCKET}",
            "DUMONT_CORS_ORIGINS=${_CORS_ORIGINS}",
            # functions-framework's own: its server has as many threads as the processor has cores, times four
            *([f"THREADS={declaration.concurrency}"] if declaration.concurrency > 1 else []),
        ]
    )
    secrets = ",".join(f"{variable}={secret_id(variable)}:latest" for variable in entry.secrets)
    public = declaration.public and entry.signature == "http"
    return [
        *("functions", "deploy", entry.name, "--quiet", "--gen2"),
        "--region=${_REGION}",
        "--runtime=python311",
        f"--source=build/functions/{declaration.name}",
        f"--entry-point={entry.target}",
        *_trigger(entry),
        f"--memory={declaration.memory_mib}Mi",
        f"--timeout={declaration.timeout_seconds}s",
        *(["--cpu=1", f"--concurrency={declaration.concurrency}"] if declaration.concurrency > 1 else []),
        "--max-instances=${_MAX_INSTANCES}",
        f"--service-account=${{{account_variable(entry)}}}",
        f"--set-env-vars={variables}",
        f"--set-secrets={secrets}" if secrets else "--clear-secrets",
        "--allow-unauthenticated" if public else "--no-allow-unauthenticated",
    ]


def account_variable(entry: Entry) -> str:
    """The substitution that names the service account of one entry, such as _PROVISION_WORKER_ACCOUNT."""
    return f"_{entry.name.upper().replace('-', '_')}_ACCOUNT"


def main() -> int:
    """Write `cloudbuild.yaml` in the current folder."""
    FILE.write_text(render(load(Path("functions"))), encoding="utf-8")
    sys.stdout.write(f"{FILE}\n")
    return 0


def _trigger(entry: Entry) -> list[str]:
    if entry.topic is None:
        return ["--trigger-http"]
    # --retry: a message whose worker died is sent again, rather than dropped.
    return [f"--trigger-topic={entry.topic}", "--trigger-service-account=${_TRIGGER_ACCOUNT}", "--retry"]


def _check_step(target: str) -> str:
    return _step(target, _TEST_IMAGE, "bash", [".ci/run", target])


def _deploy_step(declaration: FunctionDeclaration, entry: Entry) -> str:
    step = _step(f"deploy-{entry.name}", _DEPLOY_IMAGE, "gcloud", deploy_arguments(declaration, entry))
    return step + "    waitFor: [build]\n"


def _step(name: str, image: str, command: str, arguments: Iterable[str]) -> str:
    lines = "".join(f'      - "{argument}"\n' for argument in arguments)
    return f"  - id: {name}\n    name: {image}\n    entrypoint: {command}\n    args:\n{lines}"


if __name__ == "__main__":
    sys.exit(main())
