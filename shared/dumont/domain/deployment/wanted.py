"""What is to be in a Google Cloud project: what `infra/` makes of `infra/declared.json`, by the same names."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

APIS = (
    "artifactregistry.googleapis.com",
    "billingbudgets.googleapis.com",
    "cloudbuild.googleapis.com",
    "cloudfunctions.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "cloudscheduler.googleapis.com",
    "firestore.googleapis.com",
    "iam.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "pubsub.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
    "serviceusage.googleapis.com",
    "storage.googleapis.com",
)
"""Terraform's (`infra/main.tf`), and what Terraform itself needs (`infra/bootstrap.sh`)."""

PERMISSIONS = {
    "cloudbuild.builds.create": "cloudbuild.builds.editor",
    "cloudfunctions.functions.create": "cloudfunctions.admin",
    "run.services.setIamPolicy": "run.admin",
    "cloudscheduler.jobs.create": "cloudscheduler.admin",
    "pubsub.topics.create": "pubsub.admin",
    "pubsub.subscriptions.create": "pubsub.admin",
    "datastore.databases.create": "datastore.owner",
    "datastore.indexes.create": "datastore.owner",
    "secretmanager.secrets.create": "secretmanager.admin",
    "secretmanager.versions.add": "secretmanager.admin",
    "storage.buckets.create": "storage.admin",
    "monitoring.alertPolicies.create": "monitoring.admin",
    "logging.logMetrics.create": "logging.configWriter",
    "logging.logEntries.create": "logging.logWriter",
    "iam.serviceAccounts.create": "iam.serviceAccountAdmin",
    "iam.serviceAccounts.actAs": "iam.serviceAccountUser",
    "iam.roles.create": "iam.roleAdmin",
    "resourcemanager.projects.setIamPolicy": "resourcemanager.projectIamAdmin",
    "serviceusage.services.enable": "serviceusage.serviceUsageAdmin",
}
"""What whoever deploys must be allowed, of each role of `infra/bootstrap.sh` the part that would be missed first, with
that role."""

REGION = "us-central1"
INSTANCES_MAX = 20
"""As `infra/variables.tf` has them where the settings say nothing."""

CLOUDFLARE_SECRET = "dumont-cloudflare-api-token"  # noqa: S105  # its name
_SETTING = re.compile(r'^[ \t]*([a-z_]+)[ \t]*=[ \t]*(?:"([^"\n]*)"|(\d+))', re.MULTILINE)

_CPU_OF_MEMORY = (
    *((128, 83), (256, 167), (512, 333), (1024, 583), (2048, 1000), (4096, 2000)),
    *((8192, 2000), (16384, 4000), (32768, 8000)),
)
"""MiB → thousandths of a processor that Google gives a function with them
(https://cloud.google.com/functions/docs/configuring/memory)."""


class Function(msgspec.Struct, frozen=True, kw_only=True):
    """One function, as far as `infra/declared.json` says what is looked at."""

    topic: str | None = None
    schedule: str | None = None
    memory_mib: int
    cpu: str | None = None
    instances_max: int | None = None

    @property
    def cpu_thousandths(self) -> int:
        """Of a processor, for one instance."""
        if self.cpu is not None:
            return round(float(self.cpu) * 1000)
        return next((cpu for memory, cpu in _CPU_OF_MEMORY if self.memory_mib <= memory), _CPU_OF_MEMORY[-1][1])


class IndexField(msgspec.Struct, frozen=True):
    """One field of an index."""

    path: str
    order: str


class Index(msgspec.Struct, frozen=True):
    """A composite index of one collection."""

    collection: str
    fields: tuple[IndexField, ...]

    @property
    def name(self) -> str:
        """As Terraform's `for_each` has it."""
        return ".".join([self.collection, *(field.path for field in self.fields)])


class Exemption(msgspec.Struct, frozen=True):
    """A field ("*": all) that Firestore is not to index by itself."""

    collection: str
    field: str


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """`infra/declared.json`."""

    functions: dict[str, Function]
    secrets: dict[str, str]
    """Environment variable → name in Secret Manager."""
    indexes: tuple[Index, ...]
    exemptions: tuple[Exemption, ...]
    expiring: tuple[str, ...]
    expires: str


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """All that is looked for in one project."""

    project: str
    region: str
    declared: Declared
    firestore_location: str = ""
    """"" is the region."""
    instances_max: int = INSTANCES_MAX
    dns: str = ""
    bucket: str = ""

    @property
    def state_bucket(self) -> str:
        """Where Terraform keeps its state, and a deployment its settings and releases."""
        return f"{self.project}-dumont-state"

    @property
    def workers(self) -> dict[str, str]:
        """Function → its topic."""
        return {name: each.topic for name, each in self.declared.functions.items() if each.topic}

    @property
    def topics(self) -> tuple[str, ...]:
        """Of work, and of what no worker could take."""
        return tuple(sorted(name for topic in self.workers.values() for name in (topic, f"{topic}-dead")))

    @property
    def jobs(self) -> dict[str, str]:
        """Cloud Scheduler's job → the function that it calls."""
        return {f"dumont-{name}": name for name, each in self.declared.functions.items() if each.schedule}

    @property
    def secrets(self) -> tuple[str, ...]:
        """Their names in Secret Manager."""
        more = (CLOUDFLARE_SECRET,) if self.dns.startswith("cloudflare:") else ()
        return tuple(sorted([*self.declared.secrets.values(), *more]))

    @property
    def accounts(self) -> tuple[str, ...]:
        """Service accounts, by what stands before the @."""
        names = [f"dumont-{name}" for name in self.declared.functions]
        return tuple(sorted([*names, "dumont-builder", "dumont-caller", "dumont-deployer"]))

    @property
    def caller(self) -> str:
        """In whose name Pub/Sub and Cloud Scheduler call."""
        return f"dumont-caller@{self.project}.iam.gserviceaccount.com"

    # --- The commands that mend -----------------------------------------------------------------------------------

    @property
    def deploy(self) -> str:
        """Makes all that Terraform makes."""
        return (
            f"python3 infra/release.py plan --project {self.project} && "
            f"python3 infra/release.py deploy --project {self.project}"
        )

    @property
    def prepare(self) -> str:
        """Makes the APIs and the empty secrets."""
        return f"python3 infra/release.py prepare --project {self.project}"

    @property
    def bootstrap(self) -> str:
        """Makes what must be there before Terraform runs."""
        return f"infra/bootstrap.sh {self.project} {self.region} {self.bucket or 'B2_BUCKET'}"

    def grant(self, *roles: str) -> str:
        """Gives whoever is logged in these roles."""
        role = f"roles/{roles[0]}" if len(roles) == 1 else "roles/$role"
        give = (
            f'gcloud projects add-iam-policy-binding {self.project} --member="user:$(gcloud config get-value account)" '
            f"--condition=None --role={role}"
        )
        return give if len(roles) == 1 else f"for role in {' '.join(roles)}; do {give}; done"


def settings_in(text: str) -> Mapping[str, str]:
    """The plain texts and numbers in a Terraform variables file; lists and maps are left out."""
    return {name: words if words or not digits else digits for name, words, digits in _SETTING.findall(text)}


def wanted_of(project: str, declared: Declared, settings: str, *, region: str | None = None) -> Wanted:
    """What is wanted of a project whose settings (`dumont.tfvars`) are these; "" where they could not be read."""
    said = settings_in(settings)
    instances = said.get("instances_max", "")
    return Wanted(
        project=project,
        region=region or said.get("region") or REGION,
        declared=declared,
        firestore_location=said.get("firestore_location", ""),
        instances_max=int(instances) if instances.isdigit() and int(instances) else INSTANCES_MAX,
        dns=said.get("dns", ""),
        bucket=said.get("bucket", ""),
    )
