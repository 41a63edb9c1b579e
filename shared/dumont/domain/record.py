"""What all records have in common, and how they change: while a deployment goes on, versions run side by side.

- **A field may join**, with a default, at any time. Code that does not know it keeps it where it writes the record over
  (`adapters.unknown_fields`), which is why a record is read in the transaction that writes it over.
- **A word may join** those that a field can hold. Code that does not know it refuses the record, until that is another.
- **Any other change** needs the kind's next `schema_version` (say it as the field's default) and a migration from the
  one before. What is read is migrated; what is stored is when it is next written. So queries see the old shape yet: a
  field that one asks by keeps its name and its sense. Earlier code refuses such a record (`RecordTooNew`) and leaves it
  to the later.

`tests/data/records` has what each version wrote, and `python -m tests.golden_records` notes a change that is no harm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import msgspec

Migration = Callable[[dict[str, Any]], dict[str, Any]]
"""A document of one schema version as one of the next: pure, and of a document that it may change at the top."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A document of the store."""

    collection: ClassVar[str]
    migrations: ClassVar[tuple[Migration, ...]] = ()
    """The first leads from schema version 1 to 2."""
    id: str
    schema_version: int = 1
