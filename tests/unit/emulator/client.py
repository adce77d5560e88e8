from __future__ import annotations

import json
import time

import httpx

from airflow_provider_mps.emulator.auth import sign

plain_http = httpx.Client(verify=False, timeout=60, limits=httpx.Limits(max_keepalive_connections=0))
"""A connection for each request, and no certificates: httpx.get() reads them each time, which takes 30 ms."""

SUBMIT = {"Text": "hello", "VoiceId": "v"}


class Client:
    """Signs requests by the emulator's own rules, so that each of them can be broken."""

    def __init__(self, emulator):
        self.emulator = emulator

    def call(self, action, parameters, **changes):
        body = changes.get("body", json.dumps(parameters).encode())
        headers = {
            "host": f"127.0.0.1:{self.emulator.port}",
            "content-type": "application/json",
            "x-tc-action": action,
            "x-tc-version": "2019-06-12",
            "x-tc-timestamp": str(int(time.time()) + changes.get("skew", 0)),
            **changes.get("headers", {}),
        }
        date = changes.get("date") or time.strftime("%Y-%m-%d", time.gmtime(int(headers["x-tc-timestamp"])))
        signature = sign(
            changes.get("key", "emulator-key"),
            service=changes.get("service", "mps"),
            timestamp=int(headers["x-tc-timestamp"]),
            signed_headers=("content-type", "host"),
            headers=headers,
            body=body,
        )
        headers["authorization"] = changes.get(
            "authorization",
            f"TC3-HMAC-SHA256 Credential={changes.get('secret_id', 'emulator-id')}/{date}/"
            f"{changes.get('service', 'mps')}/tc3_request, SignedHeaders=content-type;host, Signature={signature}",
        )
        response = plain_http.post(self.emulator.url, content=changes.get("sent", body), headers=headers)
        assert response.status_code == 200  # an API error is not an HTTP error
        return response.json()["Response"]

    def finished(self, task_id):
        """Poll until the task is done."""
        while (response := self.call("DescribeTextToSpeechAsyncTask", {"TaskId": task_id}))["Status"] == "processing":
            time.sleep(0.06)
        return response

    def code(self, action="TextToSpeechAsync", parameters=SUBMIT, **changes):
        return self.call(action, parameters, **changes).get("Error", {}).get("Code")
