"""The only module that talks to the MPS API."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson
from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook
from tenacity import (
    AsyncRetrying,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from airflow_provider_mps.api import describe_call, submit_call
from airflow_provider_mps.client import make_async_client, make_client, response_of, to_api_error
from airflow_provider_mps.connection import MpsConnection
from airflow_provider_mps.errors import (
    INVALID_RESPONSE,
    ErrorClass,
    InvalidMpsConnectionError,
    MpsApiError,
)

if TYPE_CHECKING:
    from tenacity import (
        RetryCallState,
    )

    from airflow_provider_mps.api import ApiCall
    from airflow_provider_mps.text_to_speech import TextToSpeechTask

T = TypeVar("T")

_NO_SUCH_TASK = "0-airflow-test-connection"


class MpsHook(BaseHook):
    """
    Speaks MPS with the credentials of an Airflow connection.

    The connection is looked up, and the SDK imported, at the first call. Errors that another try may mend are
    retried here for some seconds, with full jitter; what still fails is raised.

    :param mps_conn_id: the connection, of type ``tencent_mps``
    :param region: goes before the connection's own region; neither call needs one
    """

    conn_name_attr = "mps_conn_id"
    default_conn_name = "mps_default"
    conn_type = "tencent_mps"
    hook_name = "Tencent Cloud MPS"

    def __init__(self, mps_conn_id: str = default_conn_name, region: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mps_conn_id = mps_conn_id
        self.region = region
        self._client: Any = None
        self._async_client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def get_conn(self) -> Any:
        """
        Return the SDK's ``CommonClient``, which reaches every action of MPS: ``call_json(action, params)``.

        It is made once and kept, with its connection to the server. It neither retries nor translates errors.

        :raises InvalidMpsConnectionError: when the connection is missing or must be mended
        """
        if self._client is None:
            try:
                stored = self.get_connection(self.mps_conn_id)
            except AirflowNotFoundException as error:
                raise self._no_connection() from error
            self._client = make_client(self._parse(stored, stored.extra_dejson))
        return self._client

    async def aget_conn(self) -> Any:
        """Return the SDK's asynchronous ``CommonClient``, kept for the running event loop; see :meth:`get_conn`."""
        loop = asyncio.get_running_loop()
        if self._async_client is None or self._loop is not loop:
            try:
                stored = await get_async_connection(self.mps_conn_id, hook=self)
            except AirflowNotFoundException as error:
                raise self._no_connection() from error
            settings = self._parse(stored, await get_async_extra_dejson(stored))
            self._async_client = await asyncio.to_thread(make_async_client, settings)
            self._loop = loop
        return self._async_client

    async def aclose(self) -> None:
        """Close the asynchronous client; the next awaited call makes a new one."""
        client, self._async_client = self._async_client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.close()

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
        accepted = self._call(submit_call(text, voice_id, text_lang, ext_param))
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

        :return: whether it works, and a sentence for the person who pressed *Test*
        """
        try:
            self._call_once(describe_call(_NO_SUCH_TASK))
        except MpsApiError as error:
            if _disproves_connection(error):
                return False, str(error)
        except InvalidMpsConnectionError as error:
            return False, str(error)
        return True, "MPS accepted the credentials, and they may query text-to-speech tasks."

    # What follows is the one way to the API: `_call` and `_acall` differ in nothing but `await`.

    def _call(self, call: ApiCall[T]) -> T:
        try:
            return self._call_patiently(call)
        except MpsApiError as error:
            if error.error_class is not ErrorClass.CREDENTIALS_EXPIRED:
                raise
            self._renew_credentials(error)
            return self._call_patiently(call)

    def _call_patiently(self, call: ApiCall[T]) -> T:
        result: T = Retrying(**self._retries(call))(self._call_once, call)
        return result

    async def _acall(self, call: ApiCall[T]) -> T:
        try:
            return await self._acall_patiently(call)
        except MpsApiError as error:
            if error.error_class is not ErrorClass.CREDENTIALS_EXPIRED:
                raise
            await self.aclose()
            self._renew_credentials(error)
            return await self._acall_patiently(call)

    async def _acall_patiently(self, call: ApiCall[T]) -> T:
        result: T = await AsyncRetrying(**self._retries(call))(self._acall_once, call)
        return result

    def _call_once(self, call: ApiCall[T]) -> T:
        client = self.get_conn()
        try:
            return call.read(response_of(client.call_json(call.action, call.params)))
        except Exception as error:
            raise to_api_error(error, self._context(call)) from error

    async def _acall_once(self, call: ApiCall[T]) -> T:
        client = await self.aget_conn()
        try:
            # Renewing temporary keys blocks; done here, the client finds them fresh.
            await asyncio.to_thread(client.credential.get_credential_info)
            return call.read(response_of(await client.call_and_deserialize(call.action, call.params)))
        except Exception as error:
            raise to_api_error(error, self._context(call)) from error

    def _retries(self, call: ApiCall[Any]) -> dict[str, Any]:
        def repeat(error: BaseException) -> bool:
            return isinstance(error, MpsApiError) and call.may_repeat(error.error_class)

        def tell(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            self.log.debug("Attempt %s of %s failed: %s", state.attempt_number, call.action, error)

        return {
            "retry": retry_if_exception(repeat),
            "stop": stop_after_attempt(4) | stop_after_delay(20),
            "wait": wait_random_exponential(multiplier=0.5, max=5),
            "before_sleep": tell,
            "reraise": True,
        }

    def _context(self, call: ApiCall[Any]) -> str:
        return f"{call.action} for {call.subject} with connection '{self.mps_conn_id}'"

    def _parse(self, stored: Any, extra: object) -> MpsConnection:
        if not isinstance(extra, Mapping):
            raise InvalidMpsConnectionError(f"Connection '{self.mps_conn_id}': Extra must be a JSON object.")
        return MpsConnection.parse(stored, extra, self.region)

    def _renew_credentials(self, error: MpsApiError) -> None:
        """Forget both clients: the next call reads the connection anew and asks for new temporary keys."""
        self.log.info("The credentials have expired, trying once with fresh ones: %s", error)
        self._client = self._async_client = None

    def _no_connection(self) -> InvalidMpsConnectionError:
        return InvalidMpsConnectionError(
            f"Connection '{self.mps_conn_id}' does not exist. Create it under Admin → Connections with the type "
            f"'{self.hook_name}', or set AIRFLOW_CONN_{self.mps_conn_id.upper()}."
        )


def _disproves_connection(error: MpsApiError) -> bool:
    """Tell whether an error of a test query means that the sensor could not ask either."""
    return error.code.split(".")[0] in {
        "ClientNetworkError",
        "ServerNetworkError",
        INVALID_RESPONSE,
        "AuthFailure",
        "UnauthorizedOperation",
        "IpInBlacklist",
        "IpNotInWhitelist",
        "ActionOffline",
        "InvalidAction",
        "NoSuchProduct",
        "NoSuchVersion",
        "UnsupportedRegion",
        "UnsupportedProtocol",
    }
