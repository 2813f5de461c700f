"""A function as a task: `Task` calls it here, and submits it to be called by a worker."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, ParamSpec, TypeVar

from celeriac.context import Context, lineage
from celeriac.errors import WrongType
from celeriac.options import TaskOptions
from celeriac.payload import Codec, codec_of
from celeriac.submission import Submission

if TYPE_CHECKING:
    import inspect

    from celeriac.app import Celeriac
    from celeriac.result import Result

P = ParamSpec("P")
R = TypeVar("R")

#: What an exception has to be for another attempt: one class, or several.
Errors = type[BaseException] | tuple[type[BaseException], ...]


class Arity(NamedTuple):
    """How many arguments a function takes by place, and which parameter gets the context."""

    least: int
    most: int
    context: str
    """The name of the parameter; empty when the function takes no context."""
    place: int
    """The place of that parameter; -1 when it is given by its name."""
    signature: inspect.Signature
    """The signature without that parameter."""


class Task(Generic[P, R]):
    """A task of an app. `@app.task` makes it of a function.

    Calling the object calls the function, without a broker. `delay` and `apply_async` submit it.
    """

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str,
        app: Celeriac | None,
        options: TaskOptions,
        codec: str | Codec = "json",
        retry_for: Errors = Exception,
        no_retry_for: Errors = (),
        ignore_result: bool = False,
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name
        self.options = options.replace(result_ttl=0) if ignore_result else options
        self.codec = codec_of(codec)
        self.retry_for = _checked("retry_for", retry_for)
        self.no_retry_for = _checked("no_retry_for", no_retry_for)
        self._app = app

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        name = self.arity.context
        if not name or name in kwargs or any(isinstance(each, Context) for each in args):
            return self.function(*args, **kwargs)
        places, names = self.with_context(args, kwargs, Context.detached(name=self.name))
        function: Callable[..., R] = self.function
        return function(*places, **names)

    @property
    def app(self) -> Celeriac:
        """The app of the task. A shared task belongs to the app that was made last."""
        if self._app is not None:
            return self._app
        from celeriac.app import current_app

        return current_app()

    @functools.cached_property
    def arity(self) -> Arity:
        """The parameters of the function."""
        return arity_of(self.function)

    @functools.cached_property
    def is_async(self) -> bool:
        """Whether the function is an `async def`."""
        import inspect

        return inspect.iscoroutinefunction(inspect.unwrap(self.function))

    def check_arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raises `WrongType` when the function cannot be called with these arguments."""
        arity = self.arity
        if not kwargs and arity.least <= len(args) <= arity.most:
            return
        try:
            arity.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise WrongType(f"The arguments do not fit the task {self.name!r}: {error}.") from None

    def with_context(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], context: Context
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """The arguments of a call, with the context for the parameter that takes it."""
        name, place = self.arity.context, self.arity.place
        if 0 <= place < len(args):
            # Arguments after the context are given by place, so the context is too.
            return [*args[:place], context, *args[place:]], kwargs
        return args, {**kwargs, name: context}

    def delay(self, *args: Any, **kwargs: Any) -> Result:
        """Submits the task with these arguments, and returns when the broker has stored it."""
        return self.app.submit(self.submission(args, kwargs), self.codec)

    async def adelay(self, *args: Any, **kwargs: Any) -> Result:
        """`delay` for asyncio."""
        return await self.app.asubmit(self.submission(args, kwargs), self.codec)

    def apply_async(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Result:
        """Submits the task with options of its own.

        `options` are those of `celeriac.TaskOptions`: `task_id`, `queue`, `shadow`, `priority`,
        `countdown`, `eta`, `expires`, `result_ttl`, `max_attempts`, `time_limit`, `on_conflict`,
        `tags`, `headers` and the others, and `ignore_result`. `expires` says by when the task must
        have started, `result_ttl` how long the broker keeps its result.
        """
        return self.app.submit(self.submission(args, kwargs or {}, **options), self.codec)

    async def aapply_async(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Result:
        """`apply_async` for asyncio."""
        return await self.app.asubmit(self.submission(args, kwargs or {}, **options), self.codec)

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> Result:
        """`delay` for Django: the submit happens when the present transaction is committed, and not
        at all when it is rolled back. Without a transaction it happens at once. The result has the
        id that the task will have."""
        return self.apply_async_on_commit(args, kwargs)

    def apply_async_on_commit(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        using: str | None = None,
        robust: bool = False,
        **options: Any,
    ) -> Result:
        """`apply_async` for Django, with the commit of `delay_on_commit`.

        `using` names the database whose transaction counts. An error of the submit is raised where
        the transaction is committed; with `robust` Django logs it and goes on.
        """
        from celeriac.django.commit import submit_on_commit

        submission = self.submission(args, kwargs or {}, **options)
        return submit_on_commit(self, submission, using=using, robust=robust)

    def submission(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Submission:
        """The task with its arguments and options, for `app.submit_many`."""
        args, kwargs = checked_call(args, kwargs)
        self.check_arguments(args, kwargs)
        chosen = self.options
        task_id = options.pop("task_id", None)
        if options.pop("ignore_result", False):
            options["result_ttl"] = 0
        root_id, parent_id = lineage()
        if parent_id:
            options.setdefault("root_id", root_id)
            options.setdefault("parent_id", parent_id)
        if options:
            chosen = changed(chosen, options)
        payload = self.codec.encode_call(args, kwargs)
        return Submission(self.name, payload, chosen, task_id, self.codec.content_type)

    def is_retryable(self, error: BaseException) -> bool:
        """Whether the task may run again after this error, as far as it has attempts left."""
        return isinstance(error, self.retry_for) and not isinstance(error, self.no_retry_for)


def checked_call(
    args: Iterable[Any], kwargs: Mapping[str, Any] | None
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """The arguments of a call that is submitted, or `WrongType`."""
    if not isinstance(args, (list, tuple)):
        # A dict or a set has no order of arguments.
        if isinstance(args, (str, bytes, Mapping, Set)) or not isinstance(args, Iterable):
            raise WrongType("The arguments are a tuple or a list; write one argument as (value,).")
        args = tuple(args)
    kwargs = {} if kwargs is None else kwargs
    if not isinstance(kwargs, Mapping):
        raise WrongType(f"The named arguments are a dict, not a {type(kwargs).__name__}.")
    return args, kwargs


def changed(options: TaskOptions, changes: dict[str, Any]) -> TaskOptions:
    """The options with these changes. A time of one kind replaces one of the other kind."""
    if "eta" in changes and "countdown" not in changes:
        changes["countdown"] = None
    if "countdown" in changes and "eta" not in changes:
        changes["eta"] = None
    if changes.get("max_attempts") is None:
        changes.pop("max_attempts", None)
    return options.replace(**changes)


def arity_of(function: Callable[..., Any]) -> Arity:
    """The parameters of a function, apart from the one that gets the context."""
    import inspect

    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    context = next((each.name for each in parameters if _takes_context(each)), "")
    place = next((at for at, each in enumerate(parameters) if each.name == context), -1)
    if place >= 0 and parameters[place].kind is parameters[place].KEYWORD_ONLY:
        place = -1
    parameters = [each for each in parameters if each.name != context]
    places = [
        each
        for each in parameters
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    least = sum(each.default is each.empty for each in places)
    most = len(places)
    if any(each.kind is each.VAR_POSITIONAL for each in parameters):
        most = 1 << 30
    if any(each.kind is each.KEYWORD_ONLY and each.default is each.empty for each in parameters):
        # Only `bind` can tell whether such arguments fit.
        least, most = 1, 0
    return Arity(least, most, context, place, _without(signature, parameters))


def _takes_context(parameter: inspect.Parameter) -> bool:
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        return False
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return parameter.name == "context"
    if isinstance(annotation, str):
        return annotation.strip("'\"").rpartition(".")[2] == "Context"
    return annotation is Context


def _without(
    signature: inspect.Signature, parameters: list[inspect.Parameter]
) -> inspect.Signature:
    try:
        return signature.replace(parameters=parameters)
    except ValueError:
        # A parameter with a default stood in front of the context.
        kind = parameters[0].KEYWORD_ONLY
        names = [each.replace(kind=kind) for each in parameters]
        return signature.replace(parameters=names)


def _checked(option: str, errors: Errors) -> tuple[type[BaseException], ...]:
    classes = errors if isinstance(errors, tuple) else (errors,)
    for each in classes:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise WrongType(f"{option} has {each!r}, which is no class of exceptions.")
    return classes
