"""Publishes tasks of `load_subject.py` of all kinds until its input has the line `stop`. Then it
looks at every result as a program that uses Celery does, and prints one line of JSON: how many
calls of each kind it has made, which ids it has called twice, and in a sentence each what was not
as it should be.

    python load_producer.py SEED
"""

import json
import os
import random
import sys
import threading
import time
from collections import Counter

from load_subject import (
    again,
    again_late,
    app,
    early,
    fails,
    late,
    long_early,
    long_late,
    plus,
    replaced,
    total,
)

from celery import chord, group

PAUSE = 0.01
END = 90.0
"""How long all tasks may take to end when nothing is published any more, in seconds."""

ENDED = ("SUCCESS", "FAILURE", "REVOKED")

RARE = {"send_long": 0.15}
"""How often a kind is chosen, where it is not as often as every other."""


class Producer(threading.Thread):
    """One thread that publishes, and what has to come of the tasks."""

    def __init__(self, name: str, seed: str) -> None:
        super().__init__(daemon=True)
        self.prefix, self.random = name, random.Random(seed)
        self.stopped = threading.Event()
        self.published: Counter[str] = Counter()
        self.twice: list[str] = []
        self.wrong: list[str] = []
        self.expected: dict[str, tuple[tuple[str, ...], object]] = {}
        self.kinds = [name for name in dir(self) if name.startswith("send_")]
        self.weights = [RARE.get(name, 1.0) for name in self.kinds]

    def run(self) -> None:
        number = 0
        while not self.stopped.wait(PAUSE):
            number += 1
            kind = self.random.choices(self.kinds, self.weights)[0]
            name = kind.removeprefix("send_")
            try:
                getattr(self, kind)(f"{self.prefix}-{name}-{number}", number)
            except Exception as error:
                self.wrong.append(f"{name} {number}: {type(error).__name__}: {error}")
            else:
                self.published[name] += 1

    def expect(self, task_id, value, *states) -> None:
        self.expected[task_id] = (states or ("SUCCESS",), value)

    def send(self, task, task_id, number, **options) -> None:
        result = task.apply_async((number,), task_id=task_id, **options)
        self.expect(task_id, number)
        if self.random.random() < 0.1:
            # Somebody who waits meets the end of the broker too.
            result.get(timeout=END)

    def send_early(self, task_id, number) -> None:
        self.send(early, task_id, number, priority=self.random.choice((None, 3, 9)))

    def send_late(self, task_id, number) -> None:
        self.send(late, task_id, number)

    def send_long(self, task_id, number) -> None:
        task = self.random.choice((long_early, long_late))
        task.apply_async((number,), task_id=task_id)
        self.expect(task_id, number)

    def send_due(self, task_id, number) -> None:
        late.apply_async((number,), task_id=task_id, countdown=self.random.uniform(0.1, 3))
        self.expect(task_id, number)

    def send_again(self, task_id, number) -> None:
        self.send(self.random.choice((again, again_late)), task_id, number)

    def send_replaced(self, task_id, number) -> None:
        self.send(replaced, task_id, number)

    def send_fails(self, task_id, number) -> None:
        fails.apply_async((number,), task_id=task_id)
        self.expect(task_id, f"the song {number} has no end", "FAILURE")

    def send_chain(self, task_id, number) -> None:
        steps = early.s(number) | plus.s(1) | plus.s(2)
        result = steps.apply_async()
        self.expect(result.id, number + 3)

    def send_group(self, task_id, number) -> None:
        members = group(early.s(number + each) for each in range(3)).apply_async()
        for each, member in enumerate(members.children):
            self.expect(member.id, number + each)

    def send_chord(self, task_id, number) -> None:
        members = [self.random.choice((early, late)).s(number + each) for each in range(4)]
        body = chord(members)(total.s())
        self.expect(body.id, 4 * number + 6)
        for each, member in enumerate(body.parent.children):
            self.expect(member.id, number + each)

    def send_beside(self, task_id, number) -> None:
        self.twice.append(task_id)
        for _ in range(2):
            late.apply_async((number,), task_id=task_id)
        self.expect(task_id, number)

    def send_revoked(self, task_id, number) -> None:
        early.apply_async((number,), task_id=task_id, countdown=600)
        self.revoke(task_id)
        self.expect(task_id, None, "REVOKED")

    def send_revoked_or_run(self, task_id, number) -> None:
        late.apply_async((number,), task_id=task_id)
        self.revoke(task_id)
        self.expect(task_id, number, "SUCCESS", "REVOKED")

    def send_expired(self, task_id, number) -> None:
        early.apply_async((number,), task_id=task_id, countdown=600, expires=0.5)
        self.expect(task_id, None, "REVOKED")

    def revoke(self, task_id) -> None:
        # Celery does not repeat this by itself.
        until = time.monotonic() + END
        while True:
            try:
                app.control.revoke(task_id)
                return
            except app.connection_for_write().recoverable_connection_errors:
                if time.monotonic() > until:
                    raise
                time.sleep(PAUSE)

    def look(self, until: float) -> None:
        """Compares the end of each task with what has to come of it."""
        for task_id, (states, value) in self.expected.items():
            result = app.AsyncResult(task_id)
            while (state := result.state) not in ENDED and time.monotonic() < until:
                time.sleep(PAUSE)
            if state not in states:
                self.wrong.append(f"{task_id}: {state} in place of {' or '.join(states)}")
            elif value is not None and state != "REVOKED":
                found = result.result
                found = str(found) if state == "FAILURE" else found
                if found != value:
                    self.wrong.append(f"{task_id}: {found!r} in place of {value!r}")


def main() -> None:
    seed = sys.argv[1]
    producers = [Producer(f"{seed}-{name}", f"{seed}-{name}") for name in "ab"]
    for producer in producers:
        producer.start()
    if sys.stdin.readline() != "stop\n":
        # Whatever has started this process is gone.
        os._exit(1)
    published: Counter[str] = Counter()
    for producer in producers:
        producer.stopped.set()
        producer.join()
        published.update(producer.published)
    until = time.monotonic() + END
    for producer in producers:
        producer.look(until)
    wrong = [sentence for producer in producers for sentence in producer.wrong]
    twice = [task_id for producer in producers for task_id in producer.twice]
    print(json.dumps({"published": published, "twice": twice, "wrong": wrong}), flush=True)


if __name__ == "__main__":
    main()
