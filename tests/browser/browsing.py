"""A broker with an HTTP side, and a headless Chromium that looks at its pages."""

import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

BINARY = os.environ.get("CELERIAC_BINARY", "target/debug/celeriac")

# Every wait below ends long before this, also on a busy machine.
DEADLINE = 60.0

CHROMIUM_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--force-device-scale-factor=1",
    "--hide-scrollbars",
)


def free_ports():
    """Two ports of the loopback address that nobody has."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


class Broker:
    """A broker in a process of its own. It keeps its ports over a restart."""

    def __init__(self, *arguments):
        self.folder = tempfile.mkdtemp(prefix="celeriac-browser-")
        self.arguments = arguments
        self.port, self.http_port = free_ports()
        self.url = f"http://127.0.0.1:{self.http_port}"
        self.start()

    def start(self):
        """Starts it and waits until it serves."""
        self.process = subprocess.Popen(
            [
                *(BINARY, "serve", "--log", "error"),
                *("--data", f"{self.folder}/data"),
                *("--listen", f"127.0.0.1:{self.port}"),
                *("--http-listen", f"127.0.0.1:{self.http_port}"),
                *self.arguments,
            ],
            stdout=subprocess.DEVNULL,
            env=clean_environment(),
        )
        wait(lambda: self.is_ready(), "the broker serves")

    def is_ready(self):
        """Whether it takes requests."""
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def run(self, *arguments, text=None):
        """Runs a command of the command line against it, and gives its output."""
        environment = clean_environment()
        environment["CELERIAC_URL"] = f"celeriac://127.0.0.1:{self.port}"
        ended = subprocess.run(
            [BINARY, *arguments],
            input=text,
            capture_output=True,
            text=True,
            env=environment,
            timeout=600,
            check=False,
        )
        if ended.returncode not in (0, 10, 11):
            raise AssertionError(f"{arguments}: {ended.returncode}: {ended.stderr}")
        return ended.stdout

    def start_worker(self, *arguments):
        """Starts a worker that runs until it is killed."""
        environment = clean_environment()
        environment["CELERIAC_URL"] = f"celeriac://127.0.0.1:{self.port}"
        return subprocess.Popen(
            [BINARY, "work", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )

    def submit(self, *tasks, path="/api/v1/tasks"):
        """Submits tasks, each one as the API has it."""
        request = urllib.request.Request(
            f"{self.url}{path}",
            data=json.dumps({"tasks": list(tasks)}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            return json.load(answer)

    def look(self, path):
        """What the API says."""
        with urllib.request.urlopen(f"{self.url}/api/v1{path}", timeout=DEADLINE) as answer:
            return json.load(answer)

    def stop(self):
        """Ends it in peace."""
        self.process.terminate()
        self.process.wait(DEADLINE)

    def close(self):
        """Ends it and removes what it has written."""
        self.process.kill()
        self.process.wait(DEADLINE)
        shutil.rmtree(self.folder, ignore_errors=True)


def clean_environment():
    """The environment without settings of ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CELERIAC_")}


@contextlib.contextmanager
def chromium(width=1280, height=900):
    """A browser with an empty profile, which is gone afterwards."""
    profile = tempfile.mkdtemp(prefix="celeriac-chromium-")
    options = Options()
    options.binary_location = shutil.which("chromium")
    for argument in (*CHROMIUM_ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    # A page that was asked for is not there at once.
    driver.implicitly_wait(5)
    try:
        driver.set_page_load_timeout(DEADLINE)
        resize(driver, width, height)
        yield driver
    finally:
        driver.quit()
        shutil.rmtree(profile, ignore_errors=True)


def resize(driver, width, height):
    """The size of the page itself, which may be narrower than any window."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def prefer(driver, scheme):
    """The scheme that the system of the visitor prefers: light or dark."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def wait(condition, what):
    """Waits until the condition holds. It does not while the browser replaces the page or a part
    of it: an element that was found is then gone before it is read."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        found = None
        with contextlib.suppress(StaleElementReferenceException):
            found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"it did not happen: {what}")


def pictures_folder(path):
    """The folder, made anew."""
    folder = pathlib.Path(path)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
