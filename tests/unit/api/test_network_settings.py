import os
import ssl
import subprocess

import certifi
import pytest

from airflow_provider_mps.api.network_settings import (
    CA_VARIABLES,
    find_ca_file,
    find_proxy,
    get_tls_context,
    is_bypassed,
)
from airflow_provider_mps.exceptions import InvalidMpsConnectionError
from tests.certificates import make_self_signed_certificate

pytestmark = pytest.mark.usefixtures("no_network_variables")
API = "https://mps.intl.tencentcloudapi.com"


@pytest.mark.parametrize(
    ("host", "port", "no_proxy", "bypassed"),
    [
        ("mps.intl.tencentcloudapi.com", 443, "", False),
        ("mps.intl.tencentcloudapi.com", 443, " ", False),
        ("mps.intl.tencentcloudapi.com", 443, ",,", False),
        ("mps.intl.tencentcloudapi.com", 443, ".", False),
        ("mps.intl.tencentcloudapi.com", 443, "*", True),
        ("mps.intl.tencentcloudapi.com", 443, "localhost, *", True),
        ("mps.intl.tencentcloudapi.com", 443, "mps.intl.tencentcloudapi.com", True),
        ("mps.intl.tencentcloudapi.com.", 443, "mps.intl.tencentcloudapi.com", True),
        ("mps.intl.tencentcloudapi.com", 443, "mps.intl.tencentcloudapi.com.", True),
        ("mps.intl.tencentcloudapi.com", 443, ".tencentcloudapi.com", True),
        ("mps.intl.tencentcloudapi.com", 443, "tencentcloudapi.com", True),
        ("mps.intl.tencentcloudapi.com", 443, "*.tencentcloudapi.com", True),
        ("mps.intl.tencentcloudapi.com", 443, "TencentCloudAPI.com", True),
        ("MPS.intl.tencentcloudapi.com", 443, "tencentcloudapi.com", True),
        ("mps.intl.tencentcloudapi.com", 443, "a.example , .tencentcloudapi.com ", True),
        ("mps.intl.tencentcloudapi.com", 443, "a.example .tencentcloudapi.com", True),
        ("mps.intl.tencentcloudapi.com", 443, "tencentcloudapi.com:443", True),
        ("mps.intl.tencentcloudapi.com", 443, "tencentcloudapi.com:8443", False),
        # The SDK finds the host anywhere in the variable; httpx and requests compare its end.
        ("mps.intl.tencentcloudapi.com", 443, "xmps.intl.tencentcloudapi.com", False),
        ("mps.intl.tencentcloudapi.com", 443, "mps.intl.tencentcloudapi.com.cn", False),
        ("mps.intl.tencentcloudapi.com", 443, "cloudapi.com", False),
        ("mps.intl.tencentcloudapi.com", 443, "10.0.0.0/8,[::1],http://[,user:password@host", False),
        ("127.0.0.1", 443, "127.0.0.1", True),
        ("127.0.0.1", 8443, "127.0.0.1:8443", True),
        ("127.0.0.1", 8443, "127.0.0.1:1", False),
        ("127.0.0.1", 443, "127.0.0.0/8", True),
        ("127.0.0.1", 443, "127.0.0.0/255.0.0.0", True),
        ("10.1.2.3", 443, "10.0.0.0/8", True),
        ("10.1.2.3", 443, "10.9.9.9/8", True),
        ("11.1.2.3", 443, "10.0.0.0/8", False),
        ("11.1.2.3", 443, "0.0.0.0/0", True),
        ("10.1.2.3", 443, "fd00::/8, 10.1.2.4", False),
        ("10.1.2.3", 443, "0.1.2.3,.3,1.2.3", False),
        ("::1", 443, "::1", True),
        ("::1", 443, "[::1]", True),
        ("::1", 8443, "[::1]:8443", True),
        ("::1", 8443, "[::1]:1", False),
        ("fd00::5", 443, "fd00::/8", True),
        ("fd00::5", 443, "[fd00::]/8,10.0.0.0/8", False),
        ("fd00::5", 443, "FD00:0:0::5", True),
        ("localhost", 443, "127.0.0.1", False),
    ],
)
def test_no_proxy_matches_hosts(host, port, no_proxy, bypassed):
    assert is_bypassed(host, port, no_proxy) is bypassed


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, API, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, API, "http://proxy:3128"),
        ({"https_proxy": "http://proxy:3128", "HTTPS_PROXY": "http://other"}, API, "http://proxy:3128"),
        ({"HTTPS_PROXY": " ", "ALL_PROXY": "http://proxy"}, API, "http://proxy"),
        ({"https_proxy": "", "HTTPS_PROXY": "http://other"}, API, None),
        ({"HTTPS_PROXY": "proxy:3128"}, API, "http://proxy:3128"),
        ({"HTTPS_PROXY": " http://user:p%40ss@PROXY:3128/ "}, API, "http://user:p%40ss@proxy:3128"),
        ({"HTTPS_PROXY": "https://[::1]:3128"}, API, "https://[::1]:3128"),
        ({"HTTP_PROXY": "http://proxy"}, API, None),
        ({"HTTP_PROXY": "http://proxy"}, "http://mps.example", "http://proxy"),
        ({"HTTP_PROXY": "http://proxy", "REQUEST_METHOD": "GET"}, "http://mps.example", None),
        ({"http_proxy": "http://proxy", "REQUEST_METHOD": "GET"}, "http://mps.example", "http://proxy"),
        ({"ALL_PROXY": "http://proxy"}, API, "http://proxy"),
        ({"all_proxy": "http://proxy", "HTTPS_PROXY": "http://other"}, API, "http://other"),
        ({"ALL_PROXY": "http://proxy", "NO_PROXY": ".tencentcloudapi.com"}, API, None),
        ({"ALL_PROXY": "http://proxy", "no_proxy": "x.example", "NO_PROXY": "*"}, API, "http://proxy"),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "10.0.0.0/8"}, "https://10.1.2.3:8443", None),
        ({"HTTPS_PROXY": "http://proxy", "NO_PROXY": "[::1]"}, "https://[::1]:8443", None),
        # Variables that are not used are not validated.
        ({"HTTPS_PROXY": "http://proxy", "ALL_PROXY": "socks://proxy"}, API, "http://proxy"),
        ({"ALL_PROXY": "socks://proxy", "NO_PROXY": "*"}, API, None),
    ],
)
def test_proxy_from_environment_depends_on_scheme_and_host(monkeypatch, environment, url, proxy):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert find_proxy(url) == proxy


def test_connection_proxy_overrides_environment(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://other")
    monkeypatch.setenv("NO_PROXY", "*")
    assert find_proxy(API, "http://user:password@proxy:3128") == "http://user:password@proxy:3128"
    with pytest.raises(InvalidMpsConnectionError, match="'my_conn': Extra 'proxy' holds no usable") as caught:
        find_proxy(API, "http://user:SECRET\\word@proxy:3128", "my_conn")
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize(
    "value",
    [
        "http://user:SECRET\\word@host:1",
        "http://user:SECRET#@host:1",
        "http://user:1/SECRET@host:1",
        "http://user:1?SECRET@host:1",
        "http://user:SECRETÄ@host:1",
        "http://user:SECRET@host:port",
        "http://user:SECRET@host:0",
        "http://user:SECRET@host:99999",
        "http://user:SECRET@a..b:1",
        "http://user:SECRET@ho st:1",
        "http://user:SECRET@",
        "http://[::1",
        "ftp://user:SECRET@host",
        "socks://user:SECRET@host",
        "socks4://user:SECRET@host",
        "://SECRET",
    ],
)
def test_invalid_proxy_raises_without_value(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidMpsConnectionError, match=rf"^The environment variable {variable} ") as caught:
        find_proxy(API)
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_socks_proxy_without_packages_names_them(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5h://user:SECRET@host:1080")
    monkeypatch.setattr("airflow_provider_mps.api.network_settings.find_spec", {"socksio": object()}.get)
    with pytest.raises(InvalidMpsConnectionError, match=r"ALL_PROXY .*requests\[socks\].*httpx\[socks\]") as caught:
        find_proxy(API)
    assert "SECRET" not in str(caught.value)
    monkeypatch.setattr("airflow_provider_mps.api.network_settings.find_spec", lambda _: object())
    assert find_proxy(API) == "socks5h://user:SECRET@host:1080"


def test_ca_file_uses_first_variable(monkeypatch, tmp_path):
    files = {}
    for name in reversed(["AWS_CA_BUNDLE", *CA_VARIABLES[:-1]]):
        (tmp_path / name).mkdir()
        files[name] = str(make_self_signed_certificate(tmp_path / name))
        monkeypatch.setenv(name, files[name])
        assert find_ca_file("AWS_CA_BUNDLE") == files[name]
    assert find_ca_file() == files["REQUESTS_CA_BUNDLE"]


def test_ca_file_without_variable_is_none(monkeypatch):
    for name in CA_VARIABLES:
        monkeypatch.setenv(name, " " if name == "SSL_CERT_FILE" else "")
    assert find_ca_file() is None


def make_hashed_folder(folder):
    """Make a folder of certificates as ``openssl rehash`` does."""
    folder.mkdir()
    certificate = make_self_signed_certificate(folder)
    command = ["openssl", "x509", "-noout", "-subject_hash", "-in", str(certificate)]
    hashed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    (folder / f"{hashed}.0").symlink_to(certificate)
    (folder / f"{hashed}.1").symlink_to(folder / "gone")
    return folder


@pytest.mark.parametrize("variable", ["SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_ca_folder_is_joined_into_file(monkeypatch, tmp_path, variable):
    monkeypatch.setenv(variable, str(make_hashed_folder(tmp_path / "certificates")))
    file = find_ca_file()
    for _ in range(2):  # each library reads it
        assert len(ssl.create_default_context(cafile=file).get_ca_certs()) == 1
    assert find_ca_file() == file


def test_ca_folders_skip_missing_ones(monkeypatch, tmp_path):
    folders = [make_hashed_folder(tmp_path / name) for name in "ab"]
    monkeypatch.setenv("SSL_CERT_DIR", os.pathsep.join(map(str, [tmp_path / "gone", *folders])))
    assert len(ssl.create_default_context(cafile=find_ca_file()).get_ca_certs()) == 2


@pytest.mark.parametrize("variable", CA_VARIABLES)
@pytest.mark.parametrize("kind", ["missing", "empty", "no certificate", "empty folder", "below a file"])
def test_invalid_ca_file_names_variable_and_path(monkeypatch, tmp_path, variable, kind):
    place = tmp_path / "ca.pem"
    if kind == "empty folder":
        place.mkdir()
    elif kind != "missing":
        place.write_text("" if kind == "empty" else "no certificate")
    if kind == "below a file":
        place /= "ca.pem"
    monkeypatch.setenv(variable, str(place))
    with pytest.raises(InvalidMpsConnectionError, match=f"^The environment variable {variable} names {place} "):
        find_ca_file()


@pytest.mark.parametrize("key", ["\nSECRET\n", "\nSECRET" * 1000, "SECRET" * 1000], ids=["short", "long", "one line"])
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_ca_variable_with_key_is_not_quoted(monkeypatch, variable, key):
    monkeypatch.setenv(variable, f"-----BEGIN PRIVATE KEY-----{key}-----END PRIVATE KEY-----")
    with pytest.raises(InvalidMpsConnectionError, match=variable) as caught:
        find_ca_file()
    assert "SECRET" not in str(caught.value)


def test_ca_file_with_too_many_open_files_raises_os_error(monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", str(make_self_signed_certificate(tmp_path)))

    def fail(**_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("airflow_provider_mps.api.network_settings.ssl.create_default_context", fail)
    with pytest.raises(OSError, match="Too many open files"):
        find_ca_file()


def test_tls_context_is_shared_and_loads_certificates_once(monkeypatch, tmp_path, loaded_certificates):
    bundled = get_tls_context()
    assert get_tls_context() is bundled
    file = make_self_signed_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    configured = get_tls_context()
    assert find_ca_file() == str(file)
    assert get_tls_context() is configured is not bundled
    assert loaded_certificates == [certifi.where(), str(file)]


@pytest.mark.parametrize("configured", [False, True])
def test_tls_context_verifies_certificates_and_hosts(monkeypatch, tmp_path, configured):
    if configured:
        monkeypatch.setenv("SSL_CERT_FILE", str(make_self_signed_certificate(tmp_path)))
    context, expected = get_tls_context(), ssl.create_default_context()
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version == expected.minimum_version
    assert context.verify_flags == expected.verify_flags
    assert len(context.get_ca_certs()) == (
        1 if configured else len(ssl.create_default_context(cafile=certifi.where()).get_ca_certs())
    )


def test_tls_context_of_changed_file_is_new(monkeypatch, tmp_path):
    (tmp_path / "new").mkdir()
    file, replacement = make_self_signed_certificate(tmp_path), make_self_signed_certificate(tmp_path / "new")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    old = get_tls_context()
    os.utime(replacement, ns=(0, file.stat().st_mtime_ns + 1))  # in case both have been written in the same tick
    replacement.replace(file)
    assert get_tls_context().get_ca_certs() != old.get_ca_certs()


def test_tls_context_with_invalid_ca_file_names_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone"))
    with pytest.raises(InvalidMpsConnectionError, match=r"^The environment variable SSL_CERT_FILE names .*gone"):
        get_tls_context()
