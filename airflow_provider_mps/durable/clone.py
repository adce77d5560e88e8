"""Clone a voice once over all attempts of a task."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_mps.api.voice_actions import CLONE_TIMEOUT_SECONDS, ClonedVoice
from airflow_provider_mps.durable.record import SubmitRecord
from airflow_provider_mps.durable.request import DurableRequest
from airflow_provider_mps.error_codes import can_retry_query
from airflow_provider_mps.exceptions import MpsApiError
from airflow_provider_mps.redaction import quote_value
from airflow_provider_mps.speech.voices import IfExists, choose_existing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from airflow_provider_mps.hooks.mps import MpsHook
    from airflow_provider_mps.speech.voices import CloneRequest, Voice

STATE_KEY = "mps_voice_clone"
"""Key of the record in the task state store. Running tasks have stored it, so it must not change."""
GRACE_SECONDS = CLONE_TIMEOUT_SECONDS + 30
"""How long after a request without a response MPS may still list the voice for the first time."""
SEARCH_INTERVAL_SECONDS = 5.0


@dataclass(frozen=True)
class CloneRecord(SubmitRecord):
    """What the task state store holds about a clone; ``task_id`` is its VoiceId."""

    name: str = ""
    known_ids: list[str] = field(default_factory=list)
    """VoiceIds of the clones that had this name before."""

    @property
    def sent_at_seconds(self) -> float:
        """When the request was sent, in seconds since 1970."""
        return datetime.fromisoformat(self.sent_at).timestamp()


class DurableClone(DurableRequest):
    """
    The clone of one task instance, over all of its attempts.

    After an unknown outcome, the voice of this task is the clone of this name whose VoiceId was not listed before.

    :param if_exists: what to do if clones of this name exist before the first attempt
    """

    def __init__(
        self, hook: MpsHook, context: Mapping[str, Any], if_exists: IfExists, log: Any, *, durable: bool = True
    ) -> None:
        super().__init__(STATE_KEY, "voice sample", hook, context, log, durable=durable)
        self._if_exists = if_exists
        retry_delay = getattr(context.get("task"), "retry_delay", None)
        self._retry_delay = retry_delay.total_seconds() if isinstance(retry_delay, timedelta) else 0.0

    @property
    def pending_description(self) -> str | None:
        """What MPS has made, or may make, as a sentence; ``None`` if no request was sent, or MPS rejected it."""
        if self._pending is None:
            return None
        record = cast("CloneRecord", self._pending)
        return f"MPS has made voice {record.task_id}" if record.task_id else f"MPS may make voice {record.name!r}"

    def run(self, request: CloneRequest) -> ClonedVoice:
        """
        Return the clone: of an earlier attempt, an existing one, or a new one.

        :raises InvalidRequestError: if ``if_exists`` does not allow what exists
        :raises AirflowException: if it is unknown whether MPS made the voice; a retry looks for it again
        :raises AirflowFailException: the same, if no retry could find it
        :raises MpsApiError: if MPS did not make the voice
        """
        try:
            return self._run(request)
        except AirflowFailException:
            self.record_end()
            raise

    @contextmanager
    def prevent_second_voice(self) -> Iterator[None]:
        """
        Keep a retry from making a second voice, if it could not find the one that this attempt has made.

        A retry finds it with the record in the store, or by its name with ``if_exists="reuse"``.

        :raises AirflowFailException: in place of an error that Airflow would retry
        """
        try:
            yield
        except BaseException as error:
            can_find = self.has_store or self._if_exists is IfExists.REUSE or self._pending is None
            if can_find or isinstance(error, AirflowFailException | KeyboardInterrupt):
                raise
            voice_id = self._pending.task_id if self._pending else None
            made = (
                f"MPS had made voice {voice_id}" if voice_id else "the sample was sent, and MPS may have made a voice"
            )
            raise AirflowFailException(
                f"This attempt failed ({type(error).__name__}) after {made}. It is not retried, because Airflow has no "
                "record of that voice: a retry might make another. Use the voice or delete it, then clear the task."
            ) from error

    def _run(self, request: CloneRequest) -> ClonedVoice:
        fingerprint = request.fingerprint(self._hook.mps_conn_id, self._hook.region or None)
        name = request.profile["Name"]
        earlier = CloneRecord.load(self._store, STATE_KEY)
        if earlier is not None and (voice := self._find_earlier(earlier, fingerprint, name)) is not None:
            return voice
        clones = self._list_clones(name) or self._find_unrecorded(name)
        if (existing := choose_existing(name, clones, self._if_exists)) is not None:
            self._log.info("Voice %r exists and has the VoiceId %s: nothing was cloned", name, existing.voice_id)
            return ClonedVoice(existing.voice_id, existing.audio_url)
        known_ids = [voice.voice_id for voice in clones]
        return self._create(request, fingerprint, name, known_ids)

    def _find_earlier(self, earlier: CloneRecord, fingerprint: str, name: str) -> ClonedVoice | None:
        """Return the voice that an earlier attempt has made; ``None`` if this attempt must make one."""
        was_cleared = earlier.was_cleared(self._max_tries, self._try_number)
        if was_cleared and self._if_exists is IfExists.CREATE:
            return None
        if earlier.task_id is None:
            self._log.warning(
                "An earlier attempt ended after %s, while it cloned voice %r. Looking for that voice",
                earlier.sent_at,
                earlier.name,
            )
            found = self._search(earlier.name, earlier.known_ids, earlier.sent_at_seconds)
            if found is None:
                self._log.warning("MPS has made no voice %r since %s: cloning it again", earlier.name, earlier.sent_at)
                return None
        else:
            found = self._find_recorded(earlier, was_cleared=was_cleared)
            if found is None:
                self._log.warning("Voice %s of an earlier attempt was deleted: cloning it again", earlier.task_id)
                return None
        if earlier.fingerprint != fingerprint and not (self._if_exists is IfExists.REUSE and earlier.name == name):
            self._log.warning(
                "The arguments have changed; voice %s of an earlier attempt still counts towards the account's limit",
                found.voice_id,
            )
            return None
        self._log.info("Found voice %s of an earlier attempt: nothing was cloned again", found.voice_id)
        self._save(replace(earlier, task_id=found.voice_id, max_tries=self._max_tries, has_ended=False))
        return ClonedVoice(found.voice_id, found.audio_url)

    def _find_recorded(self, earlier: CloneRecord, *, was_cleared: bool) -> Voice | None:
        """Return the voice whose id an earlier attempt has recorded; ``None`` if it was deleted."""
        voice_id = str(earlier.task_id)
        voice = self._hook.get_voice(voice_id)
        if voice is not None or was_cleared:
            return voice
        # No user has cleared the task meanwhile, so it is more likely that MPS lists the voice late.
        return self._search(earlier.name, earlier.known_ids, earlier.sent_at_seconds, voice_id)

    def _find_unrecorded(self, name: str) -> list[Voice]:
        """Wait for a voice that an earlier attempt may have requested just before this one, without a record of it."""
        seconds = GRACE_SECONDS - self._retry_delay
        if self.has_store or self._try_number <= 1 or self._if_exists is not IfExists.REUSE or seconds <= 0:
            return []
        self._log.info(
            "An earlier attempt may have cloned voice %r. Looking for it for %.0f s. To avoid this wait, set a "
            "retry_delay of at least %g s",
            name,
            seconds,
            GRACE_SECONDS,
        )
        found = self._search(name, [], time.time() - self._retry_delay)
        return [found] if found else []

    def _create(self, request: CloneRequest, fingerprint: str, name: str, known_ids: list[str]) -> ClonedVoice:
        def start() -> CloneRecord:
            return replace(CloneRecord.start(fingerprint, self._max_tries), name=name, known_ids=known_ids)

        self._hook.get_conn()  # so that its errors are raised before anything can be sent
        self._hook.submit_attempt = lambda: self.record_request(start())
        try:
            voice = self._hook.create_clone(request)
        except MpsApiError as error:
            if self._pending is None:
                raise
            voice = self._recover(error, name, known_ids, cast("CloneRecord", self._pending))
        self._pending = replace(self._pending or start(), task_id=voice.voice_id)
        self._save(self._pending)
        return voice

    def _recover(self, error: MpsApiError, name: str, known_ids: list[str], sent: CloneRecord) -> ClonedVoice:
        """Return the voice that MPS has made although its response is missing."""
        self._log.warning("%s It is unknown whether MPS made voice %r. Looking for it", error.describe(), name)
        # Sending a large sample, or a connection with a long timeout, can outlast the grace period.
        found = self._search(name, known_ids, max(sent.sent_at_seconds, time.time() - CLONE_TIMEOUT_SECONDS))
        if found is not None:
            self._log.info("Found voice %s: MPS has made it", found.voice_id)
            return ClonedVoice(found.voice_id, found.audio_url)
        message = f"{error.describe()} No new voice named {quote_value(name)} appeared within {GRACE_SECONDS:g} s"
        if self.has_store or self._if_exists is IfExists.REUSE:
            raise AirflowException(f"{message}. A retry looks for it again before it clones the voice.") from error
        raise AirflowFailException(
            f"{message}, and a retry could not identify it. Look for it with MpsHook.list_voices, then clear the task."
        ) from error

    def _search(
        self, name: str, known_ids: Collection[str], sent_at: float, voice_id: str | None = None
    ) -> Voice | None:
        """
        Return the clone that is new; ``None`` if none appears within the grace period after the request.

        :param known_ids: VoiceIds that are not new
        :param sent_at: when the request was sent, in seconds since 1970
        :param voice_id: the VoiceId of the clone, if MPS returned it
        """
        ends_at = min(sent_at, time.time()) + GRACE_SECONDS
        while True:
            failure = None
            try:
                new = [voice for voice in self._list_clones(name) if voice.voice_id not in known_ids]
                new = [voice for voice in new if voice_id in (None, voice.voice_id)]
            except MpsApiError as error:
                if not can_retry_query(error.error_class):
                    raise
                self._log.warning("Listing the clones named %r failed, will retry: %s", name, error)
                failure, new = error, []
            if new:
                return new[0]
            seconds_left = ends_at - time.time()
            if seconds_left <= 0:
                if failure is not None:
                    raise failure
                return None
            if self._is_cancelled:
                raise AirflowException(
                    f"Airflow ended this attempt while it looked for voice {quote_value(name)}. A retry looks again."
                )
            time.sleep(min(SEARCH_INTERVAL_SECONDS, seconds_left))

    def _list_clones(self, name: str) -> list[Voice]:
        return [voice for voice in self._hook.list_voices("clone", name=name) if voice.name == name]

    def _save(self, record: SubmitRecord) -> None:
        try:
            if self._store:
                record.save(self._store, STATE_KEY)
        except Exception as error:  # noqa: BLE001 - the voice exists; only a later attempt needs its id
            self._log.error("MPS made voice %s, but Airflow could not store its id: %s", record.task_id, error)
