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
MANAGE = (sys.executable, "manage.py")
WORKER = (sys.executable, "-m", "celery", "-A", "music", "worker", "--concurrency", "2")
TITLES = ("Dynamite", "Thriller", "Hello")
START_SECONDS = 60


def main() -> int:
    with ExitStack() as stack:
        data = stack.enter_context(tempfile.TemporaryDirectory(prefix="songs-"))
        broker = stack.enter_context(ScratchBroker())
        print(f"broker   {broker.url}")
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "music.settings",
            "CELERY_BROKER_URL": broker.url,
            "CELERY_RESULT_BACKEND": broker.url,
            "SONGS_DATABASE": os.path.join(data, "songs.sqlite3"),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "PYTHONUNBUFFERED": "1",
        }
        run(environment, "migrate", "--verbosity", "0")
        port = free_port()
        web = (*MANAGE, "runserver", "--noreload", f"127.0.0.1:{port}")
        stack.enter_context(process("web", web, environment, data))
        browser = Browser(f"http://127.0.0.1:{port}")
        browser.open_page()
        print(f"page     {browser.site}")
        with process("worker", WORKER, environment, data):
            is_told = with_a_worker(browser, environment)
        print("worker   has ended, and there is no other one")
        return int(not (is_told and without_a_worker(browser, environment)))


def with_a_worker(browser: "Browser", environment: dict[str, str]) -> bool:
    """What a user does: sends songs, looks at their progress, and has the first one run again."""
    tokens = {}
    for title in TITLES:
        begun = time.monotonic()
        tokens[title] = browser.send(title)
        print(f"sent     {title}: answered in {(time.monotonic() - begun) * 1000:.0f} ms")
    first = tokens[TITLES[0]]
    print(f"follow   {TITLES[0]}, by its token in another process")
    for line in run(environment, "follow", first).splitlines():
        print(f"         {line}")
    ended = [browser.end_of(token) for token in tokens.values()]
    for title, last in zip(TITLES, ended, strict=True):
        print(f"browser  {title}: {last['state']} {last.get('result')}")
    browser.post(f"songs/{first}/again")
    last = browser.end_of(first)
    print(f"again    {TITLES[0]}, under the same token: {last['state']} {last.get('result')}")
    unknown = browser.end_of("song-of-nobody")
    print(f"browser  a token that nobody knows: {unknown['state']}")
    is_told = all(each["state"] == "SUCCESS" for each in (*ended, last))
    return is_told and last["result"]["songs"] == len(TITLES) and unknown["state"] == "UNKNOWN"


def without_a_worker(browser: "Browser", environment: dict[str, str]) -> bool:
    """A task that is called off, or that expires, ends although nobody can run it."""
    token = browser.send("Bad")
    browser.post(f"songs/{token}/revoke")
    revoked = browser.end_of(token)
    print(f"revoke   Bad: {revoked['state']} {revoked.get('result')}")
    token = run(environment, "send", "Umbrella", "--expires", "1").strip()
    expired = browser.end_of(token)
    print(f"expires  Umbrella, after one second: {expired['state']} {expired.get('result')}")
    return revoked["state"] == expired["state"] == "REVOKED"


class Browser:
    """A client of the site that keeps its cookies."""

    def __init__(self, site: str) -> None:
        self.site = site
        self._cookies = http.cookiejar.CookieJar()
        handler = urllib.request.HTTPCookieProcessor(self._cookies)
        self._opener = urllib.request.build_opener(handler)

    def open_page(self) -> None:
        """Waits until the web server answers."""
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                self._opener.open(self.site, timeout=5).read()
                return
            except urllib.error.HTTPError:
                raise
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def send(self, title: str) -> str:
        """Sends a song as the form does, and returns its token."""
        return self.post("songs", title=title)["token"]

    def post(self, address: str, **fields: str) -> dict:
        """Sends a form of the page."""
        secret = next(each.value for each in self._cookies if each.name == "csrftoken")
        form = urllib.parse.urlencode({**fields, "csrfmiddlewaretoken": secret}).encode()
        with self._opener.open(f"{self.site}/{address}", form, timeout=30) as answer:
            return json.load(answer)

    def end_of(self, token: str) -> dict:
        """The last of the server-sent events of a song."""
        address = f"{self.site}/changes?token={urllib.parse.quote(token)}"
        with self._opener.open(address, timeout=90) as answer:
            told = [json.loads(line[6:]) for line in answer if line.startswith(b"data: ")]
        return told[-1]


def run(environment: dict[str, str], *arguments: str) -> str:
    """Runs a command of the project to its end, and returns what it wrote."""
    done = subprocess.run(
        [*MANAGE, *arguments],
        cwd=FOLDER,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    done.check_returncode()
    return done.stdout


@contextmanager
def process(
    name: str, command: tuple[str, ...], environment: dict[str, str], data: str
) -> Iterator[None]:
    """Runs a process of the project until the end of the block. After an error its log is shown."""
    log = Path(data, f"{name}.log")
    with open(log, "wb") as written:
        running = subprocess.Popen(
            command, cwd=FOLDER, env=environment, stdout=written, stderr=written
        )
    try:
        yield
    except BaseException:
        print(f"{name} wrote:\n{log.read_text(errors='replace')}", file=sys.stderr)
        raise
    finally:
        running.terminate()
        with suppress(subprocess.TimeoutExpired):
            running.wait(15)
        if running.poll() is None:
            running.kill()
            running.wait()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


if __name__ == "__main__":
    raise SystemExit(main())
