"""The only module that talks to the MPS API."""

from __future__ import annotations

import asyncio
import itertools
import threading
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from weakref import WeakKeyDictionary

from airflow.providers.common.compat.connection import get_async_extra_dejson
from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_mps.api import describe_call, submit_call
from airflow_provider_mps.connection import MpsConnection, require_conn_id
from airflow_provider_mps.connection_form import DEFAULT_CONN_ID, field_behaviour, form_widgets
from airflow_provider_mps.connection_test import try_connection
from airflow_provider_mps.errors import (
    OUTCOME_UNKNOWN,
    ErrorClass,
    InvalidMpsConnectionError,
    MpsApiError,
    api_error,
    refuses_credentials,
)
from airflow_provider_mps.own_thread import in_own_thread
from airflow_provider_mps.redaction import cause_of, describe_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from contextlib import AbstractContextManager

    from airflow_provider_mps.api import ApiCall
    from airflow_provider_mps.client import AsyncClient, Client
    from airflow_provider_mps.credentials import Credential
    from airflow_provider_mps.text_to_speech import TextToSpeechTask

T = TypeVar("T")

MAX_KEYS = 3
"""Credentials that one call is made with: those there were, those of the connection, and those it changed to."""


class MpsHook(BaseHook):
    """
    Speaks MPS with the credentials of an Airflow connection.

    The connection is looked up, and the SDK imported, at the first call. Errors that another try may mend are
    retried here for some seconds, with full jitter; what still fails is raised. Refused credentials are refreshed from
    the connection; where they are still refused, this waits some seconds for the connection to change.

    :param mps_conn_id: the connection, of type ``tencent_mps``; the default one where it is ``None`` or empty
    :param region: goes before the connection's own region; neither call needs one
    """

    conn_name_attr = "mps_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = "tencent_mps"
    hook_name = "Tencent Cloud MPS"

    def __init__(self, mps_conn_id: str = default_conn_name, region: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mps_conn_id = require_conn_id(mps_conn_id)
        self.region = region
        self.submit_attempt: Callable[[], AbstractContextManager[object]] = nullcontext
        """Makes what :meth:`submit_text_to_speech` enters before each request, and leaves with the request's error."""
        self._client: Client | None = None
        self._connection: MpsConnection | None = None
        self._async: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopsClient] = WeakKeyDictionary()
        self._renewing = threading.Lock()

    # Both here and not inherited: Airflow looks at what the class itself defines.
    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return labels and placeholders of the connection form, for Airflow 2.11 to 3.1."""
        return field_behaviour()

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the further fields of the connection form, for Airflow 2.11 to 3.1."""
        return form_widgets()

    def get_conn(self) -> Client:
        """
        Return the SDK's ``CommonClient``, which reaches every action of MPS: ``call_json(action, params)``.

        It is made once and kept, with its connection to the server. Its own calls neither retry nor translate
        errors.

        :raises InvalidMpsConnectionError: when the connection is missing or must be mended
        """
        if self._client is None:
            connection = self.look_up()
            self._client, self._connection = _make_client(connection), connection
        return self._client

    async def aget_conn(self) -> AsyncClient:
        """Return the SDK's asynchronous ``CommonClient``, kept for the running event loop; see :meth:`get_conn`."""
        kept = self._async.setdefault(asyncio.get_running_loop(), _LoopsClient())
        async with kept.lock:
            if kept.client is None:
                connection = await self._alook_up()
                kept.client = await in_own_thread(lambda: _make_async_client(connection))
            return kept.client

    async def aclose(self) -> None:
        """Close the running event loop's client; the next awaited call makes a new one."""
        kept = self._async.pop(asyncio.get_running_loop(), None)
        if kept is not None and kept.client is not None:
            await kept.client.close()

    def describe_text_to_speech_task(self, mps_task_id: str) -> TextToSpeechTask:
        """
        Ask MPS for a task. https://www.tencentcloud.com/document/product/1041/79696

        :param mps_task_id: the ``TaskId`` that submitting returned
        :return: the task as it is now
        :raises MpsApiError: when MPS does not answer, or refuses, after short retries
        """
        return self._call(describe_call(mps_task_id))

    async def adescribe_text_to_speech_task(self, mps_task_id: str) -> TextToSpeechTask:
        """Do :meth:`describe_text_to_speech_task` in an event loop."""
        return await self._acall(describe_call(mps_task_id))

    def submit_text_to_speech(
        self,
        text: str,
        voice_id: str,
        text_lang: str | None = None,
        ext_param: Mapping[str, Any] | str | None = None,
    ) -> str:
        """
        Submit a text, which MPS bills. https://www.tencentcloud.com/document/product/1041/79693

        It is sent again only where the server provably did not accept it, so that it is never paid twice.

        :param text: what to speak
        :param voice_id: the voice
        :param text_lang: language of the text; MPS decides where it is not given
        :param ext_param: ``ExtParam`` (``synExt``, ``transExt``) as a dict or its JSON
        :return: the ``TaskId``
        :raises MpsApiError: when MPS refuses, or when it is unknown whether it accepted; see its ``error_class``
        :raises InvalidRequestError: when an argument cannot be sent
        """
        accepted = self._call(submit_call(text, voice_id, text_lang, ext_param), self.submit_attempt)
        self.log.info("MPS accepted task %s (RequestId %s)", accepted.task_id, accepted.request_id)
        return accepted.task_id

    async def asubmit_text_to_speech(
        self,
        text: str,
        voice_id: str,
        text_lang: str | None = None,
        ext_param: Mapping[str, Any] | str | None = None,
    ) -> str:
        """Do :meth:`submit_text_to_speech` in an event loop."""
        accepted = await self._acall(submit_call(text, voice_id, text_lang, ext_param))
        self.log.info("MPS accepted task %s (RequestId %s)", accepted.task_id, accepted.request_id)
        return accepted.task_id

    def test_connection(self) -> tuple[bool, str]:
        """
        Ask for a task that cannot exist: any answer about that task proves that the sensor may ask.

        :return: within ten seconds, whether it works, and a sentence for the person who pressed *Test*
        """
        return try_connection(self.mps_conn_id, self.look_up, self._ask_with)

    def _ask_with(self, connection: MpsConnection, call: ApiCall[T]) -> T:
        self._client, self._connection = _make_client(connection), connection
        return self._call_once(call)

    async def acall_once(self, call: ApiCall[T], before_sending: Callable[[], Awaitable[None]] | None = None) -> T:
        """
        Make a call, and neither repeat it nor renew credentials: for who paces, and repeats, by himself.

        :param call: what :mod:`~airflow_provider_mps.api` describes
        :param before_sending: awaited right before the request is written to its connection; may raise an MpsApiError
        :raises MpsApiError: when MPS does not answer, or refuses
        """
        client = await self.aget_conn()
        try:
            return call.read(await client.ask(call.action, call.params, before_sending))
        except Exception as error:  # noqa: BLE001 - what is none of a call's errors is raised as it is
            self._raise(error, call)

    async def arenew_credentials(self, expired: Credential, error: Exception) -> None:
        """
        Read the connection anew, and sign with what it says now, unless another call has done so meanwhile.

        :param expired: the client's ``credential`` when the refused call was made
        :param error: the refusal, for the log
        """
        from airflow_provider_mps.client import credential_of
        from airflow_provider_mps.credentials import FreshKeys

        client, connection = await self.aget_conn(), await self._alook_up()
        renewed = await in_own_thread(lambda: FreshKeys(credential_of(connection)))
        if client.credential is expired:
            self.log.info("The credentials were refused, trying again with fresh ones: %s", error)
            client.credential, client.connection = renewed, connection

    # What follows is the one way to the API: each pair differs in nothing but `await`.

    def _call(self, call: ApiCall[T], attempt: Callable[[], AbstractContextManager[object]] = nullcontext) -> T:
        from airflow_provider_mps.call_retries import patiently, wait_for_change

        def once(call: ApiCall[T]) -> T:
            with attempt():
                return self._call_once(call)

        client = self.get_conn()
        for keys in itertools.count(1):
            credential, connection = client.credential, self._connection
            try:
                return patiently(once, call, self.log)
            except MpsApiError as error:
                if not refuses_credentials(error.code) or keys >= MAX_KEYS:
                    raise
                # The first refresh comes at once: temporary keys may have expired.
                if keys > 1 and not wait_for_change(self.look_up, connection):
                    raise
                self._renew(credential, error)
        raise AssertionError("unreachable")

    async def _acall(self, call: ApiCall[T]) -> T:
        from airflow_provider_mps.call_retries import apatiently, await_change

        client = await self.aget_conn()
        for attempt in itertools.count(1):
            credential, connection = client.credential, client.connection
            try:
                return await apatiently(self.acall_once, call, self.log)
            except MpsApiError as error:
                if not refuses_credentials(error.code) or attempt >= MAX_KEYS:
                    raise
                if attempt > 1 and not await await_change(self._alook_up, connection):
                    raise
                await self.arenew_credentials(credential, error)
        raise AssertionError("unreachable")

    def _call_once(self, call: ApiCall[T]) -> T:
        client = self.get_conn()
        try:
            return call.read(client.ask(call.action, call.params))
        except Exception as error:  # noqa: BLE001 - what is none of a call's errors is raised as it is
            self._raise(error, call)

    def _raise(self, error: Exception, call: ApiCall[Any]) -> NoReturn:
        from airflow_provider_mps.network_errors import to_api_error

        context = f"{call.action} for {call.subject} with connection '{self.mps_conn_id}'"
        try:
            failure = to_api_error(error, context)
        except Exception:
            if call.may_repeat(ErrorClass.OUTCOME_UNKNOWN):
                raise
            # Whatever it is, it came up after a submit may have been sent: Airflow must not retry it.
            failure = api_error(OUTCOME_UNKNOWN, f"unforeseen {describe_error(error)}", context=context)
        # The cause of an unusable connection may quote the secret that made it so.
        raise failure from None if isinstance(failure, InvalidMpsConnectionError) else cause_of(error)

    def _renew(self, expired: Credential, error: MpsApiError) -> None:
        """Give the client fresh credentials, unless another call has done so meanwhile."""
        from airflow_provider_mps.client import credential_of

        client = self.get_conn()
        with self._renewing:
            if client.credential is expired:
                self.log.info("The credentials were refused, trying again with fresh ones: %s", error)
                connection = self.look_up()
                client.credential, self._connection = credential_of(connection), connection

    def look_up(self) -> MpsConnection:
        """
        Read the connection anew, and check it.

        :raises InvalidMpsConnectionError: when it is missing or must be mended
        """
        from airflow_provider_mps.connection_look_up import find_connection

        stored = find_connection(self, self.mps_conn_id)
        return MpsConnection.parse(stored, stored.extra_dejson, self.region)

    async def _alook_up(self) -> MpsConnection:
        from airflow_provider_mps.connection_look_up import afind_connection

        stored = await afind_connection(self, self.mps_conn_id)
        return MpsConnection.parse(stored, await get_async_extra_dejson(stored), self.region)


@dataclass
class _LoopsClient:
    """The asynchronous client of one event loop: it works in no other."""

    client: AsyncClient | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Lets the first of many calls make the client for all."""


def _make_client(connection: MpsConnection) -> Client:
    from airflow_provider_mps.client import make_client

    return make_client(connection)


def _make_async_client(connection: MpsConnection) -> AsyncClient:
    from airflow_provider_mps.client import make_async_client

    return make_async_client(connection)
