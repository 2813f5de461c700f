"""The story against a real broker: one client submits, a worker runs, and another client follows.

    celeriac serve --data /some/folder
    CELERIAC_URL=celeriac://127.0.0.1 tests/conformance/python/run --story
"""

import time

from celeriac_client import CeleriacError, Producer, Worker, make_id, make_task, read_json, state_name


def preprocess(context, title):
    """The handler: works for a while and says how far it is."""
    for step in (0.25, 0.5, 0.75):
        time.sleep(0.1)
        context.progress({"done": step}, state="LISTENING")
    return {"title": title, "tempo": 114.0}


def submit(producer, id):
    """The producer chooses the id, listings show the shadow, and no worker begins the task after
    its expiry."""
    task = make_task(
        "songs.preprocess",
        args=["Dynamite"],
        id=id,
        queue="songs",
        shadow="preprocess: Dynamite",
        expires_in_ms=60_000,
    )
    print("the producer submits it:", producer.submit(task).result())


def follow(reader, id):
    for info in reader.watch(id):
        progress = read_json(info.progress.meta) if info.HasField("progress") else ""
        print("the reader sees:", info.shadow, state_name(info.state), progress)


def main():
    id = "story-" + make_id()
    producer, reader = Producer(), Producer()
    submit(producer, id)
    worker = Worker({"songs.preprocess": preprocess}, {"songs": 1}, concurrency=2).start()
    follow(reader, id)
    _, [info] = reader.wait([id], seconds=5).result()
    print("the reader reads the result:", read_json(info.result, info.result_content_type))
    worker.stop()
    worker.join()
    producer.close()
    reader.close()


if __name__ == "__main__":
    try:
        main()
    except CeleriacError as error:
        raise SystemExit(f"the story ends badly: {error}") from error
