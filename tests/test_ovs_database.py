"""The database's values as plain data, and its records under names that do not change."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from harness.ovs.ovsdb import Column, parse_schema, plain
from harness.ovs.records import content

ONE, OPTIONAL, SET, MAP = (Column("one"), Column("optional"), Column("set"), Column("map"))


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        (ONE, "x", "x"),
        (ONE, 5, 5),
        (ONE, False, False),
        (ONE, ["uuid", "u-1"], "u-1"),
        (OPTIONAL, ["set", []], None),
        (OPTIONAL, 7, 7),
        (OPTIONAL, ["set", [7]], 7),
        (SET, ["set", []], []),
        (SET, 3, [3]),
        (SET, ["set", [3, 1, 2]], [1, 2, 3]),
        (SET, ["uuid", "u-1"], ["u-1"]),
        (SET, ["set", [["uuid", "u-2"], ["uuid", "u-1"]]], ["u-1", "u-2"]),
        (MAP, ["map", []], {}),
        (MAP, ["map", [["b", "2"], ["a", "1"]]], {"a": "1", "b": "2"}),
        (MAP, ["map", [[5, ["uuid", "u-1"]]]], {"5": "u-1"}),
    ],
)
def test_values(column: Column, value: Any, expected: Any) -> None:
    assert plain(column, value) == expected


def test_uuids_become_names_where_they_have_one() -> None:
    value = ["set", [["uuid", "u-1"], ["uuid", "u-2"]]]
    assert plain(SET, value, {"u-1": "p1"}) == ["p1", "u-2"]


SCHEMA = parse_schema(
    {
        "tables": {
            "Open_vSwitch": {
                "columns": {
                    "bridges": {"type": {"key": {"type": "uuid"}, "min": 0, "max": "unlimited"}},
                    "cur_cfg": {"type": "integer"},
                    "ovs_version": {"type": {"key": "string", "min": 0, "max": 1}},
                    "statistics": {
                        "type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"},
                        "ephemeral": True,
                    },
                }
            },
            "Bridge": {
                "columns": {
                    "name": {"type": "string"},
                    "ports": {"type": {"key": {"type": "uuid"}, "min": 0, "max": "unlimited"}},
                    "mirrors": {"type": {"key": {"type": "uuid"}, "min": 0, "max": "unlimited"}},
                    "controller": {"type": {"key": {"type": "uuid"}, "min": 0, "max": "unlimited"}},
                }
            },
            "Port": {
                "columns": {
                    "name": {"type": "string"},
                    "qos": {"type": {"key": {"type": "uuid"}, "min": 0, "max": 1}},
                }
            },
            "Interface": {
                "columns": {
                    "name": {"type": "string"},
                    "ofport": {"type": {"key": "integer", "min": 0, "max": 1}},
                }
            },
            "Mirror": {
                "columns": {
                    "name": {"type": "string"},
                    "output_port": {"type": {"key": {"type": "uuid"}, "min": 0, "max": 1}},
                }
            },
            "Controller": {"columns": {"target": {"type": "string"}}},
            "QoS": {
                "columns": {
                    "type": {"type": "string"},
                    "queues": {
                        "type": {
                            "key": {"type": "integer"},
                            "value": {"type": "uuid"},
                            "min": 0,
                            "max": "unlimited",
                        }
                    },
                }
            },
            "Queue": {"columns": {"dscp": {"type": {"key": "integer", "min": 0, "max": 1}}}},
        }
    }
)


def test_the_schema_gives_columns_their_shape() -> None:
    root = SCHEMA["Open_vSwitch"]
    assert root["bridges"] == Column("set")
    assert root["cur_cfg"] == Column("one")
    assert root["ovs_version"] == Column("optional")
    assert root["statistics"] == Column("map", ephemeral=True)


def rows() -> dict[str, list[dict[str, Any]]]:
    """One and the same content, under UUIDs that are different every time."""
    made: dict[str, str] = {}

    def ref(name: str) -> list[str]:
        return ["uuid", made.setdefault(name, str(uuid.uuid4()))]

    def row(key: str, /, **columns: Any) -> dict[str, Any]:
        return {"_uuid": ref(key), **columns}

    nothing: list[Any] = ["set", []]
    return {
        "Open_vSwitch": [
            row(
                "root",
                bridges=["set", [ref("br1"), ref("br0")]],
                cur_cfg=7,
                ovs_version="3.5.0",
                statistics=["map", [["load", "1"]]],
            )
        ],
        "Bridge": [
            row(
                "br0",
                name="br0",
                ports=["set", [ref("p1"), ref("p2")]],
                mirrors=ref("m"),
                controller=["set", [ref("c1"), ref("c2")]],
            ),
            row("br1", name="br1", ports=nothing, mirrors=ref("m1"), controller=nothing),
        ],
        "Port": [row("p1", name="p1", qos=ref("q")), row("p2", name="p2", qos=ref("q"))],
        "Interface": [row("i1", name="p1", ofport=4)],
        "Mirror": [
            row("m", name="span", output_port=ref("p2")),
            row("m1", name="span", output_port=nothing),
        ],
        "Controller": [row("c1", target="tcp:a"), row("c2", target="tcp:b")],
        "QoS": [
            row("q", type="linux-htb", queues=["map", [[0, ref("queue")]]]),
            row("lost", type="linux-hfsc", queues=["map", []]),
        ],
        "Queue": [row("queue", dscp=nothing), row("loose", dscp=5)],
    }


def test_records_have_names_that_two_readings_share() -> None:
    first, second = content(SCHEMA, rows()), content(SCHEMA, rows())
    assert first == second
    assert first == {
        "Bridge": {
            "br0": {
                "name": "br0",
                "ports": ["p1", "p2"],
                "mirrors": ["br0.mirrors[span]"],
                "controller": ["br0.controller[tcp:a]", "br0.controller[tcp:b]"],
            },
            "br1": {"name": "br1", "mirrors": ["br1.mirrors[span]"]},
        },
        "Controller": {
            "br0.controller[tcp:a]": {"target": "tcp:a"},
            "br0.controller[tcp:b]": {"target": "tcp:b"},
        },
        "Interface": {"p1": {"name": "p1"}},
        "Mirror": {
            "br0.mirrors[span]": {"name": "span", "output_port": "p2"},
            "br1.mirrors[span]": {"name": "span"},
        },
        "Open_vSwitch": {".": {"bridges": ["br0", "br1"], "ovs_version": "3.5.0"}},
        "Port": {
            "p1": {"name": "p1", "qos": "p1.qos"},
            "p2": {"name": "p2", "qos": "p1.qos"},
        },
        "QoS": {
            "QoS[0]": {"type": "linux-hfsc"},
            "p1.qos": {"type": "linux-htb", "queues": {"0": "p1.qos.queues[0]"}},
        },
        "Queue": {"Queue[0]": {"dscp": 5}, "p1.qos.queues[0]": {}},
    }
