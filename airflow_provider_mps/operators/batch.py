"""Submit, wait for and store the lines of a manifest in one task."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import CancelledError
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowTaskTimeout,
    BaseOperator,
    conf,
)

from airflow_provider_mps.exceptions import InvalidRequestError
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.links.text_to_speech import QueryPageLink, SubmitPageLink
from airflow_provider_mps.redaction import describe_error, format_path, get_safe_cause, quote_value
from airflow_provider_mps.speech.parsing import OnUnknown, parse_choice
from airflow_provider_mps.storage.deadline import DEFAULT_TRANSFER_TIMEOUT_SECONDS, parse_timeout
from airflow_provider_mps.storage.destination import parse_destination
from airflow_provider_mps.storage.text_file import parse_path
from airflow_provider_mps.version_compat import ExecutionTimeoutMixin, LiteralMappedValuesMixin, make_uri

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_mps.batch.line import BatchOptions
    from airflow_provider_mps.batch.run import BatchOutcome
    from airflow_provider_mps.batch.summary import Summary
    from airflow_provider_mps.concurrency import EventLoopThread
    from airflow_provider_mps.storage.lineage import FileLineage


class OnLineFailure(StrEnum):
    """What the task does at its end if lines have no audio."""

    FAIL = "fail"
    CONTINUE = "continue"


class TextToSpeechBatchOperator(ExecutionTimeoutMixin, LiteralMappedValuesMixin, BaseOperator):
    """
    Submit the lines of a manifest, wait for them, and store their audio, all in one task.

    The batch records each submit beside the audio, before and after it sends the request. A retry, a clear or another
    run with the same destination resumes from there. If the task is killed while it sends a line, the outcome of that
    submit is unknown: ``on_unknown`` says what happens then.

    The destination gets the audio as ``{id}.wav`` (or the extension of the audio that MPS makes), ``results.jsonl``
    with one object for each line, and ``summary.json`` with counts and sums. The return value holds both paths, the
    counts and the sums. The XCom ``progress`` is a Markdown table, updated while the task runs.
    https://www.tencentcloud.com/document/product/1041/79693

    :param manifest: an ``ObjectStoragePath`` or a string: JSON Lines, CSV with a header, or subtitles (``.srt`` or
        ``.vtt``), each cue of which is a line. A line has ``id``, ``text`` or ``text_path`` (a relative one starts at
        the manifest's folder), ``voice_id`` or ``voice_name``, and any of ``text_lang``, ``ext_param``,
        ``sample_rate``, ``pitch``, ``target_duration``, ``translate_to``, ``translate_requirement``, ``start`` and
        ``end`` (seconds in a track) (templated)
    :param destination: folder for the audio and the results (templated)
    :param voice_id: ``VoiceId`` of lines without a voice (templated)
    :param voice_name: exact name of the voice of lines without a voice, in place of ``voice_id``. The batch lists
        the voices once (templated)
    :param text_lang: language of lines without one, e.g. ``en``. If neither names one, the default of MPS applies:
        Chinese on the international site, automatic detection on the mainland site (templated)
    :param ext_param: ``ExtParam`` of all lines; the values of a line override it (templated)
    :param sample_rate: sample rate in Hz of lines without one: 8000, 16000, 22050, 32000 or 44100 (templated)
    :param pitch: pitch from -12 to 12 of lines without one (templated)
    :param target_duration: length of the audio, in seconds, of lines without one (templated)
    :param translate_to: language to translate lines without one to, e.g. ``en`` (templated)
    :param translate_requirement: instruction for the translation of lines without one (templated)
    :param fit_to_cues: make the audio of each line as long as the time from its ``start`` to its ``end``, unless the
        line sets ``target_duration`` (templated)
    :param subtitle_encoding: encoding of an ``.srt`` or ``.vtt`` manifest, e.g. ``cp1252`` or ``gb18030``. By default,
        the batch detects UTF-8, UTF-16, UTF-32 and CP1252 (templated)
    :param max_characters: maximum length of the text of a line (templated)
    :param resume: resume what another run has left in the destination. A retry or a clear always resumes
    :param on_unknown: if it is unknown whether MPS accepted a line: ``fail`` it, or ``resubmit`` it in the same run, up
        to three times, each of which may be billed
    :param on_line_failure: if lines have no audio at the end: ``fail`` the task, or ``continue``
    :param dry_run: only report lines, characters, the minimum time and errors, from the manifest and the destination;
        does not call MPS
    :param deferrable: wait in the triggerer when only waiting is left; the default is Airflow's
        ``[operators] default_deferrable``
    :param poll_interval: seconds between two polls of a task; longer if the connection's rate limit requires it
    :param transfer_timeout: seconds for storing the audio of one line, including attempts and pauses
    :param partition_key: partition of the event of each ``Asset`` in ``outlets``, from Airflow 3.3 (templated)
    :param mps_conn_id: connection of type ``tencent_mps`` (templated)
    :param region: overrides the connection's region (templated)
    :raises DestinationLockedError: if another batch uses the destination
    :raises AirflowFailException: if lines have no audio, and ``on_line_failure`` is ``fail``; not retried
    :raises AirflowException: if the batch could not finish or, with ``fail``, storing failed; a retry resumes it
    """

    template_fields: Sequence[str] = (
        "manifest",
        "destination",
        "voice_id",
        "voice_name",
        "text_lang",
        "ext_param",
        "sample_rate",
        "pitch",
        "target_duration",
        "translate_to",
        "translate_requirement",
        "fit_to_cues",
        "subtitle_encoding",
        "max_characters",
        "partition_key",
        "mps_conn_id",
        "region",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"ext_param": "json"}
    operator_extra_links = (SubmitPageLink(), QueryPageLink())
    ui_color = "#f3e4f5"

    def __init__(
        self,
        *,
        manifest: str | ObjectStoragePath,
        destination: str | ObjectStoragePath,
        voice_id: str | None = None,
        voice_name: str | None = None,
        text_lang: str | None = None,
        ext_param: Mapping[str, Any] | str | None = None,
        sample_rate: int | str | None = None,
        pitch: int | str | None = None,
        target_duration: float | str | None = None,
        translate_to: str | None = None,
        translate_requirement: str | None = None,
        fit_to_cues: bool | str = False,
        subtitle_encoding: str | None = None,
        max_characters: int | str | None = None,
        resume: bool = True,
        on_unknown: Literal["fail", "resubmit"] = "fail",
        on_line_failure: Literal["fail", "continue"] = "fail",
        dry_run: bool = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 10.0,
        transfer_timeout: float = DEFAULT_TRANSFER_TIMEOUT_SECONDS,
        partition_key: str | None = None,
        mps_conn_id: str = MpsHook.default_conn_name,
        region: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.manifest = manifest
        self.destination = destination
        self.voice_id = voice_id
        self.voice_name = voice_name
        self.text_lang = text_lang
        self.ext_param = ext_param
        self.sample_rate = sample_rate
        self.pitch = pitch
        self.target_duration = target_duration
        self.translate_to = translate_to
        self.translate_requirement = translate_requirement
        self.fit_to_cues = fit_to_cues
        self.subtitle_encoding = subtitle_encoding
        self.max_characters = max_characters
        self.resume = resume
        self.on_unknown = parse_choice(OnUnknown, on_unknown)
        self.on_line_failure = parse_choice(OnLineFailure, on_line_failure)
        # `dry_run` is a method of Airflow's operators.
        self.only_dry_run = dry_run
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.transfer_timeout = transfer_timeout
        self.partition_key = partition_key
        self.mps_conn_id = mps_conn_id
        self.region = region
        self._loop: EventLoopThread[BatchOutcome] | None = None
        self._lineage: FileLineage | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Process the lines that are left; return paths, counts and sums."""
        from airflow_provider_mps.storage.asset_events import parse_partition_key, validate_asset_outlets

        options = self._make_options()
        parse_partition_key(self.partition_key, self.outlets)
        validate_asset_outlets(self.outlets, make_uri(options.destination / "results.jsonl"), "this batch")
        if self.only_dry_run:
            from airflow_provider_mps.batch.dry_run import dry_run
            from airflow_provider_mps.batch.lock_holder import LockHolder

            report, table = dry_run(options, LockHolder.from_context(context), self.log)
            _push_xcom(context, "progress", table)
            return report
        return self._run(context, options, None)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Store the lines that have finished while the triggerer waited."""
        deadline = self.get_deadline(context)
        time_left = None if deadline is None else deadline - time.time()
        if event.get("timed_out") or (time_left is not None and time_left <= 0):
            self._release_lock(context)
            raise AirflowException(
                "execution_timeout ended before all lines of this batch were stored. A retry or a clear resumes the "
                "batch, and does not submit again what MPS has accepted."
            )
        # The names were looked up before the task deferred: a voice that was replaced since must not bill lines again.
        return self._run(context, replace(self._make_options(), keep_voices=True), time_left)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Continue after the triggerer; if Airflow itself ended the wait, release the destination."""
        if next_method == "__fail__":
            self._release_lock(context)
        return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """Stop after the responses to sent requests have been recorded, so that another attempt resumes."""
        if self._loop:
            self._loop.stop()

    def get_openlineage_facets_on_complete(self, _: Any) -> OperatorLineage[Any, Any] | None:
        """Return the manifest as the input, and the result manifest and the folder of the audio as outputs."""
        return self._lineage.to_openlineage() if self._lineage else None

    def _run(self, context: Context, options: BatchOptions, time_left: float | None) -> dict[str, Any]:
        """Process the lines that are left, within ``time_left`` seconds if it is set; defer if only waiting is left."""
        from airflow_provider_mps.batch.lock_holder import LockHolder
        from airflow_provider_mps.batch.results import Results
        from airflow_provider_mps.batch.run import SHUTDOWN_GRACE_SECONDS, Batch
        from airflow_provider_mps.concurrency import EventLoopThread

        holder = LockHolder.from_context(context)

        async def run() -> BatchOutcome:
            report = partial(_push_xcom, context, "progress")
            batch = Batch(options, holder, report, self.log, type(self).__name__)
            try:
                async with asyncio.timeout(time_left) as limit:
                    return await batch.run()
            except TimeoutError:
                if not limit.expired():
                    raise
            raise AirflowTaskTimeout(
                f"execution_timeout ended, {self.time_limit} after this attempt had started. What MPS accepted is "
                "recorded: a retry or a clear resumes this batch."
            )

        self._loop = EventLoopThread(run, SHUTDOWN_GRACE_SECONDS)
        try:
            end = self._loop.run()
        except CancelledError:
            raise AirflowException(
                "The batch was stopped by Airflow. The tasks that MPS has accepted continue there and may be billed; "
                f"the result manifest in {options.destination} lists them. A retry or a clear resumes the batch."
            ) from None
        except (Exception, AirflowTaskTimeout):  # of a signal handler
            finished = self._loop.get_result()
            # A finished batch succeeds, even if the removal of its log was interrupted.
            if finished is None or finished.waiting_task_ids:
                raise
            end = finished
        if end.waiting_task_ids:
            self._defer(context, end.waiting_task_ids, str(Results(options.destination).lock_path), holder.token)
        try:
            return self._push_results(context, options, end.summary)
        except AirflowFailException:
            try:
                Results(options.destination).mark_ended(list(holder.instance), holder.try_number)
            except Exception as error:  # noqa: BLE001 - the failure of the batch is the error to report
                self.log.warning("The end of this batch could not be recorded: %s", describe_error(error))
            raise

    def _defer(self, context: Context, mps_task_ids: list[str], lock_path: str, lock_token: str) -> NoReturn:
        from airflow_provider_mps.triggers.batch import MAX_TASKS, TextToSpeechBatchTrigger
        from airflow_provider_mps.triggers.task import REQUEUE_GRACE_SECONDS

        now, deadline = time.time(), self.get_deadline(context)
        # Airflow's own timeout takes over if the triggerer is gone.
        timeout = None if deadline is None else max(deadline - now, 0.0) + 2 * REQUEUE_GRACE_SECONDS
        self.defer(
            trigger=TextToSpeechBatchTrigger(
                mps_task_ids[-MAX_TASKS:],
                self.mps_conn_id,
                self.region or None,
                self.poll_interval,
                deferred_at=now,
                deadline=deadline,
                lock_path=lock_path,
                lock_token=lock_token,
            ),
            method_name="execute_complete",
            timeout=None if timeout is None else timedelta(seconds=timeout),
        )

    def _release_lock(self, context: Context) -> None:
        from airflow_provider_mps.batch.lease import release_own_deferred_lock
        from airflow_provider_mps.batch.lock_holder import LockHolder
        from airflow_provider_mps.batch.results import Results

        release_own_deferred_lock(Results(self._make_options().destination).lock_path, LockHolder.from_context(context))

    def _make_options(self) -> BatchOptions:
        from airflow_provider_mps.api.connection import parse_conn_id
        from airflow_provider_mps.batch.line import BatchOptions, LineDefaults
        from airflow_provider_mps.batch.subtitle_encoding import parse_encoding
        from airflow_provider_mps.polling.intervals import PollInterval
        from airflow_provider_mps.speech.ext_param import SpeechOptions, parse_flag
        from airflow_provider_mps.speech.request import parse_max_characters
        from airflow_provider_mps.speech.voices import validate_voice_choice

        if self.voice_id or self.voice_name:
            validate_voice_choice(self.voice_id, self.voice_name)
        speech_options = SpeechOptions(
            self.ext_param,
            self.sample_rate,
            self.pitch,
            self.target_duration,
            self.translate_to,
            self.translate_requirement,
        )
        return BatchOptions(
            manifest=_parse_path("manifest", self.manifest),
            destination=_parse_path("destination", self.destination),
            mps_conn_id=parse_conn_id(self.mps_conn_id),
            region=self.region or None,
            interval=PollInterval(self.poll_interval),
            transfer_timeout=parse_timeout(self.transfer_timeout),
            on_unknown=self.on_unknown,
            resume=self.resume,
            subtitle_encoding=parse_encoding(self.subtitle_encoding),
            # Two intervals, so that each task has been polled before the batch defers.
            defer_after=2 * self.poll_interval if self.deferrable else None,
            defaults=LineDefaults(
                self.voice_id or None,
                self.text_lang or None,
                speech_options.build(),
                parse_max_characters(self.max_characters),
                self.voice_name or None,
                parse_flag("fit_to_cues", self.fit_to_cues),
            ),
        )

    def _push_results(self, context: Context, options: BatchOptions, summary: Summary) -> dict[str, Any]:
        from airflow_provider_mps.batch.row import LineStatus
        from airflow_provider_mps.storage.asset_events import add_asset_events, parse_partition_key

        results = options.destination / "results.jsonl"
        outcome = {**summary.to_json(), "results": str(results), "summary": str(options.destination / "summary.json")}
        self.log.info("%s. Results: %s", summary.to_line(), results)
        _push_xcom(context, "progress", summary.to_markdown())
        if not summary.lines:
            raise InvalidRequestError(f"The manifest {options.manifest} has no lines: nothing was submitted.")
        self._lineage = summary.make_lineage(options.manifest, options.destination)
        self._lineage.collect(self)
        if summary.failures:
            message = (
                f"{summary.failures:,} of {summary.lines:,} lines have no audio: {summary.format_problem_names()}. "
                f"{summary.count(LineStatus.STORED):,} lines are stored, and {results} holds the error of each other "
                "line"
            )
            if self.on_line_failure is OnLineFailure.FAIL:
                _push_xcom(context, "summary", outcome)
                raise _make_failure(summary, message)
            self.log.warning("%s.", message)
        key = parse_partition_key(self.partition_key, self.outlets)
        add_asset_events(context, self.outlets, make_uri(results), outcome, key, self.log)
        return outcome


def _make_failure(summary: Summary, message: str) -> AirflowException:
    """Return the error for lines without audio, which Airflow retries only if a retry can store them."""
    from airflow_provider_mps.batch.row import LineStatus

    if summary.count(LineStatus.STORE_FAILED):
        return AirflowException(f"{message}. A retry stores the audio that MPS has made, and does not submit it again.")
    unknown = summary.count(LineStatus.UNKNOWN)
    if summary.failures > unknown:
        message += ". Fix the lines whose error says so, and clear the task: it submits only lines that failed"
    if unknown:
        message += (
            ". Unknown lines are not submitted again: see the error of each. on_unknown='resubmit' submits all of "
            "them, and may be billed twice"
        )
    return AirflowFailException(f"{message}.")


def _parse_path(name: str, value: str | ObjectStoragePath) -> ObjectStoragePath:
    """Return an argument as a path without a slash at its end."""
    try:
        return parse_path(str(parse_destination(value)).rstrip("/"))
    except InvalidRequestError as error:
        raise InvalidRequestError(
            f"{name} is {quote_value(value, 200)}: give an ObjectStoragePath or a string, e.g. s3://conn@bucket/clips/."
        ) from error
    except ValueError as error:
        raise InvalidRequestError(
            f"{name} {format_path(value)} is not a path that Airflow supports ({describe_error(error)})."
        ) from get_safe_cause(error)


def _push_xcom(context: Context, key: str, value: Any) -> None:
    if "ti" in context:
        context["ti"].xcom_push(key=key, value=value)
