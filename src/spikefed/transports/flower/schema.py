"""A request or a reply as the one record that a Flower message carries. What comes in is checked field by field."""

from __future__ import annotations

import math
from typing import Any, get_args

from flwr.app import ConfigRecord, RecordDict

from spikefed.errors import PacketError
from spikefed.federated.exchange import Action, Reply, Request

SCHEMA = 1
RECORD = "spikefed"
REPORT_LIMIT = 32
"""Most numbers that a client may report beside its packet."""


def pack_request(request: Request, run: str, public: str = "") -> RecordDict:
    """One record: what to do, for whom, in which round of which run, and the packet.

    Args:
        request: what the server asks.
        run: identity of the run.
        public: what the server says of its public set (`spikefed.data.PublicFacts.told`), for clients to compare.
    """
    fields: dict[str, Any] = {
        "schema": SCHEMA,
        "run": run,
        "client": request.client,
        "round": request.round,
        "action": request.action,
        "has_packet": request.downlink is not None,
        "packet": request.downlink or b"",
        "public": public,
    }
    return RecordDict({RECORD: ConfigRecord(fields)})


def unpack_request(content: RecordDict) -> tuple[Request, str]:
    """The request and the run's identity.

    Raises:
        PacketError: another schema, or a field that is missing or of the wrong type.
    """
    fields = _fields(content)
    packet = _typed(fields, "packet", bytes)
    action = _typed(fields, "action", str)
    if action not in get_args(Action):
        raise PacketError("action", f"{action[:40]!r} is not known; server and client need the same spikefed")
    request = Request(
        _typed(fields, "client", int),
        _typed(fields, "round", int),
        packet if _typed(fields, "has_packet", bool) else None,
        action,  # type: ignore[arg-type]
    )
    return request, _typed(fields, "run", str)


def public_of(content: RecordDict) -> str:
    """What the server says of its public set; empty where it says nothing.

    Raises:
        PacketError: another schema, or no text.
    """
    fields = _fields(content)
    return _typed(fields, "public", str) if "public" in fields else ""


def pack_reply(reply: Reply, run: str) -> RecordDict:
    """One record: the packet, and what the client says beside it."""
    report = {name: float(value) for name, value in reply.report.items() if math.isfinite(value)}  # nan says: nothing
    fields: dict[str, Any] = {
        "schema": SCHEMA,
        "run": run,
        "client": reply.client,
        "round": reply.round,
        "packet": reply.uplink,
        "needs_intra": reply.needs_intra,
        "error": reply.error or "",
        **({"needs_rows": True} if reply.needs_rows else {}),
        "report_names": list(report),
        "report_values": list(report.values()),
    }
    return RecordDict({RECORD: ConfigRecord(fields)})


def unpack_reply(content: RecordDict, run: str, client: int) -> Reply:
    """The reply of the client whose key the message came under.

    Raises:
        PacketError: another schema, run or client, or a field that is missing, of the wrong type or too long.
    """
    fields = _fields(content)
    if (got := _typed(fields, "run", str)) != run:
        raise PacketError("run", f"{got[:40]!r} is not this run")
    if (number := _typed(fields, "client", int)) != client:
        raise PacketError("client", f"the key of client {client} signed for client {number}")
    names, values = fields.get("report_names", []), fields.get("report_values", [])
    if not isinstance(names, list) or not isinstance(values, list) or len(names) != len(values):
        raise PacketError("report", "names and values do not match")
    if len(names) > REPORT_LIMIT or any(not isinstance(name, str) or len(name) > 40 for name in names):
        raise PacketError("report", f"more than {REPORT_LIMIT} numbers, or a name that is too long")
    if any(not isinstance(value, int | float) or not math.isfinite(value) for value in values):
        raise PacketError("report", "a value is not a finite number")
    return Reply(
        client,
        _typed(fields, "round", int),
        _typed(fields, "packet", bytes),
        {str(name): float(value) for name, value in zip(names, values, strict=True)},
        _typed(fields, "needs_intra", bool),
        _typed(fields, "error", str)[:400] or None,
        needs_rows=_typed(fields, "needs_rows", bool) if "needs_rows" in fields else False,
    )


def _fields(content: RecordDict) -> ConfigRecord:
    fields = content.get(RECORD)
    if not isinstance(fields, ConfigRecord) or len(content) != 1:
        raise PacketError("schema", f"the message holds no record '{RECORD}' of its own")
    schema = fields.get("schema")
    if schema != SCHEMA:
        raise PacketError("schema", f"{schema!r} came, this spikefed reads {SCHEMA}; install the same version")
    return fields


def _typed(fields: ConfigRecord, name: str, kind: type) -> Any:
    value = fields.get(name)
    if type(value) is not kind:
        raise PacketError(name, f"a {kind.__name__} was expected, {type(value).__name__} came")
    return value
