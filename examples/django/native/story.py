"""Plays the example from end to end, and prints it line by line. It starts a broker, a worker and a
web server on free ports and in a temporary folder, and ends all of them."""

import http.cookiejar
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from celeriac.scratch_broker import ScratchBroker

FOLDER = Path(__file__).resolve().parent
TITLES = ("Dynamite", "Thriller", "Hello")
START_SECONDS = 30


def main() -> int:
    with ExitStack() as stack:
        data = stack.enter_context(tempfile.TemporaryDirectory(prefix="songs-"))
        broker = stack.enter_context(ScratchBroker())
        print(f"broker   {broker.url}")
        environment = {
            **os.environ,
            "CELERIAC_URL": broker.url,
            "SONGS_DATABASE": os.path.join(data, "songs.sqlite3"),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "PYTHONUNBUFFERED": "1",
        }
        manage(environment, "migrate", "--verbosity", "0", "--run-syncdb")
        stack.enter_context(process(environment, data, "celeriac_worker", "-c", "2"))
        port = free_port()
        arguments = ("runserver", "--noreload", f"127.0.0.1:{port}")
        stack.enter_context(process(environment, data, *arguments))
        return click(f"http://127.0.0.1:{port}", environment)


def click(site: str, environment: dict[str, str]) -> int:
    """What a user does: opens the page, sends songs, and looks at their progress."""
    browser = Browser(site)
    browser.open_page()
    print(f"page     {site}")
    tokens = {}
    for title in TITLES:
        begun = time.monotonic()
        tokens[title] = browser.send(title)
        print(f"sent     {title}: answered in {(time.monotonic() - begun) * 1000:.0f} ms")
    title, token = next(iter(tokens.items()))
    print(f"follow   {title}, by its token in another process")
    for line in manage(environment, "follow", token).splitlines():
        print(f"         {line}")
    has_failed = False
    for title, token in tokens.items():
        last = list(browser.events(token))[-1]
        print(f"browser  {title}: {last['state']} {last.get('result')}")
        has_failed |= last["state"] != "SUCCESS"
    unknown = next(browser.events("song-of-nobody"))
    print(f"browser  a token that nobody knows: {unknown['state']}")
    return int(has_failed or unknown["state"] != "UNKNOWN")


class Browser:
    """A client of the site that keeps its cookies."""

    def __init__(self, site: str) -> None:
        self._site = site
        self._cookies = http.cookiejar.CookieJar()
        handler = urllib.request.HTTPCookieProcessor(self._cookies)
        self._opener = urllib.request.build_opener(handler)

    def open_page(self) -> None:
        """Waits until the web server answers."""
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                self._opener.open(self._site, timeout=5).read()
                return
            except urllib.error.HTTPError:
                raise
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def send(self, title: str) -> str:
        """Sends a song as the form does, and returns its token."""
        secret = next(each.value for each in self._cookies if each.name == "csrftoken")
        form = urllib.parse.urlencode({"title": title, "csrfmiddlewaretoken": secret}).encode()
        with self._opener.open(f"{self._site}/songs", form, timeout=10) as answer:
            return json.load(answer)["token"]

    def events(self, token: str) -> Iterator[dict]:
        """The server-sent events of a song."""
        with self._opener.open(f"{self._site}/songs/{token}/events", timeout=60) as answer:
            for line in answer:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])


def manage(environment: dict[str, str], *arguments: str) -> str:
    """Runs a command of the project to its end, and returns what it wrote."""
    command = [sys.executable, "manage.py", *arguments]
    done = subprocess.run(
        command, cwd=FOLDER, env=environment, stdout=subprocess.PIPE, text=True, timeout=120
    )
    done.check_returncode()
    return done.stdout


@contextmanager
def process(environment: dict[str, str], data: str, *arguments: str) -> Iterator[None]:
    """Runs a command of the project until the end of the block. After an error its log is shown."""
    log = Path(data, f"{arguments[0]}.log")
    with open(log, "wb") as written:
        running = subprocess.Popen(
            [sys.executable, "manage.py", *arguments],
            cwd=FOLDER,
            env=environment,
            stdout=written,
            stderr=written,
        )
    try:
        yield
    except BaseException:
        print(f"{arguments[0]} wrote:\n{log.read_text(errors='replace')}", file=sys.stderr)
        raise
    finally:
        running.terminate()
        with suppress(subprocess.TimeoutExpired):
            running.wait(10)
        if running.poll() is None:
            running.kill()
            running.wait()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


if __name__ == "__main__":
    raise SystemExit(main())
