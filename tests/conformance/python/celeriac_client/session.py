"""Requests and answers, and their life over lost connections. PROTOCOL.md: The life of a
connection."""

import itertools
import logging
import os
import random
import secrets
import socket
import threading
import time
from concurrent.futures import Future

from celeriac.v1 import broker_pb2, error_pb2, frame_pb2

from .connection import Address, Connection, ConnectionLost
from .values import CeleriacError, error_name

log = logging.getLogger("celeriac")

PROTOCOL = 1
HOSTNAME = socket.gethostname()[:200]
# One name for the program, the same over all its connections.
INSTANCE = f"{HOSTNAME}-{os.getpid()}-{secrets.token_hex(2)}"
REQUEST_SECONDS = 30
# How much longer than the broker the client waits by its own clock.
SLACK_SECONDS = 2
GOODBYE_SECONDS = 2

# An answer of another kind than this fails the request.
ANSWERS = {
    "submit": "submit_reply",
    "get": "get_reply",
    "wait": "wait_reply",
    "watch": "watch_reply",
    "cancel": "cancel_reply",
    "forget": "forget_reply",
    "report": "report_reply",
    "unwatch": "done",
    "credit": "done",
    "goodbye": "done",
}


class Request:
    """One request, and the place for its answer.

    A `kept` request is sent again on the next connection when this one is lost. The sender of a
    request that is not kept is told of the loss, and sends it again when the session calls
    `opened`.
    """

    def __init__(self, kind, body, seconds=REQUEST_SECONDS, kept=True):
        self.kind = kind
        self.kept = kept
        self.answer = Future()
        self.number = 0
        self._body = body
        self._deadline = None if seconds is None else time.monotonic() + seconds

    def then(self, callback):
        """Calls back in the reading thread, before it reads on. Call this before the request is
        posted."""
        self.answer.add_done_callback(callback)
        return self

    def seconds_left(self):
        return None if self._deadline is None else max(0.001, self._deadline - time.monotonic())

    def frame(self):
        """Made anew for each connection: less of the time is left then."""
        seconds = self.seconds_left()
        timeout_ms = 0 if seconds is None else round(seconds * 1000)
        frame = frame_pb2.ClientFrame(request_id=self.number, timeout_ms=timeout_ms, **{self.kind: self._body})
        return frame.SerializeToString()


class Pauses:
    """The pauses before reconnects: each about twice as long as the last one, with a random
    jitter."""

    FIRST = 0.1
    LONGEST = 5.0

    def __init__(self):
        self._next = self.FIRST

    def reset(self):
        self._next = self.FIRST

    def next(self, lease_ms):
        """A session is over after lease_ms: no pause may take more than a third of that, so that
        there are more tries."""
        longest = min(self.LONGEST, lease_ms / 3000) if lease_ms else self.LONGEST
        pause = min(self._next, longest)
        self._next = min(self._next * 2, self.LONGEST)
        return pause * random.uniform(0.5, 1.0)


class Session:
    """The client's session with the broker: it connects, sends, reads, and connects again until it
    is closed.

    Listeners have the methods `opened(welcome)`, `lost(session_over)`, `pushed(kind, body)` and
    `gave_up(error)`. All are called in the thread that reads, with no lock held.
    """

    def __init__(self, url=None, worker=None, figures=frame_pb2.Heartbeat):
        self.limits = broker_pb2.Limits()
        self._address = Address.find(url)
        self._worker = worker
        self._figures = figures
        self._session_id = ""
        self._welcome = None
        self._connection = None
        self._refused = None
        self._numbers = itertools.count(1)
        self._unanswered = {}
        self._listeners = []
        self._lock = threading.Lock()
        self._decided = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="celeriac-reader", daemon=True)

    def start(self):
        self._thread.start()
        return self

    def close(self):
        """Sends Goodbye, if there is a connection."""
        self._closed.set()
        request = Request("goodbye", frame_pb2.Goodbye(), kept=False)
        try:
            self.post(request).answer.result(GOODBYE_SECONDS)
        except (CeleriacError, ConnectionLost, TimeoutError) as error:
            log.debug("no answer to Goodbye: %s", error)
        with self._lock:
            if self._connection:
                self._connection.close()
        self._decided.set()

    def ready(self, seconds=REQUEST_SECONDS):
        """Waits for the first Welcome. The limits are known then."""
        if not self._decided.wait(seconds):
            raise deadline_exceeded()
        if self._refused:
            raise self._refused
        return self.limits

    def post(self, request):
        """Sends a request, now or as soon as there is a connection. Never waits."""
        with self._lock:
            request.number = next(self._numbers)
            self._unanswered[request.number] = request
            problem = self._refused or self._send(request)
        if problem:
            self._fail(request, problem)
        return request

    def reply(self, request):
        """Waits for the answer. When the time is over, the request is not sent again and its answer
        is ignored."""
        left = request.seconds_left()
        try:
            return request.answer.result(None if left is None else left + SLACK_SECONDS)
        except TimeoutError:
            self._fail(request, deadline_exceeded())
        # The answer may have come in the last moment after all.
        return request.answer.result()

    def listen(self, listener):
        """A listener that comes while a connection is open is told so at once; any other, when it
        opens."""
        with self._lock:
            self._listeners.append(listener)
            is_open = self._connection is not None
        if is_open:
            listener.opened(self._welcome)

    def leave(self, listener):
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)

    def _send(self, request):
        """With the lock held. Returns why the request has failed, if it has."""
        if not self._connection:
            return None if request.kept else ConnectionLost("there is no connection")
        data = request.frame()
        if len(data) > self.limits.frame_bytes_max:
            return CeleriacError(error_pb2.ERROR_CODE_FRAME_TOO_LARGE, f"the request has {len(data)} bytes")
        self._connection.send(data)
        return None

    def _fail(self, request, problem):
        with self._lock:
            known = self._unanswered.pop(request.number, None)
        if known:
            request.answer.set_exception(problem)

    # Connecting, again and again.

    def _run(self):
        pauses = Pauses()
        while not self._closed.is_set():
            begun = time.monotonic()
            try:
                self._live()
            except ConnectionLost as lost:
                log.info("the connection is lost: %s", lost)
                retry_after = lost.retry_after
            except CeleriacError as refused:
                self._give_up(refused)
                return
            # A connection that lived for a heartbeat was a good one. One that broke at once makes
            # the pauses grow.
            if self._welcome and time.monotonic() - begun > self._welcome.heartbeat_ms / 1000:
                pauses.reset()
            lease_ms = self._welcome.lease_ms if self._welcome else 0
            self._closed.wait(retry_after + pauses.next(lease_ms))

    def _live(self):
        """The life of one connection. It ends with an exception: ConnectionLost, or the refusal of
        Hello."""
        connection = Connection(self._address)
        try:
            welcome = self._greet(connection)
            self._open(connection, welcome)
            while True:
                self._take(connection.read())
        except ConnectionLost as lost:
            self._shut(lost)
            raise
        finally:
            connection.close()

    def _greet(self, connection):
        """Handshake. Nothing else is sent until Welcome is there."""
        number = next(self._numbers)
        frame = frame_pb2.ClientFrame(request_id=number, hello=self._hello())
        # Python's protobuf writes fields in the order of their numbers: the token comes before the
        # worker's lists.
        connection.write(frame.SerializeToString())
        while True:
            answer = connection.read()
            if answer.request_id == number:
                return welcome_of(answer)
            raise_if_over(answer)

    def _hello(self):
        return frame_pb2.Hello(
            protocol_min=PROTOCOL,
            protocol_max=PROTOCOL,
            client_name="celeriac-python-example",
            client_version="1",
            token=self._address.token,
            instance_id=INSTANCE,
            # The session of a client that is no worker ends with its connection: there is nothing
            # to name.
            session_id=self._session_id if self._worker else "",
            worker=self._worker,
        )

    def _open(self, connection, welcome):
        """A lost connection: resume. Requests without an answer go first, in their order; then the
        listeners begin anew."""
        if self._closed.is_set():
            raise ConnectionLost("the session was closed meanwhile")
        connection.open(welcome, self._heartbeat)
        with self._lock:
            self._connection = connection
            self._welcome = welcome
            self._session_id = welcome.session_id
            self.limits = welcome.limits
            failed = [(request, problem) for request in self._unanswered.values() if (problem := self._send(request))]
            listeners = list(self._listeners)
        for request, problem in failed:
            self._fail(request, problem)
        for listener in listeners:
            listener.opened(welcome)
        self._decided.set()

    def _shut(self, lost):
        """Requests that are kept wait for the next connection."""
        with self._lock:
            was_open = self._connection is not None
            self._connection = None
            failed = [request for request in self._unanswered.values() if not request.kept]
            listeners = list(self._listeners)
        if lost.session_over:
            self._session_id = ""
        for request in failed:
            self._fail(request, lost)
        for listener in listeners if was_open or lost.session_over else []:
            listener.lost(lost.session_over)

    def _give_up(self, refused):
        """Hello was refused, and the same Hello would be refused again: every waiting caller is
        told."""
        log.error("the broker refuses this client: %s", refused)
        with self._lock:
            self._refused = refused
            failed = list(self._unanswered.values())
            listeners = list(self._listeners)
        for request in failed:
            self._fail(request, refused)
        for listener in listeners:
            listener.gave_up(refused)
        self._decided.set()

    def _heartbeat(self):
        """No caller waits for its answer: any bytes from the broker are enough."""
        return frame_pb2.ClientFrame(request_id=next(self._numbers), heartbeat=self._figures()).SerializeToString()

    # Reading.

    def _take(self, frame):
        if frame.request_id:
            self._take_answer(frame)
            return
        raise_if_over(frame)
        kind = frame.WhichOneof("body")
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners if kind else []:
            listener.pushed(kind, getattr(frame, kind))

    def _take_answer(self, frame):
        """PROTOCOL.md, What a client must survive, Answers: an answer without a waiting caller is
        ignored."""
        with self._lock:
            request = self._unanswered.pop(frame.request_id, None)
        if request is None:
            return
        kind = frame.WhichOneof("body")
        if kind == "error":
            request.answer.set_exception(CeleriacError.of(frame.error))
        elif kind != ANSWERS[request.kind]:
            request.answer.set_exception(not_understood(f"{request.kind} was answered with {kind}"))
        else:
            request.answer.set_result(getattr(frame, kind))


def welcome_of(answer):
    """The answer to Hello. A refusal is final, unless the broker says otherwise or was only waiting
    for a slow Hello."""
    kind = answer.WhichOneof("body")
    if kind == "error":
        if answer.error.retryable or answer.error.code == error_pb2.ERROR_CODE_HANDSHAKE:
            raise lost_by(answer.error)
        raise CeleriacError.of(answer.error)
    if kind != "welcome":
        raise ConnectionLost(f"Hello was answered with {kind}")
    if answer.welcome.protocol != PROTOCOL:
        raise CeleriacError(error_pb2.ERROR_CODE_VERSION_MISMATCH, "the broker chose a version that this client did not offer")
    return answer.welcome


def raise_if_over(frame):
    """`Closing`, and an `Error` with request id 0, end the connection whatever their code."""
    kind = frame.WhichOneof("body")
    if frame.request_id == 0 and kind == "closing":
        raise lost_by(frame.closing.error)
    if frame.request_id == 0 and kind == "error":
        raise lost_by(frame.error)


def lost_by(error):
    why = f"{error_name(error.code)}: {error.message}"
    return ConnectionLost(why, error.retry_after_ms, error.code == error_pb2.ERROR_CODE_SESSION_LOST)


def not_understood(message):
    """An unknown answer is never taken for acceptance, and asking again would not help."""
    return CeleriacError(error_pb2.ERROR_CODE_UNSUPPORTED, message, retryable=False)


def deadline_exceeded():
    return CeleriacError(error_pb2.ERROR_CODE_DEADLINE_EXCEEDED, "there was no answer in time")
