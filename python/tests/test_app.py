"""The app and its tasks: names, options, arguments, and what runs without a broker."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from datetime import datetime, timedelta

import pytest

from celeriac import (
    Celeriac,
    Context,
    NotEncodable,
    Reject,
    State,
    TaskFailed,
    TaskUnknown,
    current_context,
    shared_task,
)
from celeriac.errors import InvalidArgument, WrongType


@pytest.fixture
def app():
    return Celeriac("celeriac://127.0.0.1:1", queue="songs")


def test_a_task_is_still_its_function(app):
    @app.task
    def shout(word: str, times: int = 1) -> str:
        """Shouts."""
        return word.upper() * times

    assert shout("hey", times=2) == "HEYHEY"
    assert shout.__doc__ == "Shouts."
    assert shout.name == f"{__name__}.test_a_task_is_still_its_function.<locals>.shout"
    assert app.tasks[shout.name] is shout
    assert shout.options.queue == "songs"


def test_a_context_is_given_where_the_function_takes_it(app):
    @app.task(name="first")
    def first(context: Context, word: str, *, mark: str = "!") -> str:
        return context.name + word + mark

    @app.task(name="last")
    def last(word: str, context) -> str:
        return context.name + word

    @app.task(name="named")
    def named(word: str, *, run: Context) -> str:
        return run.name + word

    assert first("a", mark="?") == "firsta?"
    assert first(word="a") == "firsta!"
    assert last("a") == last(word="a") == "lasta"
    assert named("a") == "nameda"
    assert first(Context.detached(name="mine"), "a") == "minea!"
    with app.eager():
        assert first.delay("a").get() == "firsta!"
        assert first.delay(word="b").get() == "firstb!"
        assert last.delay(word="a").get() == "lasta"
        assert named.delay("a").get() == "nameda"


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"colour": 1}), ((1,), {"left": 1})]
)
def test_wrong_arguments_are_refused_at_the_submit(app, args, kwargs):
    @app.task(name="add")
    def add(left: int, right: int = 0) -> int:
        return left + right

    with pytest.raises(TypeError, match="do not fit the task 'add'"):
        add.delay(*args, **kwargs)


def test_a_text_is_not_a_list_of_arguments(app):
    task = app.task(name="t")(lambda word: word)
    with pytest.raises(WrongType, match=r"\(value,\)"):
        task.apply_async("word")


def test_options_of_one_submit_replace_those_of_the_task(app):
    @app.task(name="t", queue="a", countdown=5, max_attempts=2, codec="bytes")
    def task(data: bytes) -> None: ...

    eta = datetime(2030, 1, 1)
    made = task.submission((b"x",), task_id="one", eta=eta, expires=timedelta(1), result_ttl=60)
    assert (made.name, made.payload, made.task_id) == ("t", b"x", "one")
    assert (made.options.queue, made.options.eta, made.options.countdown) == ("a", eta, None)
    assert (made.options.max_attempts, made.options.result_ttl) == (2, 60)
    assert task.submission((b"x",), ignore_result=True).options.result_ttl == 0
    assert task.submission((b"x",)).options is task.options


@pytest.mark.parametrize(
    "settings",
    [
        {"priority": 11}, {"colour": 1}, {"retry_for": "OSError"}, {"codec": "pickle"},
        {"task_id": "a"}, {"time_limit": -1},
    ],
)  # fmt: skip
def test_wrong_settings_are_refused_when_the_task_is_made(app, settings):
    with pytest.raises((InvalidArgument, TypeError, ValueError)):
        app.task(**settings)(lambda: None)


def test_two_functions_cannot_be_one_task(app):
    def first() -> None: ...

    def second() -> None: ...

    app.task(name="same")(first)
    app.task(name="same")(first)
    with pytest.raises(WrongType, match="Two functions are the task 'same'"):
        app.task(name="same")(second)


def test_a_shared_task_belongs_to_every_app(app):
    @shared_task(name="library.half")
    def half(number: int) -> float:
        return number / 2

    other = Celeriac()
    assert app.tasks["library.half"] is other.tasks["library.half"] is half
    with other.eager():
        assert half.delay(3).get() == 1.5


def test_an_eager_task_is_written_and_read_as_with_a_broker(app):
    @app.task(name="echo")
    def echo(value: object) -> object:
        return value

    with app.eager():
        assert echo.delay((1, 2)).get() == [1, 2]
        with pytest.raises(NotEncodable):
            echo.delay({1, 2})


def test_an_eager_task_runs_again_as_often_as_it_may(app):
    seen = []

    @app.task(name="fails", max_attempts=3, retry_for=OSError)
    def fails(kind: str, context: Context) -> None:
        seen.append(context.attempt)
        context.progress("TRIED", context.attempt)
        raise {"os": OSError, "value": ValueError, "reject": Reject}[kind]("no")

    with app.eager():
        result = fails.delay("os")
        with pytest.raises(TaskFailed) as caught:
            result.get()
        assert (caught.value.kind, caught.value.attempts, seen) == ("OSError", 3, [1, 2, 3])
        assert result.progress().meta == 3
        for kind in ("value", "reject"):
            assert fails.delay(kind).info().attempts == 1
        error = result.get(propagate=False)
        assert isinstance(error, TaskFailed)


def test_an_eager_id_has_its_generations(app):
    task = app.task(name="t", ignore_result=False)(lambda: 1)
    gone = app.task(name="gone", ignore_result=True)(lambda: 1)
    with app.eager():
        assert task.apply_async(task_id="one").submitted.generation == 1
        assert task.apply_async(task_id="one").submitted.generation == 2
        with pytest.raises(Exception, match="exists"):
            task.apply_async(task_id="one", on_conflict="reject")
        assert app.result("two").state is State.UNKNOWN
        with pytest.raises(TaskUnknown):
            app.result("two").get()
        app.result("one").forget()
        assert app.result("one").state is State.UNKNOWN
        assert gone.delay().state is State.UNKNOWN


def test_eager_works_for_asyncio_and_for_handlers_of_both_kinds(app):
    @app.task(name="inner")
    async def inner() -> str:
        await asyncio.sleep(0)
        return current_context().parent_id

    @app.task(name="outer")
    def outer() -> list[str]:
        return [inner.delay().get(), current_context().task_id]

    async def main() -> None:
        result = await outer.adelay()
        parent, own = await result.aget()
        assert parent == own == result.id
        assert await result.asuccessful()
        assert [change.state async for change in result.awatch()] == [State.SUCCESS]

    with app.eager():
        asyncio.run(main())
        assert outer.delay().get()
    assert current_context() is None


def test_progress_that_is_too_large_is_refused():
    context = Context.detached()
    with pytest.raises(InvalidArgument, match="65536 are allowed"):
        context.progress("A", "x" * 70_000)
    with pytest.raises(InvalidArgument, match="1 to 255"):
        context.progress("A" * 256)
    with pytest.raises(NotEncodable):
        context.progress("A", {1})


def test_importing_the_package_loads_neither_the_worker_nor_asyncio():
    program = (
        "import sys, celeriac\n"
        "loaded = {m for m in sys.modules if m.startswith('celeriac.')}\n"
        "assert loaded == {'celeriac._with_kombu'}, loaded\n"
        "celeriac.Celeriac, celeriac.State\n"
        "assert 'celeriac.worker' not in sys.modules\n"
        "assert 'asyncio' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_plugin_imports_nothing_until_a_fixture_is_used():
    program = (
        "import sys, pytest\nbefore = set(sys.modules)\nimport celeriac.testing\n"
        "loaded = {m for m in set(sys.modules) - before if m.startswith('celeriac.')}\n"
        "assert loaded == {'celeriac.testing', 'celeriac._with_kombu'}, loaded\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_name_of_the_package_can_be_imported():
    import celeriac

    for name in celeriac.__all__:
        assert getattr(celeriac, name) is not None
    assert set(celeriac._MODULES) == set(celeriac.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        celeriac.Nothing  # noqa: B018


def test_the_package_runs_its_binary(tmp_path):
    program = tmp_path / "celeriac"
    program.write_text('#!/bin/sh\necho "ran with $*"\n')
    program.chmod(0o755)
    environment = {**os.environ, "CELERIAC_BINARY": str(program)}
    shown = subprocess.run(
        [sys.executable, "-m", "celeriac", "serve", "--help"],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert (shown.returncode, shown.stdout) == (0, "ran with serve --help\n")
    environment["CELERIAC_BINARY"] = str(tmp_path / "nothing")
    shown = subprocess.run(
        [sys.executable, "-m", "celeriac"], env=environment, capture_output=True, text=True
    )
    assert shown.returncode == 2
    assert "is not a program" in shown.stderr
