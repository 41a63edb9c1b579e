"""Every kind of record that is stored: one collection each."""

from __future__ import annotations

from dumont.domain.alerts import Alert, Told
from dumont.domain.audit import AuditEntry
from dumont.domain.budgets import Budget, Credit
from dumont.domain.chats import Chat
from dumont.domain.heartbeats import Heartbeat
from dumont.domain.idle_history import IdleHistory
from dumont.domain.jobs import Job, JobLog
from dumont.domain.keys import ApiKey, TokenKey
from dumont.domain.ledger import LedgerEntry
from dumont.domain.notices import WebhookEvent
from dumont.domain.quotas import Spent
from dumont.domain.records import Instance, Machine, Operation, Record, Schedule
from dumont.domain.reputation import HostRecord
from dumont.domain.rest import SweepRest
from dumont.domain.routing import Route
from dumont.domain.snapshots import Collected, Snapshot
from dumont.domain.subscriptions import Delivery, Subscription, SubscriptionIndex

RECORDS: tuple[type[Record], ...] = (
    Machine,
    Instance,
    Operation,
    LedgerEntry,
    Budget,
    Credit,
    ApiKey,
    TokenKey,
    Schedule,
    Snapshot,
    Collected,
    Heartbeat,
    HostRecord,
    Route,
    SweepRest,
    WebhookEvent,
    Job,
    JobLog,
    Alert,
    Told,
    Chat,
    Spent,
    AuditEntry,
    IdleHistory,
    Subscription,
    SubscriptionIndex,
    Delivery,
)
