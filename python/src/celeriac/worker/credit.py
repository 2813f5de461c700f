"""How many leases the worker asks for.

A worker that holds more tasks than it runs saves short tasks the time of their delivery. Behind a
long task, such a held task would wait. When another worker is idle, the broker itself takes the
held task back. But while all workers are busy, a held task would begin before a task of higher
priority that was submitted later. So the worker looks ahead only while its tasks are short, and
hands back tasks that have waited for long.
"""

from __future__ import annotations

#: How often the worker looks at its pace, in seconds.
PACE_INTERVAL = 0.1

#: A delivery that has waited for a place this long goes back to its queue.
HELD_UP_MAX = 0.4

#: The worker looks ahead as far as its handlers work in this time, in seconds.
LOOK_AHEAD_SECONDS = 0.1

#: The most tasks that the worker holds beyond those that it runs.
LOOK_AHEAD_MAX = 5_000


class Credit:
    """The credit that the worker wants."""

    def __init__(self, slots: int, fixed: int | None = None) -> None:
        self.slots = slots
        self.fixed = fixed
        self.wanted = fixed or slots

    def adjust(self, ended: int, busy: float, held_up: float) -> bool:
        """Chooses the credit for the pace of the last interval: the number of runs that ended, how
        many seconds they took together, and how long the first waiting delivery has waited. Returns
        whether those that wait should be handed back.

        The length of the runs counts, and not their number in the interval: a broker that answers
        slowly lowers that number, and needs the longer look-ahead.
        """
        if self.fixed is not None:
            return False
        if held_up >= HELD_UP_MAX:
            self.wanted = self.slots
            return True
        if ended:
            each = max(busy / ended, 1e-6)
            ahead = min(int(self.slots * LOOK_AHEAD_SECONDS / each), LOOK_AHEAD_MAX)
            # One long task among short ones is no reason to begin slowly again.
            self.wanted = max(self.slots + ahead, self.wanted * 3 // 4)
        return False
