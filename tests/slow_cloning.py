"""An MPS that takes its time to clone a voice: a server with faults in front of the emulator."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable

from airflow_provider_mps.emulator.app import Options, make_app
from airflow_provider_mps.emulator.server import RunningEmulator
from airflow_provider_mps.emulator.voices import CLONE, Profile, Voice
from tests.scripted_server import Reply, Request, ScriptedServer


class SlowCloning:
    """
    A real server, while the ``with`` block runs. It makes a voice although its client may be gone.

    ``clone_delay`` are seconds from the request until the voice exists; ``response_delay``, from then until the
    response.
    """

    def __init__(self) -> None:
        self.clone_delay = 0.0
        self.response_delay = 0.0
        self.replace_response: Callable[[Reply], object] = lambda reply: reply
        """What is sent in place of the response to a clone, e.g. a reset."""
        self.hidden_listings = 0
        """How many listings do not show a new voice yet."""
        self.actions: Counter[str] = Counter()
        self._options = Options(voice="tone", rate_limit=1000, synthesis_time=0.0)
        self._app = make_app(self._options)
        self._hidden: Counter[str] = Counter()
        """Listings that will not show a voice, by its id."""
        self._working = 0
        self._lock = threading.Lock()

    def __enter__(self) -> SlowCloning:
        self._emulator = RunningEmulator(self._options, self._app).__enter__()
        self._server = ScriptedServer(self._serve).__enter__()
        options = self._options
        self.connection_uri = (
            f"tencent-mps://{options.secret_id}:{options.secret_key}@127.0.0.1:{self._server.port}/http"
            "?region=ap-singapore&timeout=1"
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._server.__exit__()
        self._emulator.__exit__()

    def list_clones(self, name: str) -> list[str]:
        """Return the ids of the clones with a name, oldest first."""
        voices = self._app.state.voices.list()
        return [voice.voice_id for voice in voices if voice.category == CLONE and voice.profile.name == name]

    def add_clone(self, name: str) -> str:
        """Add a clone that another program has made."""
        voice: Voice = self._app.state.voices.clone(Profile(name), None, None)
        return voice.voice_id

    def show_all(self) -> None:
        """Show all voices in each listing."""
        with self._lock:
            self.hidden_listings = 0
            self._hidden.clear()

    @property
    def is_idle(self) -> bool:
        """Whether it works on no request."""
        return not self._working

    def _serve(self, request: Request) -> object:
        action = request.headers.get("x-tc-action", "audio")
        with self._lock:
            self.actions[action] += 1
            self._working += 1
        try:
            if action == "CloneVoice":
                time.sleep(self.clone_delay)
            reply = self._forward(request)
            if action == "CloneVoice":
                return self._end_clone(reply)
            return self._hide_new_voices(reply) if action == "DescribeVoices" else reply
        finally:
            with self._lock:
                self._working -= 1

    def _end_clone(self, reply: Reply) -> object:
        if voice_id := json.loads(reply.body)["Response"].get("VoiceId"):
            self._hidden[voice_id] = self.hidden_listings
        time.sleep(self.response_delay)
        return self.replace_response(reply)

    def _hide_new_voices(self, reply: Reply) -> Reply:
        content = json.loads(reply.body)
        voices = content["Response"].get("Voices", [])
        with self._lock:
            hidden = [voice for voice in voices if self._hidden[voice["VoiceId"]] > 0]
            self._hidden.subtract(voice["VoiceId"] for voice in hidden)
        for voice in hidden:
            voices.remove(voice)
            content["Response"]["TotalCount"] -= 1
        return Reply(json.dumps(content).encode(), reply.status, reply.headers)

    def _forward(self, request: Request) -> Reply:
        connection = http.client.HTTPConnection(self._emulator.host, self._emulator.port, timeout=60)
        # The signature holds for the original Host header.
        connection.request(request.method, request.target, request.body, request.headers)
        response = connection.getresponse()
        reply = Reply(response.read(), response.status, {"Content-Type": response.headers["content-type"]})
        connection.close()
        return reply
