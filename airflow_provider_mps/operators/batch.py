"""Submit, await and store the lines of a manifest in one task."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import CancelledError
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowTaskTimeout,
    BaseOperator,
    conf,
)

from airflow_provider_mps.choice import OnLineFailure, OnUnknown
from airflow_provider_mps.connection import require_conn_id
from airflow_provider_mps.destination import require_destination
from airflow_provider_mps.errors import InvalidRequestError
from airflow_provider_mps.ext_param import SpeechOptions
from airflow_provider_mps.hooks.mps import MpsHook
from airflow_provider_mps.intervals import PollInterval
from airflow_provider_mps.links.text_to_speech import QueryPageLink, SubmitPageLink
from airflow_provider_mps.mapped_values import LiteralMappedValues
from airflow_provider_mps.older_airflow import TimeLimit, uri_of
from airflow_provider_mps.outlets import add_asset_events, require_assets
from airflow_provider_mps.redaction import cause_of, describe_error, quoted, shown_path
from airflow_provider_mps.speech_request import require_limit
from airflow_provider_mps.text_file import as_path
from airflow_provider_mps.transfer.deadline import DEFAULT_TIMEOUT, require_timeout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import (
        Context,
        ObjectStoragePath,
    )

    from airflow_provider_mps.batch.lease import Holder
    from airflow_provider_mps.batch.options import BatchOptions
    from airflow_provider_mps.batch.run import BatchEnd
    from airflow_provider_mps.batch.summary import Summary
    from airflow_provider_mps.own_loop import OwnLoop


class TextToSpeechBatchOperator(TimeLimit, LiteralMappedValues, BaseOperator):
    """
    Submit the lines of a manifest, wait for them, and store their audio: in one task, however many they are.

    Each line is submitted once: what has been submitted is written down beside the audio, before and after. A task
    that is killed, retried or cleared, and another run with the same destination, go on from there. A line that was
    being sent when its task was killed may have been accepted; it is not submitted again unless ``on_unknown`` says so.

    The destination gets the audio as ``{id}.wav`` (or what else MPS makes), ``results.jsonl`` with one object for each
    line, and ``summary.json`` with counts and sums. The return value holds both paths, the counts and the sums; the
    XCom ``progress`` is a table in Markdown, pushed anew while it runs.
    https://www.tencentcloud.com/document/product/1041/79693

    :param manifest: an ``ObjectStoragePath`` or its text: JSON Lines, or CSV with a header. A line has ``id``, ``text``
        or ``text_path`` (one that is relative is beside the manifest), ``voice_id``, and any of ``text_lang``,
        ``ext_param``, ``sample_rate``, ``pitch``, ``target_duration``, ``translate_to``, ``translate_requirement``
        (templated)
    :param destination: the folder for audio and results (templated)
    :param voice_id: of lines that have none (templated)
    :param text_lang: of lines that have none (templated)
    :param ext_param: ``ExtParam`` of all lines; what a line says goes before it (templated)
    :param sample_rate: Hz, of lines that say nothing else (templated)
    :param pitch: from -12 to 12, of lines that say nothing else (templated)
    :param max_characters: how many a line's text may have at most (templated)
    :param resume: go on with what another run has left in the destination; a retry or a *clear* of this one always does
    :param on_unknown: where nobody knows whether MPS has accepted a line: ``fail`` it, or ``resubmit`` it in the same
        run, three times in all, each of which may be paid
    :param on_line_failure: what the task does at its end where lines have no audio: ``fail``, or ``continue``
    :param dry_run: read the manifest and tell lines, characters, the least time and errors by line, without any call
    :param deferrable: when only waiting is left, do it in the triggerer; the default is Airflow's
        ``[operators] default_deferrable``
    :param poll_interval: seconds between two questions about one task, as far as the connection's budget allows
    :param transfer_timeout: seconds that storing the audio of one line may take in all, attempts and pauses included
    :param mps_conn_id: the connection, of type ``tencent_mps`` (templated)
    :param region: goes before the connection's own region (templated)
    :raises DestinationTakenError: when another batch is at work in the destination
    :raises AirflowFailException: when lines have failed, and ``on_line_failure`` is ``fail``; not retried
    :raises AirflowException: when it could not be done to its end; a retry goes on
    """

    template_fields: Sequence[str] = (
        "manifest",
        "destination",
        "voice_id",
        "text_lang",
        "ext_param",
        "sample_rate",
        "pitch",
        "max_characters",
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
        text_lang: str | None = None,
        ext_param: Mapping[str, Any] | str | None = None,
        sample_rate: int | str | None = None,
        pitch: int | str | None = None,
        max_characters: int | str | None = None,
        resume: bool = True,
        on_unknown: Literal["fail", "resubmit"] = "fail",
        on_line_failure: Literal["fail", "continue"] = "fail",
        dry_run: bool = False,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 10.0,
        transfer_timeout: float = DEFAULT_TIMEOUT,
        mps_conn_id: str = MpsHook.default_conn_name,
        region: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.manifest = manifest
        self.destination = destination
        self.voice_id = voice_id
        self.text_lang = text_lang
        self.ext_param = ext_param
        self.sample_rate = sample_rate
        self.pitch = pitch
        self.max_characters = max_characters
        self.resume = resume
        self.on_unknown = OnUnknown.parse(on_unknown)
        self.on_line_failure = OnLineFailure.parse(on_line_failure)
        # Not `dry_run`, which is a method of Airflow's operators.
        self.only_dry_run = dry_run
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.transfer_timeout = transfer_timeout
        self.mps_conn_id = mps_conn_id
        self.region = region
        self._loop: OwnLoop[BatchEnd] | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Do what is left to do; return paths, counts and sums."""
        options = self._options()
        results = options.destination / "results.jsonl"
        options.require_manifest_apart()
        require_assets(self.outlets, uri_of(results), "this batch")
        if self.only_dry_run:
            from airflow_provider_mps.batch.dry_run import dry_run
            from airflow_provider_mps.batch.lease import Holder

            told, table = dry_run(options, Holder.of(context), self.log)
            _push(context, "progress", table)
            return told
        return self._run_batch(context, options, None)

    def _run_batch(self, context: Context, options: BatchOptions, time_left: float | None) -> dict[str, Any]:
        """
        Do what is left to do, or leave the waiting to the triggerer.

        :param time_left: seconds of ``execution_timeout`` that are left; ``None`` where Airflow itself measures them
        """
        from airflow_provider_mps.batch.lease import Holder

        holder = Holder.of(context)
        end = self._run(context, options, holder, time_left)
        if end.waiting:
            self._defer(context, end, holder.token)
        try:
            return self._end(context, options, end.summary)
        except AirflowFailException:
            self._mark_ended(options, holder)
            raise

    def _mark_ended(self, options: BatchOptions, holder: Holder) -> None:
        from airflow_provider_mps.batch.results import Results

        try:
            Results(options.destination).mark_ended(list(holder.instance), holder.try_number)
        except Exception as error:  # noqa: BLE001 - it must not hide how the batch has ended
            self.log.warning("The end of this batch could not be recorded: %s", describe_error(error))

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Store what has finished while the triggerer waited."""
        deadline = self._deadline(context)
        time_left = None if deadline is None else deadline - time.time()
        if event.get("timed_out") or (time_left is not None and time_left <= 0):
            self._let_go(context)
            raise AirflowException(
                "execution_timeout ended before all lines of this batch were stored. A retry, or a clear, continues "
                "with them; nothing is billed again."
            )
        options = self._options()
        options.require_manifest_apart()
        return self._run_batch(context, options, time_left)

    def _deadline(self, context: Context) -> float | None:
        """Return when ``execution_timeout`` ends, in seconds since 1970: it counts from the start of the attempt."""
        if self.time_limit is None:
            return None
        started = getattr(context.get("ti"), "start_date", None)
        return (started.timestamp() if started else time.time()) + self.time_limit.total_seconds()

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after the triggerer; where Airflow has ended the waiting by itself, leave the destination to others."""
        if next_method == "__fail__":
            self._let_go(context)
        return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """Stop: what was sent is waited for and written down, so that another try goes on."""
        if self._loop:
            self._loop.stop()

    def _let_go(self, context: Context) -> None:
        from airflow_provider_mps.batch.lease import Holder, let_go
        from airflow_provider_mps.batch.results import Results

        let_go(Results(self._options().destination).lock_path, Holder.of(context))

    def _run(self, context: Context, options: BatchOptions, holder: Holder, time_left: float | None) -> BatchEnd:
        from airflow_provider_mps.batch.run import SHUTDOWN_GRACE_SECONDS, Batch
        from airflow_provider_mps.own_loop import OwnLoop

        async def run() -> BatchEnd:
            batch = Batch(options, holder, lambda table: _push(context, "progress", table), self.log)
            try:
                async with asyncio.timeout(time_left) as limit:
                    return await batch.run()
            except TimeoutError:
                if not limit.expired():
                    raise
            raise AirflowTaskTimeout(
                f"execution_timeout ended, {self.time_limit} after this attempt had started. Nothing was lost: "
                "a retry, or a clear, continues this batch."
            )

        self._loop = OwnLoop(run, SHUTDOWN_GRACE_SECONDS)
        try:
            return self._loop.run()
        except CancelledError:
            raise AirflowException(
                f"The batch was stopped by Airflow. What MPS has accepted goes on there, and may be billed; it is "
                f"named in the result manifest in {options.destination}, and a retry or a clear goes on with it."
            ) from None

    def _options(self) -> BatchOptions:
        from airflow_provider_mps.batch.line import Defaults
        from airflow_provider_mps.batch.options import BatchOptions

        interval = PollInterval(self.poll_interval)
        options = SpeechOptions(self.ext_param, self.sample_rate, self.pitch)
        return BatchOptions(
            manifest=_path("manifest", self.manifest),
            destination=_path("destination", self.destination),
            mps_conn_id=require_conn_id(self.mps_conn_id),
            region=self.region or None,
            interval=interval,
            transfer_timeout=require_timeout(self.transfer_timeout),
            on_unknown=self.on_unknown,
            resume=self.resume,
            # Twice, so that each has been asked for since.
            hand_over_after=2 * self.poll_interval if self.deferrable else None,
            defaults=Defaults(
                self.voice_id or None,
                self.text_lang or None,
                options.build(),
                require_limit(self.max_characters),
            ),
        )

    def _defer(self, context: Context, end: BatchEnd, lock_token: str) -> NoReturn:
        from airflow_provider_mps.triggers.batch import MOST_TASKS, TextToSpeechBatchTrigger
        from airflow_provider_mps.triggers.text_to_speech import HANDOVER

        now, deadline = time.time(), self._deadline(context)
        self.defer(
            trigger=TextToSpeechBatchTrigger(
                end.waiting[-MOST_TASKS:],
                self.mps_conn_id,
                self.region or None,
                self.poll_interval,
                asked_at=now,
                deadline=deadline,
                lock_path=end.lock_path,
                lock_token=lock_token,
            ),
            method_name="execute_complete",
            # Airflow's own is for a triggerer that is gone.
            timeout=None if deadline is None else timedelta(seconds=max(deadline - now, 0.0) + 2 * HANDOVER),
        )

    def _end(self, context: Context, options: BatchOptions, summary: Summary) -> dict[str, Any]:
        """Tell how it ended, and end as the user chose."""
        results = options.destination / "results.jsonl"
        told = {
            **summary.to_json(),
            "results": str(results),
            "summary": str(options.destination / "summary.json"),
        }
        self.log.info("%s. Results: %s", summary.to_line(), results)
        _push(context, "progress", summary.to_markdown())
        if not summary.lines:
            raise InvalidRequestError(f"The manifest {options.manifest} has no lines: nothing was submitted.")
        if summary.failures:
            message = (
                f"{summary.failures:,} of {summary.lines:,} lines have no audio: {summary.named_problems()}. The "
                f"others are stored. {results} tells why of each"
            )
            if self.on_line_failure is OnLineFailure.FAIL:
                _push(context, "summary", told)
                raise self._failure(summary, message)
            self.log.warning("%s.", message)
        add_asset_events(context, self.outlets, uri_of(results), told)
        return told

    def _failure(self, summary: Summary, message: str) -> AirflowException:
        from airflow_provider_mps.batch.row import LineStatus

        if summary.count(LineStatus.UNSTORED):
            return AirflowException(f"{message}. A retry stores what MPS has made, without paying again.")
        mended = summary.failures - summary.count(LineStatus.UNKNOWN)
        advice = "Mend them and clear the task: it submits what failed, and nothing that is stored. " if mended else ""
        if summary.count(LineStatus.UNKNOWN):
            advice += "Unknown lines are left as they are: look into MPS's console; on_unknown='resubmit' submits them."
        return AirflowFailException(f"{message}. {advice.strip()}")


def _path(name: str, given: str | ObjectStoragePath) -> ObjectStoragePath:
    """Return an argument as a path, without a slash at its end."""
    try:
        return as_path(str(require_destination(given)).rstrip("/"))
    except InvalidRequestError as error:
        raise InvalidRequestError(
            f"{name} is {quoted(given, 200)}: give an ObjectStoragePath or its text, e.g. s3://conn@bucket/clips/."
        ) from error
    except ValueError as error:
        raise InvalidRequestError(
            f"{name} {shown_path(given)} is no path that Airflow knows ({describe_error(error)})."
        ) from cause_of(error)


def _push(context: Context, key: str, value: Any) -> None:
    if "ti" in context:
        context["ti"].xcom_push(key=key, value=value)
