"""Over TLS, with a token, and what is told where one side expects it and the other does not."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from finetuned.v1 import host_service_pb2, host_service_pb2_grpc
from ftclient import AsyncClient, AuthError, Client, ContextError, Unavailable, contexts
from ftclient.contexts import Context, Contexts

WORD = "open sesame"


class Guarded(host_service_pb2_grpc.HostServiceServicer):
    """It answers those who have the token."""

    def GetHost(self, request: object, context: Any) -> Any:  # noqa: N802
        if ("authorization", f"Bearer {WORD}") not in context.invocation_metadata():
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token, or one that is not known")
        return host_service_pb2.GetHostResponse(hostname="gpu1")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with key.pem and a certificate of localhost, ca.pem, that signs itself."""
    x509 = pytest.importorskip("cryptography.x509", reason="certificates are made by cryptography")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("authority")
    (folder / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder


@contextmanager
def served(authority: Path | None, *, client_certificates: bool = False) -> Iterator[str]:
    """The address of a daemon, with TLS if it has an authority."""
    server = grpc.server(ThreadPoolExecutor(max_workers=4))
    host_service_pb2_grpc.add_HostServiceServicer_to_server(Guarded(), server)
    if authority is None:
        port = server.add_insecure_port("localhost:0")
    else:
        key, certificate = (authority / "key.pem").read_bytes(), (authority / "ca.pem").read_bytes()
        credentials = grpc.ssl_server_credentials(
            [(key, certificate)], certificate if client_certificates else None, client_certificates
        )
        port = server.add_secure_port("localhost:0", credentials)
    server.start()
    try:
        yield f"localhost:{port}"
    finally:
        server.stop(None).wait()


@pytest.fixture
def use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a context the current one."""
    for name in ("FTD_ADDRESS", "FTD_CONTEXT", "FTD_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return lambda context: contexts.save(Contexts().adding("gpu1", context))


async def test_over_tls_with_a_token(authority: Path, use: Any) -> None:
    with served(authority) as address:
        use(Context(address, token=WORD, ca=str(authority / "ca.pem")))
        with Client() as client:
            assert client.host().hostname == "gpu1"
        async with AsyncClient() as loop_client:
            assert (await loop_client.host()).hostname == "gpu1"


def test_a_certificate_says_who_the_client_is(authority: Path, use: Any) -> None:
    certificate, key = str(authority / "ca.pem"), str(authority / "key.pem")
    with served(authority, client_certificates=True) as address:
        use(Context(address, token=WORD, ca=certificate, cert=certificate, key=key))
        with Client() as client:
            assert client.host().hostname == "gpu1"
        use(Context(address, token=WORD, ca=certificate))
        with Client() as client, pytest.raises(Unavailable, match="cannot be reached") as caught:
            client.host(timeout=0.5)
        assert "is the client's certificate known there?" in caught.value.why


def test_without_the_token_it_is_said_how_to_give_one(authority: Path, use: Any) -> None:
    with served(authority) as address:
        use(Context(address, ca=str(authority / "ca.pem")))
        with Client() as client, pytest.raises(AuthError) as caught:
            client.host()
    assert "FTD_TOKEN" in caught.value.advice


def test_tls_that_is_expected_and_not_given(authority: Path, use: Any) -> None:
    with served(authority) as address:
        use(Context(address))
        with Client() as client, pytest.raises(Unavailable) as caught:
            client.host(timeout=0.5)
    assert "expects `tls = true`" in caught.value.why


def test_tls_that_is_given_and_not_expected(authority: Path, use: Any) -> None:
    with served(None) as address:
        use(Context(address, ca=str(authority / "ca.pem")))
        with Client() as client, pytest.raises(Unavailable) as caught:
            client.host(timeout=0.5)
    assert "is it a TLS port" in caught.value.why


def test_a_file_that_is_not_there(use: Any, tmp_path: Path) -> None:
    use(Context("localhost:1", ca=str(tmp_path / "none.pem")))
    with Client() as client, pytest.raises(ContextError, match=r"none\.pem: cannot be read"):
        client.host()
