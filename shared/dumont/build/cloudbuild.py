"""Writes `cloudbuild.yaml`: check, test, bundle, then plan, deploy, look whether it answers, and if not go back.

What is deployed is Terraform's business (`infra/`), from the same declarations; a test holds the file in step.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

FILE = Path("cloudbuild.yaml")

_HEAD = """\
# Checks, tests, bundles and deploys Dumont: gcloud builds submit, or a trigger on the main branch.
# Written by `make cloudbuild`; change shared/dumont/build/cloudbuild.py. What is deployed, and how, is infra/'s.
#
# A release that does not answer as it should is taken back: the last one that did is applied again, whole, and the
# build fails. The project's settings are in gs://PROJECT-dumont-state/dumont.tfvars; see infra/README.md.
steps:
"""

# Debian with Java, Python 3.11, gcloud and both of Google's emulators: the tests need all of them.
_IMAGE = "gcr.io/google.com/cloudsdktool/google-cloud-cli:emulators"
_TERRAFORM_IMAGE = "hashicorp/terraform:1.11"
_CHECKS = ("lint", "types", "test", "build")

_TAIL = """\
# Made by infra/bootstrap.sh, with the rights that infra/ needs.
serviceAccount: projects/${PROJECT_ID}/serviceAccounts/dumont-deployer@${PROJECT_ID}.iam.gserviceaccount.com

options:
  logging: CLOUD_LOGGING_ONLY
  machineType: E2_HIGHCPU_8

timeout: 5400s
"""


def render() -> str:
    """The whole of `cloudbuild.yaml`."""
    steps = [_step(target, _IMAGE, "bash", [".ci/run", target]) for target in _CHECKS]
    # No image has both terraform and gcloud, so the one program goes into the workspace that all steps share.
    steps.append(_step("terraform", _TERRAFORM_IMAGE, "cp", ["/bin/terraform", "build/terraform"]))
    steps.append(_release_step("plan"))
    steps.append(_release_step("deploy", "--release=${BUILD_ID}"))
    return "\n".join([_HEAD + "\n".join(steps), _TAIL])


def main() -> int:
    """Write `cloudbuild.yaml` in the current folder."""
    FILE.write_text(render(), encoding="utf-8")
    sys.stdout.write(f"{FILE}\n")
    return 0


def _release_step(what: str, *more: str) -> str:
    return _step(what, _IMAGE, "python3", ["infra/release.py", what, "--project=${PROJECT_ID}", *more])


def _step(name: str, image: str, command: str, arguments: Iterable[str]) -> str:
    lines = "".join(f'      - "{argument}"\n' for argument in arguments)
    return f"  - id: {name}\n    name: {image}\n    entrypoint: {command}\n    args:\n{lines}"


if __name__ == "__main__":
    sys.exit(main())
