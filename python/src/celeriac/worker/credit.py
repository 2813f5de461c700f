"""How many leases the worker asks for.

A worker that holds more tasks than it runs saves short tasks the time of their delivery. Behind a
long task, such a held task would wait. When another worker is idle, the broker itself takes the held
task back. But while all workers are busy, a held task would begin before a task of higher priority
that was submitted later. So the worker looks ahead only while its tasks are short, and hands back
tasks that have waited for long.
"""

from __future__ import annotations

#: How often the worker looks at its pace, in seconds. Tasks are short when every place in the pool
#: ends one within this time.
PACE_INTERVAL = 0.1

#: A delivery that has waited for a place this long goes back to its queue.
HELD_UP_MAX = 0.4

#: The worker holds what it runs within this time at its present pace.
LOOK_AHEAD_SECONDS = 0.1

#: The most tasks that the worker holds beyond those that it runs.
LOOK_AHEAD_MAX = 2_000

#: The least look-ahead while tasks are short, for each place in the pool.
LOOK_AHEAD_LEAST = 4


class Credit:
    """The credit that the worker wants."""

    def __init__(self, slots: int, fixed: int | None = None) -> None:
        self.slots = slots
        self.fixed = fixed
        self.wanted = fixed or slots

    def adjust(self, ended: int, held_up: float) -> bool:
        """Chooses the credit for the pace of the last interval: the number of runs that ended, and
        how long the first waiting delivery has waited. Returns whether those that wait should be
        handed back."""
        if self.fixed is not None:
            return False
        if held_up >= HELD_UP_MAX:
            self.wanted = self.slots
            return True
        if ended >= self.slots:
            ahead = int(ended / PACE_INTERVAL * LOOK_AHEAD_SECONDS)
            ahead = min(max(ahead, self.slots * LOOK_AHEAD_LEAST), LOOK_AHEAD_MAX)
            # A pause of the producer is no reason to begin slowly again.
            self.wanted = max(self.slots + ahead, self.wanted * 3 // 4)
        return False
