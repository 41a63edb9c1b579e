"""What Google asks for what the control plane uses: USD, list prices of us-west1 and us-central1."""

from __future__ import annotations

AS_OF = "2026-11"
SOURCES = (
    "https://cloud.google.com/firestore/pricing",
    "https://cloud.google.com/run/pricing",
    "https://cloud.google.com/pubsub/pricing",
    "https://cloud.google.com/scheduler/pricing",
)
FIRESTORE_READ = 0.03 / 100_000
FIRESTORE_WRITE = 0.09 / 100_000
FIRESTORE_DELETE = 0.01 / 100_000
FIRESTORE_READS_FREE_PER_DAY, FIRESTORE_WRITES_FREE_PER_DAY = 50_000, 20_000
FIRESTORE_DELETES_FREE_PER_DAY = 20_000
"""Of the (default) database."""
REQUEST = 0.40 / 1_000_000
REQUESTS_FREE_PER_MONTH = 2_000_000
VCPU_SECOND, GIB_SECOND = 0.000_024, 0.000_002_5
"""Billed while a request is served, each request rounded up to a tenth of a second."""
VCPU_SECONDS_FREE_PER_MONTH, GIB_SECONDS_FREE_PER_MONTH = 180_000, 360_000
REQUEST_SECONDS_LEAST = 0.1
VCPU_OF_MIB = {128: 0.083, 256: 0.167, 512: 0.333, 1024: 0.583, 2048: 1.0}
"""What a second-generation function gets that says nothing of processors."""
PUBSUB_TIB = 40.0
PUBSUB_TIB_FREE_PER_MONTH = 10 / 1024
PUBSUB_BYTES_LEAST = 1000
"""Each message counts for at least so many bytes, once in and once out."""
SCHEDULER_JOB_PER_MONTH = 0.10
SCHEDULER_JOBS_FREE = 3
DAYS = 30
