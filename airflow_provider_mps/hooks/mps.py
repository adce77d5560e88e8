"""The hook for Tencent Cloud MPS."""

from __future__ import annotations

import asyncio
import threading
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar
from weakref import WeakKeyDictionary

from airflow.providers.common.compat.sdk import BaseHook
from tenacity import AsyncRetrying, Retrying

from airflow_provider_mps.api.retry import await_connection_change, make_call_policy, wait_for_connection_change
from airflow_provider_mps.concurrency import run_in_daemon_thread
from airflow_provider_mps.connection_form import (
    CONN_TYPE,
    DEFAULT_CONN_ID,
    FIELD_BEHAVIOUR,
    HOOK_NAME,
    get_form_widgets,
)
from airflow_provider_mps.error_codes import is_credential_error
from airflow_provider_mps.exceptions import MpsApiError
from airflow_provider_mps.hooks.voices import VoiceMethods
from airflow_provider_mps.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from contextlib import AbstractContextManager
    from typing import Unpack

    from airflow_provider_mps.api.actions import ApiCall
    from airflow_provider_mps.api.client import AsyncClient, Client
    from airflow_provider_mps.api.connection import MpsConnection
    from airflow_provider_mps.api.credentials import Credential
    from airflow_provider_mps.speech.synthesis import SynthesisRequest, SynthesizedSpeech
    from airflow_provider_mps.speech.task import TextToSpeechTask

T = TypeVar("T")

MAX_REFRESHES = 2
"""Refreshes of the credentials during one call: at once, and after the connection has changed."""


class SynthesisOptions(TypedDict, total=False):
    """Options of a short text; see :meth:`MpsHook.synthesize_speech`."""

    audio_format: str
    sample_rate: int | str | None
    target_duration: float | str | None
    output_type: str


class MpsHook(VoiceMethods, BaseHook):
    """
    Call the MPS API with the credentials of an Airflow connection.

    The first call looks up the connection and imports the SDK. Transient errors are retried for some seconds with full
    jitter. If MPS rejects the credentials, the hook refreshes them from the connection; if MPS rejects them again, the
    hook waits some seconds for the connection to change.

    :param mps_conn_id: id of a connection of type ``tencent_mps``; ``None`` or empty means ``mps_default``
    :param region: Overrides the connection's region. The text-to-speech calls need none.
    """

    conn_name_attr = "mps_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = CONN_TYPE
    hook_name = HOOK_NAME

    def __init__(self, mps_conn_id: str = default_conn_name, region: str | None = None, **kwargs: Any) -> None:
        from airflow_provider_mps.api.connection import parse_conn_id

        super().__init__(**kwargs)
        self.mps_conn_id = parse_conn_id(mps_conn_id)
        self.region = region
        self.metrics = Metrics(self.mps_conn_id)
        self._client: Client | None = None
        self._async_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, _ClientSlot] = WeakKeyDictionary()
        self._refresh_lock = threading.Lock()

    # Defined here and not inherited: Airflow checks the attributes of the class itself.
    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return labels and placeholders of the connection form, for Airflow 2.11 to 3.1."""
        return {name.replace("-", "_"): value for name, value in FIELD_BEHAVIOUR.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the additional fields of the connection form, for Airflow 2.11 to 3.1."""
        return get_form_widgets()

    def get_conn(self) -> Client:
        """
        Return the SDK's ``CommonClient``, which can call every action of MPS: ``call_json(action, params)``.

        The client and its connection to the server are kept. The SDK's methods neither retry nor translate errors.

        :raises InvalidMpsConnectionError: if the connection does not exist or must be fixed
        """
        if self._client is None:
            from airflow_provider_mps.api.client import make_client

            self._client = make_client(self.get_mps_connection())
        return self._client

    async def aget_conn(self) -> AsyncClient:
        """Return the SDK's asynchronous ``CommonClient``, kept for the running event loop; see :meth:`get_conn`."""
        slot = self._async_clients.setdefault(asyncio.get_running_loop(), _ClientSlot())
        async with slot.lock:
            if slot.client is None:
                connection = await self.aget_mps_connection()

                def make_client() -> AsyncClient:
                    # Imported in this thread, because importing the SDK blocks.
                    from airflow_provider_mps.api.client import make_async_client

                    return make_async_client(connection)

                slot.client = await run_in_daemon_thread(make_client)
            return slot.client

    async def aclose(self) -> None:
        """Close the client of the running event loop; the next awaited call makes a new one."""
        slot = self._async_clients.pop(asyncio.get_running_loop(), None)
        if slot is not None and slot.client is not None:
            await slot.client.close()

    def get_mps_connection(self) -> MpsConnection:
        """
        Look up the connection, and check its fields.

        :raises InvalidMpsConnectionError: if it does not exist or must be fixed
        """
        from airflow_provider_mps.api.connection_lookup import get_mps_connection

        return get_mps_connection(self.mps_conn_id, self.region, self)

    async def aget_mps_connection(self) -> MpsConnection:
        """Do :meth:`get_mps_connection` in an event loop."""
        from airflow_provider_mps.api.connection_lookup import aget_mps_connection

        return await aget_mps_connection(self.mps_conn_id, self.region, self)

    def test_connection(self) -> tuple[bool, str]:
        """
        Query a task that cannot exist: any response about that task proves that the sensor may query tasks.

        :return: whether the connection works, and a message for the user; the query takes at most nine seconds
        """
        from airflow_provider_mps.api.connection_lookup import check_connection

        return check_connection(self.mps_conn_id, self.region, self)

    def describe_text_to_speech_task(self, mps_task_id: str) -> TextToSpeechTask:
        """
        Query a task.

        https://www.tencentcloud.com/document/product/1041/79696

        :param mps_task_id: the ``TaskId`` that submitting returned
        :return: the current state of the task
        :raises MpsApiError: if MPS does not respond, or returns an error, after short retries
        """
        from airflow_provider_mps.api.actions import make_describe_call

        return self._call(make_describe_call(mps_task_id))

    async def adescribe_text_to_speech_task(self, mps_task_id: str) -> TextToSpeechTask:
        """Do :meth:`describe_text_to_speech_task` in an event loop."""
        from airflow_provider_mps.api.actions import make_describe_call

        return await self._acall(make_describe_call(mps_task_id))

    def submit_text_to_speech(
        self, text: str, voice_id: str, text_lang: str | None = None, ext_param: Mapping[str, Any] | str | None = None
    ) -> str:
        """
        Submit a text, which MPS bills.

        https://www.tencentcloud.com/document/product/1041/79693

        The hook retries the request only if MPS provably did not accept it.

        :param text: the text to speak
        :param voice_id: the voice
        :param text_lang: language of the text, e.g. ``en``. Without it, the default of MPS applies: Chinese on the
            international site, automatic detection on the mainland site
        :param ext_param: ``ExtParam`` (``synExt``, ``transExt``) as a dict or its JSON
        :return: the ``TaskId``
        :raises MpsApiError: if MPS rejects the text, or the outcome is unknown; see its ``error_class``
        :raises InvalidRequestError: if an argument is invalid
        """
        from airflow_provider_mps.api.actions import make_submit_call

        result = self._call(make_submit_call(text, voice_id, text_lang, ext_param), self.submit_attempt)
        self.log.info("MPS accepted task %s (RequestId %s)", result.task_id, result.request_id)
        return result.task_id

    async def asubmit_text_to_speech(
        self, text: str, voice_id: str, text_lang: str | None = None, ext_param: Mapping[str, Any] | str | None = None
    ) -> str:
        """Do :meth:`submit_text_to_speech` in an event loop."""
        from airflow_provider_mps.api.actions import make_submit_call

        result = await self._acall(make_submit_call(text, voice_id, text_lang, ext_param))
        self.log.info("MPS accepted task %s (RequestId %s)", result.task_id, result.request_id)
        return result.task_id

    def synthesize_speech(
        self,
        text: str,
        voice_id: str,
        text_lang: str | None = None,
        *,
        audio_format: str = "wav",
        sample_rate: int | str | None = None,
        target_duration: float | str | None = None,
        output_type: str = "url",
    ) -> SynthesizedSpeech:
        """
        Speak a short text in one call, which MPS bills, and return the audio or its URL.

        https://cloud.tencent.com/document/product/862/135348

        The hook retries the request only if MPS provably did not accept it. The response may take two minutes, whatever
        the connection's ``timeout``.

        :param text: the text to speak
        :param voice_id: the voice
        :param text_lang: language of the text, e.g. ``en``; without it, MPS detects the language
        :param audio_format: ``wav`` or ``mp3``
        :param sample_rate: sample rate in Hz: 8000, 16000, 22050, 24000, 32000 or 44100; without it, MPS chooses
        :param target_duration: length of the audio in seconds; without it, as long as the text takes
        :param output_type: ``url`` for a signed URL, valid for 24 hours, or ``data`` for the audio itself, up to 12 MiB
        :raises MpsApiError: if MPS rejects the text, or the outcome is unknown; see its ``error_class``
        :raises InvalidRequestError: if an argument is invalid
        """
        from airflow_provider_mps.speech.synthesis import SynthesisRequest

        return self.synthesize(
            SynthesisRequest.from_options(
                text,
                voice_id,
                text_lang,
                audio_format=audio_format,
                sample_rate=sample_rate,
                target_duration=target_duration,
                output_type=output_type,
            )
        )

    async def asynthesize_speech(
        self, text: str, voice_id: str, text_lang: str | None = None, **options: Unpack[SynthesisOptions]
    ) -> SynthesizedSpeech:
        """Do :meth:`synthesize_speech` in an event loop."""
        from airflow_provider_mps.api.actions import make_synthesize_call
        from airflow_provider_mps.speech.synthesis import SynthesisRequest

        request = SynthesisRequest.from_options(text, voice_id, text_lang, **options)
        return self._log_speech(await self._acall(make_synthesize_call(request)))

    def synthesize(self, request: SynthesisRequest) -> SynthesizedSpeech:
        """Do :meth:`synthesize_speech` for a validated request."""
        from airflow_provider_mps.api.actions import make_synthesize_call

        return self._log_speech(self._call(make_synthesize_call(request), self.submit_attempt))

    def _log_speech(self, speech: SynthesizedSpeech) -> SynthesizedSpeech:
        self.log.info("MPS has spoken the text (RequestId %s)", speech.request_id)
        return speech

    async def acall_once(self, call: ApiCall[T], before_sending: Callable[[], Awaitable[None]] | None = None) -> T:
        """
        Make a call without retries, refreshes and metrics, for callers that pace, retry and count calls themselves.

        :param call: from :mod:`~airflow_provider_mps.api.actions`
        :param before_sending: awaited before the request is written to its connection; may raise an MpsApiError
        :raises MpsApiError: if MPS does not respond, or returns an error
        """
        client = await self.aget_conn()
        return await client.execute(call, before_sending)

    async def arefresh_credentials(self, expired: Credential, error: Exception) -> None:
        """
        Sign with the credentials that the connection has now, unless another call has refreshed them meanwhile.

        :param expired: the client's ``credential`` when the rejected call was made
        :param error: the error of that call, for the log
        """
        from airflow_provider_mps.api.client import make_client_credential
        from airflow_provider_mps.api.credentials import AsyncCredential

        client, connection = await self.aget_conn(), await self.aget_mps_connection()
        credential = await run_in_daemon_thread(lambda: AsyncCredential(make_client_credential(connection)))
        if client.credential is expired:
            self.log.info("MPS rejected the credentials, retrying with refreshed ones: %s", error)
            client.credential, client.connection = credential, connection

    def _refresh_credentials(self, expired: Credential, error: Exception) -> None:
        from airflow_provider_mps.api.client import make_client_credential

        client = self.get_conn()
        with self._refresh_lock:
            if client.credential is expired:
                self.log.info("MPS rejected the credentials, retrying with refreshed ones: %s", error)
                connection = self.get_mps_connection()
                client.credential, client.connection = make_client_credential(connection), connection

    def _call(
        self,
        call: ApiCall[T],
        attempt_context: Callable[[], AbstractContextManager[object]] = nullcontext,
        refreshes: int = 0,
    ) -> T:
        client = self.get_conn()
        credential, connection = client.credential, client.connection

        def request() -> T:
            with attempt_context(), self.metrics.observe_request(call.characters):
                return client.execute(call)

        try:
            return Retrying(**make_call_policy(call, self.log))(request)
        except MpsApiError as error:
            if not is_credential_error(error.code) or refreshes >= MAX_REFRESHES:
                raise
            # The first refresh comes at once: temporary keys may have expired.
            if refreshes > 0 and not wait_for_connection_change(self.get_mps_connection, connection):
                raise
            self._refresh_credentials(credential, error)
        return self._call(call, attempt_context, refreshes + 1)

    async def _acall(self, call: ApiCall[T], refreshes: int = 0) -> T:
        client = await self.aget_conn()
        credential, connection = client.credential, client.connection

        async def request() -> T:
            with self.metrics.observe_request(call.characters):
                return await self.acall_once(call)

        try:
            return await AsyncRetrying(**make_call_policy(call, self.log))(request)
        except MpsApiError as error:
            if not is_credential_error(error.code) or refreshes >= MAX_REFRESHES:
                raise
            if refreshes > 0 and not await await_connection_change(self.aget_mps_connection, connection):
                raise
            await self.arefresh_credentials(credential, error)
        return await self._acall(call, refreshes + 1)


def make_hook(operator: Any) -> MpsHook:
    """Return a hook for an operator or a sensor, with its class as a tag of the metrics."""
    hook = MpsHook(operator.mps_conn_id, operator.region)
    hook.metrics = Metrics(hook.mps_conn_id, type(operator).__name__)
    return hook


@dataclass
class _ClientSlot:
    """The asynchronous client of one event loop, and a lock so that concurrent first calls make only one."""

    client: AsyncClient | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
