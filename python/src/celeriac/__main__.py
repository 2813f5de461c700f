"""Runs the `celeriac` binary of this installation: `python -m celeriac serve`."""

from __future__ import annotations

import os
import sys

from .binary import BinaryMissing, find_binary


def main() -> int | None:
    """Replaces this process with the binary. It returns only when there is no binary."""
    try:
        binary = find_binary()
    except BinaryMissing as error:
        print(error, file=sys.stderr)
        return 2
    # The line below does not return.
    return os.execv(binary, [binary, *sys.argv[1:]])


if __name__ == "__main__":
    raise SystemExit(main())
