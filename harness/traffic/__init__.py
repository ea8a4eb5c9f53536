"""Frames, probes, sightings: what is sent, what is seen, and what that means."""

from harness.traffic.archive import HistoryError
from harness.traffic.batch import Batch, Change, HeardAt, NotOnce, Sent, Unknown
from harness.traffic.explain import explain
from harness.traffic.frames import Blank, Tag, from_scapy, probe_frame
from harness.traffic.history import History
from harness.traffic.identity import Identity, Template, stamp, stamp_many
from harness.traffic.ledger import Flow, Ledger
from harness.traffic.matrix import MatrixPlan, ProbeMatrix, Reach
from harness.traffic.operations import Operation
from harness.traffic.outages import Outage
from harness.traffic.sightings import Point, Sighting

__all__ = [
    "Batch",
    "Blank",
    "Change",
    "Flow",
    "HeardAt",
    "History",
    "HistoryError",
    "Identity",
    "Ledger",
    "MatrixPlan",
    "NotOnce",
    "Operation",
    "Outage",
    "Point",
    "ProbeMatrix",
    "Reach",
    "Sent",
    "Sighting",
    "Tag",
    "Template",
    "Unknown",
    "explain",
    "from_scapy",
    "probe_frame",
    "stamp",
    "stamp_many",
]
