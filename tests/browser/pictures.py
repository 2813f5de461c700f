"""Makes a picture of each page: light, dark, and 360 pixels wide.

The first argument is the folder of the pictures.
"""

import sys

import browsing
from selenium.webdriver.common.by import By

PAGES = {
    "overview": "/",
    "queues": "/queues",
    "queue": "/queue?name=songs",
    "tasks": "/tasks",
    "dead": "/dead",
    "task": "/task?id=cluster-42",
    "task-that-runs": "/task?id=analyse-7",
    "workers": "/workers",
    "broker": "/broker",
    "submit": "/submit",
    "not-found": "/nothing",
}

# The pictures of the README: a page, and the part of it from its top.
SHORT = {"readme-overview": ("/", "light"), "readme-task": ("/task?id=cluster-42", "dark")}
SHORT_HEIGHT = 1000

LOOKS = {"light": (1280, "light"), "dark": (1280, "dark"), "narrow": (360, "light")}

# A handler that fails with a traceback, and one that works for long.
FAILS = """
import sys
title = sys.argv[1]
tempo = {"Dynamite": 114}
print(tempo[title])
"""
WORKS = "import time; time.sleep(3600)"


def story(broker):
    """Tasks in every state, of a broker that has something to do."""
    workers = [
        broker.start_worker(*arguments)
        for arguments in (
            (
                "--name",
                "songs.cluster",
                "--queue",
                "clusters",
                "--concurrency",
                "2",
                "--",
                sys.executable,
                "-c",
                FAILS,
                "{0}",
            ),
            (
                "--name",
                "songs.analyse",
                "--queue",
                "songs",
                "--concurrency",
                "4",
                "--",
                sys.executable,
                "-c",
                WORKS,
            ),
            ("--name", "mail.send", "--queue", "mail", "--concurrency", "2", "--", "echo", "{0}"),
        )
    ]
    broker.submit(
        *(
            {"name": "songs.analyse", "id": f"analyse-{n}", "queue": "songs", "tags": ["album:be"]}
            | {"args": [f"song-{n}.flac"], "root_id": "cluster-42", "parent_id": "cluster-42"}
            for n in range(1, 30)
        ),
        *({"name": "mail.send", "queue": "mail", "args": [f"user-{n}"]} for n in range(40)),
        {"name": "songs.cluster", "id": "cluster-42", "queue": "clusters", "priority": 7}
        | {"args": ["Life Goes On"], "kwargs": {"clusters": 8, "features": ["tempo", "energy"]}}
        | {"shadow": "Cluster the album BE", "tags": ["album:be"], "max_attempts": 1},
        *(
            {"name": "songs.cluster", "queue": "clusters", "args": [title], "max_attempts": 1}
            for title in ("Dis-ease", "Stay", "Telepathy")
        ),
        {"name": "reports.month", "queue": "reports", "args": ["2026-11"]},
        {"name": "reports.month", "queue": "reports", "args": ["2026-12"], "countdown": "9d"},
        {"name": "songs.warm", "queue": "cache", "args": []},
    )
    broker.run("queues", "pause", "cache")
    browsing.wait(lambda: broker.look("/broker")["dead"] == 4, "the tasks have failed")
    browsing.wait(lambda: broker.look("/queues/mail")["ready"] == 0, "the mails are sent")
    browsing.wait(lambda: broker.look("/tasks/analyse-7")["state"], "a task is there")
    return workers


def main():
    """Makes the pictures."""
    folder = browsing.pictures_folder(sys.argv[1])
    broker = browsing.Broker()
    workers = story(broker)
    running = next(task["id"] for task in broker.look("/tasks?queue=songs&state=STARTED")["tasks"])
    PAGES["task-that-runs"] = f"/task?id={running}"
    try:
        with browsing.chromium() as driver:
            for name, path in PAGES.items():
                for look, (width, scheme) in LOOKS.items():
                    browsing.prefer(driver, scheme)
                    browsing.resize(driver, width, 800)
                    driver.get(broker.url + path)
                    height = driver.execute_script("return document.documentElement.scrollHeight")
                    browsing.resize(driver, width, min(height, 2400))
                    driver.find_element(By.TAG_NAME, "main")
                    driver.save_screenshot(str(folder / f"{name}-{look}.png"))
            for name, (path, scheme) in SHORT.items():
                browsing.prefer(driver, scheme)
                browsing.resize(driver, 1280, SHORT_HEIGHT)
                driver.get(broker.url + path)
                driver.save_screenshot(str(folder / f"{name}.png"))
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait()
        broker.close()
    print(f"{len(PAGES) * len(LOOKS) + len(SHORT)} pictures are in {folder}")


if __name__ == "__main__":
    main()
