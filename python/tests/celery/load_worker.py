"""Celery's worker, with one thing added: it ends, with the processes of its pool, when the input of
this process does. So none is left over when whatever has started it is killed.

    python load_worker.py WORKER'S OPTIONS
"""

import os
import signal
import sys
import threading

from celery.bin.celery import main


def end_with_the_input() -> None:
    while os.read(0, 1024):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    os.setpgid(0, 0)
    threading.Thread(target=end_with_the_input, daemon=True).start()
    sys.argv = ["celery", "-A", "load_subject", "worker", *sys.argv[1:]]
    sys.exit(main())
