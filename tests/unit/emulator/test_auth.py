import pytest

from airflow_provider_mps.emulator.auth import Authorization, sign

EXAMPLE = {
    "service": "cvm",
    "timestamp": 1551113065,
    "signed_headers": ("content-type", "host"),
    "headers": {"content-type": "application/json; charset=utf-8", "host": "cvm.tencentcloudapi.com"},
    "body": rb'{"Limit": 1, "Filters": [{"Values": ["\u672a\u547d\u540d"], "Name": "instance-name"}]}',
}
SIGNATURE = "72e494ea809ad7a8c8f7a4507b9bddcbaa8e581f516e8da2f66e2c5a96525168"


def test_documented_example_has_documented_signature():
    assert sign("Gu5t9xGARNpq86cd98joQYCN3EXAMPLE", **EXAMPLE) == SIGNATURE


@pytest.mark.parametrize(
    "change",
    [
        {"service": "mps"},
        {"timestamp": 1551113066},
        {"body": b"{}"},
        {"headers": {**EXAMPLE["headers"], "host": "mps.tencentcloudapi.com"}},
        {"signed_headers": ("host", "content-type")},
    ],
)
def test_any_change_gives_another_signature(change):
    assert sign("Gu5t9xGARNpq86cd98joQYCN3EXAMPLE", **{**EXAMPLE, **change}) != SIGNATURE


def test_authorization_header_is_parsed():
    header = (
        "TC3-HMAC-SHA256 Credential=ID/2019-02-25/cvm/tc3_request, SignedHeaders=content-type;host, "
        f"Signature={SIGNATURE}"
    )
    assert Authorization.parse(header) == Authorization("ID", "2019-02-25", "cvm", ("content-type", "host"), SIGNATURE)


@pytest.mark.parametrize("header", ["", "SKIP", "TC3-HMAC-SHA256", "Bearer x", "TC3-HMAC-SHA256 Credential=ID/a/b/c"])
def test_malformed_authorization_header_is_none(header):
    assert Authorization.parse(header) is None
