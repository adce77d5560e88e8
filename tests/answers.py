"""Answers that the tests of the hook share."""

from tests.scripted_server import Reply, make_json_reply

PROCESSING = make_json_reply({"Response": {"Status": "processing", "ErrorCode": 100, "RequestId": "req-9"}})
ACCEPTED = make_json_reply({"Response": {"ErrorCode": 0, "TaskId": "task-1", "RequestId": "req-9"}})
NOT_JSON = Reply(b"<html>", headers={"Content-Type": "application/json"})
NO_RESPONSE = make_json_reply({"hello": 1})
GATEWAY = Reply(b"bad gateway", 502)
