"""What the object store asks for, dated. Backblaze B2, pay as you go, USD."""

from __future__ import annotations

AS_OF = "2026-04"
SOURCE = "https://www.backblaze.com/cloud-storage/pricing"
STORAGE_USD_PER_GB_MONTH = 0.006
"""$6 per TB and month; billed by the byte and hour. The first 10 GB of an account are free: others may use them, so
that they are not counted here, and this errs by six cents a month at most."""
DAYS_PER_MONTH = 30.0
DOWNLOAD_USD_PER_GB = 0.01
FREE_DOWNLOAD_TIMES = 3.0
"""Downloads of a month are free up to so many times what is stored on average."""
PROVIDER = "b2"
