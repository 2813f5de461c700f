"""Submits tasks and looks at them. PROTOCOL.md: Requests of producers and readers."""

import queue
import threading

from celeriac.v1 import error_pb2, task_pb2

from .connection import ConnectionLost
from .session import Request, Session, not_understood
from .values import CeleriacError, cancel_name, ended, make_id, submit_name, write_json

# A frame has at most 1,048,576 fields, at every depth; it is refused with its connection over that.
FIELDS_MAX = 1_000_000
# The frame around its tasks, and the key and the length of each.
FRAME_ROOM = 64
ITEM_ROOM = 8
ACCEPTED = (
    task_pb2.SubmitOutcome.KIND_CREATED,
    task_pb2.SubmitOutcome.KIND_JOINED,
    task_pb2.SubmitOutcome.KIND_NEW_GENERATION,
)


def make_task(name, args=(), kwargs=None, id=None, on_conflict=None, max_attempts=None, headers=None, **fields):
    """The message `Task`. The id is made here, before the first try, so that a submit can be sent
    again safely."""
    try:
        task = task_pb2.Task(id=id or make_id(), name=name, payload=write_json([list(args), kwargs or {}]), **fields)
        for key, value in (headers or {}).items():
            task.headers[key] = value.encode()
        if on_conflict is not None:
            task.on_conflict = task_pb2.OnConflict.Value("ON_CONFLICT_" + on_conflict)
        if max_attempts is not None:
            task.retry.max_attempts = max_attempts
    except (TypeError, ValueError) as error:
        raise CeleriacError(error_pb2.ERROR_CODE_INVALID_ARGUMENT, str(error)) from error
    return task


class Pending:
    """Answers that are on their way. Their requests were posted already."""

    def __init__(self, session, requests, finish):
        self._session = session
        self._requests = requests
        self._finish = finish

    def result(self):
        """Waits for the answers. A refusal is raised."""
        self.wait()
        return self._finish()

    def wait(self):
        """Waits until all are answered, or their time is over, and raises nothing."""
        for request in self._requests:
            try:
                self._session.reply(request)
            except (CeleriacError, ConnectionLost):
                pass

    def then(self, callback):
        """Calls back, in the thread that reads, when all are answered. For programs that keep the
        order of what they see."""
        missing = [len(self._requests)]
        lock = threading.Lock()

        def answered(_answer):
            with lock:
                missing[0] -= 1
                is_last = missing[0] == 0
            if is_last:
                callback()

        for request in self._requests:
            request.then(answered)
        if not self._requests:
            callback()


class Producer:
    """Each method posts its requests at once and in order, and returns a `Pending`, but for
    `watch`."""

    def __init__(self, url=None):
        self._session = Session(url).start()

    def close(self):
        self._session.close()

    def submit(self, task):
        """The result is the name of the kind, such as CREATED. A refusal is raised."""
        return self._submit([task], only_one)

    def submit_many(self, tasks):
        """The result has a place for each task: the name of the kind of its outcome, or a
        CeleriacError."""
        return self._submit(tasks, list)

    def _submit(self, tasks, result_of):
        limits = self._session.ready()
        outcomes = [refusal_of(task, limits) for task in tasks]
        places = [place for place, refusal in enumerate(outcomes) if refusal is None]
        posted = []
        for batch in batches(tasks, places, limits):
            body = task_pb2.Submit(tasks=[tasks[place] for place in batch])
            posted.append((batch, self._session.post(Request("submit", body))))

        def finish():
            for batch, request in posted:
                for place, outcome in zip(batch, self._submitted(request, len(batch))):
                    outcomes[place] = outcome
            return result_of(outcomes)

        return Pending(self._session, [request for _, request in posted], finish)

    def get(self, ids, with_results=False):
        """The result is a `TaskInfo` for each id, in order."""
        size = self._session.ready().batch_items_max
        parts = [ids[at : at + size] for at in range(0, len(ids), size)]
        posted = [
            (part, self._session.post(Request("get", task_pb2.Get(ids=part, with_results=with_results))))
            for part in parts
        ]

        def finish():
            infos = []
            for part, request in posted:
                infos += self._with_left_out(part, self._session.reply(request), with_results)
            return infos

        return Pending(self._session, [request for _, request in posted], finish)

    def wait(self, ids, seconds, until=task_pb2.TASK_STATE_UNKNOWN, any_of=False, with_results=True):
        """The result is `satisfied` and a `TaskInfo` for each id. Over a lost connection the rest
        of the time is asked for."""
        self._session.ready()
        mode = task_pb2.Wait.MODE_ANY if any_of else task_pb2.Wait.MODE_ALL
        body = task_pb2.Wait(ids=ids, mode=mode, until=until, with_results=with_results)
        request = self._session.post(Request("wait", body, seconds))

        def finish():
            reply = self._session.reply(request)
            return reply.satisfied, self._with_left_out(ids, reply, with_results)

        return Pending(self._session, [request], finish)

    def watch(self, id, with_results=False, told=lambda: None):
        """A `Watch`: go through it to see each state of the task up to its end. `told` is called
        when one more is there."""
        self._session.ready()
        return Watch(self._session, id, with_results, told)

    def cancel(self, ids, force=False, grace_ms=None, reason=""):
        """The result is the name of the kind of each outcome, such as REVOKED."""
        self._session.ready()
        mode = task_pb2.Cancel.MODE_FORCE if force else task_pb2.Cancel.MODE_COOPERATIVE
        body = task_pb2.Cancel(ids=ids, mode=mode, grace_ms=grace_ms, reason=reason)
        request = self._session.post(Request("cancel", body))

        def finish():
            return [cancel_name(outcome.kind) for outcome in self._session.reply(request).outcomes]

        return Pending(self._session, [request], finish)

    def forget(self, ids):
        """The result has a place for each id: None when it is gone, else a CeleriacError."""
        self._session.ready()
        request = self._session.post(Request("forget", task_pb2.Forget(ids=ids)))

        def finish():
            return [CeleriacError(code) if code else None for code in self._session.reply(request).outcomes]

        return Pending(self._session, [request], finish)

    def _submitted(self, request, count):
        """An error of the whole request is that of each of its tasks; the other batches hold."""
        try:
            outcomes = self._session.reply(request).outcomes
            if len(outcomes) != count:
                raise not_understood(f"{count} tasks have {len(outcomes)} outcomes")
        except CeleriacError as error:
            return [error] * count
        return [submitted(outcome) for outcome in outcomes]

    def _with_left_out(self, ids, reply, with_results):
        """`left_out` names the places of what had no room in the frame: it is asked for with
        `Get`."""
        left_out = sorted(set(reply.left_out))
        present = [place for place in range(len(ids)) if place not in set(left_out)]
        if len(present) != len(reply.tasks) or not present:
            raise not_understood(f"{len(ids)} ids have {len(reply.tasks)} tasks")
        infos = dict(zip(present, reply.tasks))
        if left_out:
            rest = self.get([ids[place] for place in left_out], with_results).result()
            infos.update(zip(left_out, rest))
        return [infos[place] for place in range(len(ids))]


def only_one(outcomes):
    [outcome] = outcomes
    if isinstance(outcome, CeleriacError):
        raise outcome
    return outcome


def refusal_of(task, limits):
    """A task that the broker would refuse is not sent: a payload that is too large might not even
    fit into a frame."""
    size = len(task.payload)
    if size <= limits.payload_bytes_max:
        return None
    message = f"the payload has {size} bytes, and {limits.payload_bytes_max} are allowed"
    return CeleriacError(error_pb2.ERROR_CODE_PAYLOAD_TOO_LARGE, message)


def batches(tasks, places, limits):
    """Limits: a batch is bounded by its tasks, by its bytes, and by its fields."""
    batch, size, fields = [], FRAME_ROOM, 0
    for place in places:
        task_size = tasks[place].ByteSize() + ITEM_ROOM
        task_fields = fields_at_most(tasks[place])
        is_full = len(batch) == limits.batch_items_max
        if batch and (is_full or size + task_size > limits.frame_bytes_max or fields + task_fields > FIELDS_MAX):
            yield batch
            batch, size, fields = [], FRAME_ROOM, 0
        batch.append(place)
        size += task_size
        fields += task_fields
    if batch:
        yield batch


def fields_at_most(task):
    """A header is three fields: itself, its key and its value."""
    return 32 + len(task.tags) + 3 * len(task.headers)


def submitted(outcome):
    """An unknown kind is a final refusal. `Get` shows the state of the task."""
    if outcome.kind in ACCEPTED:
        return submit_name(outcome.kind)
    if outcome.kind == task_pb2.SubmitOutcome.KIND_REFUSED:
        return CeleriacError.of(outcome.error)
    return not_understood(f"the kind {outcome.kind} of an outcome is not known")


class Watch:
    """Shows each state of one task up to its end, over lost connections too: the watch is begun
    again on each.

    The state of one id always has room in the answer, so nothing is left out here.
    """

    def __init__(self, session, id, with_results, told):
        self._session = session
        self._body = task_pb2.Watch(ids=[id], with_results=with_results)
        self._watch_id = None
        self._seen = (0, 0)
        self._states = queue.SimpleQueue()
        self._told = told
        session.listen(self)

    def __iter__(self):
        try:
            while True:
                state = self._states.get()
                if isinstance(state, Exception):
                    raise state
                yield state
                if ended(state.state):
                    return
        finally:
            self.close()

    def close(self):
        """A Transition that was on its way may still come. It belongs to no watch any more."""
        self._session.leave(self)
        if self._watch_id is not None:
            self._session.post(Request("unwatch", task_pb2.Unwatch(watch_id=self._watch_id), kept=False))
            self._watch_id = None

    # What the session says.

    def opened(self, _welcome):
        self._session.post(Request("watch", self._body, seconds=None, kept=False).then(self._begun))

    def lost(self, _session_over):
        self._watch_id = None

    def pushed(self, kind, body):
        """A state that is older than the last one is dropped, until the id is pushed as UNKNOWN:
        then the versions begin anew."""
        if kind != "transition" or body.watch_id != self._watch_id:
            return
        if pair(body.task) > self._seen or is_forgotten(body.task):
            self._show(body.task)

    def gave_up(self, error):
        self._tell(error)

    def _begun(self, answer):
        """The answer has the present state, so a lower pair means that the id was forgotten and
        submitted meanwhile."""
        error = answer.exception()
        if error is None:
            self._watch_id = answer.result().watch_id
            for info in answer.result().tasks:
                if pair(info) != self._seen or is_forgotten(info):
                    self._show(info)
        elif isinstance(error, CeleriacError):
            self._tell(error)

    def _show(self, info):
        self._seen = pair(info)
        self._tell(info)

    def _tell(self, state_or_error):
        self._states.put(state_or_error)
        self._told()


def pair(info):
    """A generation and a version name one state of a task."""
    return info.generation, info.version


def is_forgotten(info):
    """A state that the client does not know is no UNKNOWN here: its task is there."""
    return info.state == task_pb2.TASK_STATE_UNKNOWN
