"""Errors, names and payloads. PROTOCOL.md: Names and values, Errors, Payloads."""

import json
import secrets
import time
import uuid

from celeriac.v1 import error_pb2, task_pb2

JSON_TYPES = ("", "application/json")

# An outcome of a report or of `Forget` is a code alone. The column `retryable` of
# vectors/errors.tsv says the rest.
RETRYABLE = frozenset(
    error_pb2.ErrorCode.Value("ERROR_CODE_" + name)
    for name in (
        "NOT_FINISHED",
        "QUEUE_FULL",
        "DISK_FULL",
        "DEADLINE_EXCEEDED",
        "OVERLOADED",
        "SHUTTING_DOWN",
        "SESSION_LOST",
        "SLOW_CONSUMER",
        "INTERNAL",
    )
)


class CeleriacError(Exception):
    """The broker said no, or the client found the same reason by itself."""

    def __init__(self, code, message="", retryable=None, retry_after_ms=0):
        super().__init__(f"{error_name(code)}: {message}")
        self.code = code
        self.message = message
        self.retryable = code in RETRYABLE if retryable is None else retryable
        self.retry_after_ms = retry_after_ms

    @classmethod
    def of(cls, error):
        """Of the message `Error`. Its own `retryable` counts, for codes that the client does not
        know too."""
        return cls(error.code, error.message, error.retryable, error.retry_after_ms)

    @property
    def name(self):
        return error_name(self.code)


def error_name(code):
    """The name of a code without its prefix, or the number of a code that this client does not
    know."""
    return short_name(error_pb2.ErrorCode, "ERROR_CODE_", code) or code


def state_name(state):
    """A state that this client does not know counts as UNKNOWN: it is one to ask about again."""
    return short_name(task_pb2.TaskState, "TASK_STATE_", state) or "UNKNOWN"


def submit_name(kind):
    return short_name(task_pb2.SubmitOutcome.Kind, "KIND_", kind) or "UNSPECIFIED"


def cancel_name(kind):
    return short_name(task_pb2.CancelOutcome.Kind, "KIND_", kind) or "UNSPECIFIED"


def short_name(enum, prefix, number):
    return enum.Name(number).removeprefix(prefix) if number in enum.values() else None


def ended(state):
    """SUCCESS, FAILURE and REVOKED do not change any more within their generation."""
    return state in (task_pb2.TASK_STATE_SUCCESS, task_pb2.TASK_STATE_FAILURE, task_pb2.TASK_STATE_REVOKED)


def make_id():
    """A UUID of version 7: the time first, so that ids sort in the order in which they were
    made."""
    milliseconds = time.time_ns() // 1_000_000
    number = milliseconds << 80 | secrets.randbits(80)
    number = number & ~(0xF << 76) | 0x7 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=number))


def write_json(value):
    """NaN and infinity are refused: they are no JSON, and clients in other languages could not read
    them."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def read_json(data, content_type=""):
    if content_type not in JSON_TYPES:
        raise ValueError(f"the content type {content_type!r} is not JSON")
    return json.loads(data)


def read_call(data, content_type):
    """A payload is `[args, kwargs]`; both are always there."""
    call = read_json(data, content_type)
    match call:
        case [list() as args, dict() as kwargs]:
            return args, kwargs
    raise ValueError("the payload is not [args, kwargs]")
