"""``@task.text_to_speech``: submit to MPS the text that a function returns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, ParamSpec, TypedDict, TypeVar, overload

from airflow.providers.common.compat.sdk import (
    AirflowException,
    DecoratedOperator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)

from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.operators.text_to_speech import TextToSpeechOperator
from airflow_provider_mps.redaction import quote_value
from airflow_provider_mps.speech.parsing import OnUnknown, parse_choice

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath, TaskDecorator
    from airflow.sdk.bases.decorator import Task

    from airflow_provider_mps.durable.submit import DurableSubmit
    from airflow_provider_mps.speech.request import SpeechRequest

P = ParamSpec("P")
R = TypeVar("R", bound="str | Mapping[str, object]")


class TextToSpeechArguments(TypedDict, total=False):
    """Arguments of ``TextToSpeechOperator`` that a function can return."""

    text: str
    text_path: str | ObjectStoragePath
    voice_id: str
    voice_name: str
    text_lang: str
    ext_param: Mapping[str, Any] | str
    sample_rate: int | str
    pitch: int | str
    target_duration: float | str
    translate_to: str
    translate_requirement: str
    max_characters: int | str
    wait_for_completion: bool
    deferrable: bool
    poll_interval: float
    on_unknown: Literal["fail", "resubmit"]
    mps_conn_id: str
    region: str


_ALTERNATIVES = {"text": "text_path", "text_path": "text", "voice_id": "voice_name", "voice_name": "voice_id"}
"""Arguments that exclude each other: a returned one replaces both."""
_NEEDED_AFTER_DEFERRAL = ("mps_conn_id", "region")


def parse_returned(returned: object, function: str) -> dict[str, Any]:
    """
    Return what a function has returned as arguments of ``TextToSpeechOperator``.

    An argument that is ``None`` is left out. One that excludes another sets the other to ``None``.

    :param function: its name, for the error
    :raises InvalidRequestError: if it is neither a text nor a dict of these arguments
    """
    returned = {"text": returned} if isinstance(returned, str) else returned
    if not isinstance(returned, Mapping) or not returned:
        found = "an empty dict" if isinstance(returned, Mapping) else quote_value(returned)
        raise InvalidRequestError(
            f"The function {function} returned {found}: nothing was submitted. Return the text, or a dict of arguments "
            "of TextToSpeechOperator."
        )
    known = TextToSpeechArguments.__annotations__
    for name in returned:
        if name not in known:
            raise InvalidRequestError(
                f"The function {function} returned the key {quote_value(name)}, which it cannot set: nothing was "
                f"submitted. It can set {', '.join(known)}. Set other arguments of the task in the decorator."
            )
    arguments = {name: _to_plain(value) for name, value in returned.items() if value is not None}
    for name, (is_valid, requirement) in _REQUIREMENTS.items():
        if name in arguments and not is_valid(arguments[name]):
            raise InvalidRequestError(
                f"The function {function} returned {quote_value(arguments[name])} as {name}, which must be "
                f"{requirement}: nothing was submitted."
            )
    if "on_unknown" in arguments:
        arguments["on_unknown"] = parse_choice(OnUnknown, arguments["on_unknown"])
    unset = {other: None for name, other in _ALTERNATIVES.items() if name in arguments and other not in arguments}
    return {**arguments, **unset}


def _to_plain(value: object) -> object:
    """Return a text without its subclass, e.g. Jinja's ``Markup``, which Airflow cannot send to its API."""
    return str.__str__(value) if isinstance(value, str) else value


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_interval(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


_REQUIREMENTS: dict[str, tuple[Callable[[object], bool], str]] = {
    "wait_for_completion": (_is_bool, "True or False"),
    "deferrable": (_is_bool, "True or False"),
    "poll_interval": (_is_interval, "a number of seconds"),
    "mps_conn_id": (_is_text, "a text"),
    "region": (_is_text, "a text"),
}
"""Of the arguments that the operator does not check itself."""


class _TextToSpeechDecoratedOperator(DecoratedOperator, TextToSpeechOperator):
    """
    Submit the text that a function returns; see :func:`text_to_speech_task`.

    :param python_callable: the function
    :param op_args: its positional arguments (templated)
    :param op_kwargs: its keyword arguments (templated)
    """

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *TextToSpeechOperator.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **TextToSpeechOperator.template_fields_renderers,
    }
    custom_operator_name = "@task.text_to_speech"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, **kwargs)
        self._returned: dict[str, Any] = {}
        self._is_killed = False

    def execute(self, context: Context) -> str:
        """Call the function, and submit what it returns as :class:`TextToSpeechOperator` does."""
        # A copy, because an argument of the function may have the name of an entry, e.g. `ti`.
        inputs = copy(context)
        context_merge(inputs, self.op_kwargs)
        function = getattr(self.python_callable, "__name__", "of this task")
        returned = self.python_callable(*self.op_args, **determine_kwargs(self.python_callable, self.op_args, inputs))
        if self._is_killed:
            raise AirflowException(
                f"Airflow stopped this attempt while the function {function} was running: the attempt has submitted "
                "nothing."
            )
        self._returned = parse_returned(returned, function)
        self._set(self._returned)
        # Not `super()`: DecoratedOperator of Airflow 3.0 would fail after the submit, because it needs `xcom_push`.
        return TextToSpeechOperator.execute(self, context)

    def begin(self, context: Context) -> DurableSubmit[Any]:
        """Return the submit of this attempt; it sends nothing if Airflow has stopped the attempt before."""
        submit = super().begin(context)
        if self._is_killed:
            submit.cancel()
        return submit

    def defer(self, *, kwargs: dict[str, Any] | None = None, **arguments: Any) -> NoReturn:
        """Defer, and keep which account the function has chosen: it is not called again afterwards."""
        account = {name: self._returned[name] for name in _NEEDED_AFTER_DEFERRAL if name in self._returned}
        super().defer(kwargs={**(kwargs or {}), "account": account}, **arguments)

    def execute_complete(
        self,
        context: Context,
        event: Mapping[str, Any],
        mps_task_id: str | None = None,
        account: Mapping[str, str] | None = None,
    ) -> str:
        """Return the ``TaskId`` after the trigger has fired, without calling the function again."""
        self._set(account or {})
        return super().execute_complete(context, event, mps_task_id)

    def on_kill(self) -> None:
        """Submit nothing when the function returns, or cancel the submit."""
        self._is_killed = True
        super().on_kill()

    def _make_request(self) -> SpeechRequest:
        request = super()._make_request()
        # Let Airflow show the returned values in Rendered Templates. It could not encode some invalid ones.
        self.overwrite_rtif_after_execution = True
        return request

    def _set(self, arguments: Mapping[str, Any]) -> None:
        for name, value in arguments.items():
            setattr(self, name, value)


@overload
def text_to_speech_task(python_callable: Callable[P, R]) -> Task[P, R]: ...


@overload
def text_to_speech_task(
    python_callable: None = None,
    multiple_outputs: Literal[False] | None = None,
    *,
    text: str | None = ...,
    text_path: str | ObjectStoragePath | None = ...,
    voice_id: str | None = ...,
    voice_name: str | None = ...,
    text_lang: str | None = ...,
    ext_param: Mapping[str, Any] | str | None = ...,
    sample_rate: int | str | None = ...,
    pitch: int | str | None = ...,
    target_duration: float | str | None = ...,
    translate_to: str | None = ...,
    translate_requirement: str | None = ...,
    max_characters: int | str | None = ...,
    wait_for_completion: bool = ...,
    deferrable: bool = ...,
    poll_interval: float = ...,
    durable: bool = ...,
    on_unknown: Literal["fail", "resubmit"] = ...,
    mps_conn_id: str = ...,
    region: str | None = ...,
    **kwargs: Any,
) -> Callable[[Callable[P, R]], Task[P, R]]: ...


def text_to_speech_task(  # type: ignore[misc]  # a TaskDecorator is both, which its type does not say
    python_callable: Callable[..., Any] | None = None,
    multiple_outputs: bool | None = None,  # noqa: FBT001 - Airflow's signature
    **kwargs: Any,
) -> TaskDecorator:
    """
    Turn a function into a task that submits the text it returns; use it as ``@task.text_to_speech``.

    The function returns the text, or a dict of arguments of ``TextToSpeechOperator``; see
    :class:`TextToSpeechArguments`. They take precedence over those of the decorator, and are not rendered. The task
    waits, defers, retries and reconnects like the operator, and returns the ``TaskId``. A retry calls the function
    again. The end of a deferral does not.

    :param python_callable: the function to decorate
    :param multiple_outputs: ``None`` or ``False``: the result is one value, the ``TaskId``
    :param kwargs: arguments of ``TextToSpeechOperator`` and of every task, e.g. ``retries``
    :raises InvalidRequestError: if ``multiple_outputs`` is ``True``. When the task runs: if the function returns
        something else, or an argument is invalid; nothing was submitted; not retried
    """
    if multiple_outputs:
        raise InvalidRequestError(
            "@task.text_to_speech has one result, the TaskId, and cannot have multiple_outputs. Remove the argument."
        )
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=False,  # or Airflow would infer it from the annotation of a function that returns a dict
        decorated_operator_class=_TextToSpeechDecoratedOperator,
        **kwargs,
    )
