# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import typing as t
from pathlib import Path

import pytest

from ansible_collections.selfhosted.llm.plugins.module_utils.postgresql import (
    Connection,
    PostgresError,
    Scram,
    Target,
    identifier,
    literal,
    parse_url,
)
from ansible_collections.selfhosted.llm.tests.unit.scripted_postgresql import Server, ServerError

# Connection URLs


def test_url() -> None:
    assert parse_url("postgresql://me:p%40s%2Fs@db.internal/my%20db") == Target("db.internal", 5432, "me", "p@s/s", "my db")
    target = parse_url("postgres://me@[::1]:6543/db?sslmode=verify-ca&sslrootcert=/ca.pem&schema=llm&connection_limit=5")
    assert target == Target("::1", 6543, "me", "", "db", "verify-ca", "/ca.pem", "llm")
    assert target.place == "[::1]:6543/db"


def test_prismas_spelling_of_verified_tls() -> None:
    target = parse_url("postgresql://u:p@h/d?sslmode=require&sslaccept=strict&sslcert=/ca.pem")
    assert (target.sslmode, target.root_cert) == ("verify-full", "/ca.pem")
    # Without it, Prisma's sslcert checks nothing.
    assert parse_url("postgresql://u:p@h/d?sslcert=/ca.pem").root_cert == ""


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://u:hunter2@h/d", "its scheme is 'mysql'"),
        ("u:hunter2@h/d", "its scheme is"),
        ("postgresql://u:hunter2@/d", "it has no host: it must be postgresql://"),
        ("postgresql://h/d", "it has no user"),
        ("postgresql://u:hunter2@h", "it has no database"),
        ("postgresql://u:hunter2/x@h/d", "percent-encoded"),
        ("postgresql://u:hunter2#x@h/d", "percent-encoded"),
        ("postgresql://u:hunter2@h:port/d", "percent-encoded"),
        ("postgresql://u:hunter2@h1:5432,h2:5432/d", "percent-encoded|several hosts"),
        ("postgresql://u:hunter2@h1,h2/d", "several hosts"),
        ("postgresql://u:hunter2@h/d?sslmode=on", "its sslmode is 'on', which is none of disable"),
    ],
)
def test_a_wrong_url_is_explained_without_its_password(url: str, message: str) -> None:
    with pytest.raises(PostgresError, match=message) as caught:
        parse_url(url)
    assert caught.value.kind == "url"
    assert "hunter2" not in str(caught.value)


# Statements


def test_constants() -> None:
    assert literal("it's") == "'it''s'"
    assert identifier('a"b') == '"a""b"'
    for text in ("a\0b", "a\\b"):
        with pytest.raises(ValueError, match="plain"):
            literal(text)
    with pytest.raises(ValueError, match="name"):
        identifier("\0")


# Signing in


def test_the_example_of_the_standard() -> None:
    """RFC 7677, section 3. Its user name is in the first message, PostgreSQL's is in the start of the session."""
    scram = Scram("pencil", nonce="rOprNGfwEbeRWgbNEkqO")
    scram._first = "n=user,r=rOprNGfwEbeRWgbNEkqO"
    final = scram.final(b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
    assert final.endswith(b",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    scram.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    with pytest.raises(PostgresError, match="could not prove"):
        scram.check(b"v=AAAA")


def test_a_replayed_nonce_is_refused() -> None:
    with pytest.raises(PostgresError, match="did not continue"):
        Scram("pw", nonce="abc").final(b"r=xyz,s=AAAA,i=1")


@pytest.fixture
def serve() -> t.Iterator[t.Callable[..., Server]]:
    servers: list[Server] = []

    def start(*args: t.Any, **settings: t.Any) -> Server:
        servers.append(Server(*args, **settings))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


Serve = t.Callable[..., Server]


@pytest.mark.parametrize("auth", ["scram", "md5", "cleartext", "trust"])
def test_ways_to_sign_in(serve: Serve, auth: str) -> None:
    server = serve([("SELECT 1", [("1", None, "é")])], auth=auth)
    with Connection(parse_url(server.url())) as db:
        assert (db.version, db.pid, db.encrypted) == (15, 42, False)
        assert db.query("SELECT 1") == [("1", None, "é")]
        assert db.value("SELECT 1") == "1"
        assert db.value("SELECT 2") is None
    assert server.startups == [{"user": "user", "database": "db", "client_encoding": "UTF8", "application_name": "selfhosted.llm", "": ""}]


@pytest.mark.parametrize("auth", ["scram", "md5", "cleartext"])
def test_a_wrong_password(serve: Serve, auth: str) -> None:
    with pytest.raises(PostgresError, match="password authentication failed") as caught:
        Connection(parse_url(serve(auth=auth).url(password="hunter2")))
    assert (caught.value.kind, caught.value.code) == ("password", "28P01")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("auth", "message"), [("10", "sign-in by OAUTHBEARER"), ("7", "sign-in by method 7")])
def test_an_unknown_way_to_sign_in(serve: Serve, auth: str, message: str) -> None:
    with pytest.raises(PostgresError, match=message):
        Connection(parse_url(serve(auth=auth).url()))


def test_a_server_that_does_not_know_the_password(serve: Serve) -> None:
    with pytest.raises(PostgresError, match="could not prove that it knows"):
        Connection(parse_url(serve(drop="signature").url()))


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        ("28000", "no pg_hba.conf entry for host", "refused_client"),
        ("3D000", 'database "db" does not exist', "database"),
        ("53300", "sorry, too many clients already", "full"),
        ("57P03", "the database system is starting up", "starting"),
        ("08P01", "SASL authentication failed", "password"),
        ("08P01", "no such database: db", "database"),
        ("XX000", "Tenant or user not found", "database"),
        ("XX000", "something else", "server"),
    ],
)
def test_refusals(serve: Serve, code: str, text: str, kind: str) -> None:
    with pytest.raises(PostgresError) as caught:
        Connection(parse_url(serve(refuse=ServerError(code, text)).url()))
    assert (caught.value.kind, caught.value.message, caught.value.code) == (kind, text, code)


def test_an_error_leaves_the_session_usable(serve: Serve) -> None:
    server = serve([("bad", ServerError("42501", "permission denied")), ("good", [("1",)])])
    with Connection(parse_url(server.url())) as db:
        with pytest.raises(PostgresError, match="permission denied") as caught:
            db.query("bad")
        assert caught.value.kind == "permission"
        assert db.query("good") == [("1",)]


# What is not there, or is something else


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(PostgresError, match="nothing listens there") as caught:
        Connection(parse_url(f"postgresql://u:p@127.0.0.1:{port}/d"))
    assert caught.value.kind == "refused"


def test_a_name_that_does_not_resolve() -> None:
    with pytest.raises(PostgresError, match=r"the name db\.invalid does not resolve") as caught:
        Connection(parse_url("postgresql://u:p@db.invalid/d"))
    assert caught.value.kind == "name"


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "protocol", "does not speak"), (b"", "unreachable", "the connection broke")],
)
def test_something_else_listens(reply: bytes, kind: str, message: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            client, _address = listener.accept()
            client.recv(4096)
            client.sendall(reply)
            client.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(PostgresError, match=message) as caught:
            Connection(parse_url(f"postgresql://u:p@127.0.0.1:{listener.getsockname()[1]}/d?sslmode=disable"))
        thread.join()
    assert caught.value.kind == kind


def test_silence_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(PostgresError, match="timed out") as caught:
        Connection(parse_url(f"postgresql://u:p@127.0.0.1:{listener.getsockname()[1]}/d"), timeout=0.2)
    assert caught.value.kind == "unreachable"


@pytest.mark.parametrize("drop", ["start", "query"])
def test_a_connection_that_is_lost(serve: Serve, drop: str) -> None:
    with pytest.raises(PostgresError, match="the connection was lost"), Connection(parse_url(serve(drop=drop).url())) as db:
        db.query("SELECT 1")


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=db -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder / "cert.pem"


@pytest.fixture
def context(certificate: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificate, certificate.parent / "key.pem")
    return made


def test_tls_where_it_is_offered(serve: Serve, context: ssl.SSLContext, certificate: Path) -> None:
    server = serve(tls=context)
    for query in (
        "",
        "?sslmode=require",
        f"?sslmode=verify-full&sslrootcert={certificate}",
        f"?sslmode=verify-ca&sslrootcert={certificate}",
    ):
        with Connection(parse_url(server.url(query))) as db:
            assert db.encrypted
    with Connection(parse_url(server.url("?sslmode=disable"))) as db:
        assert not db.encrypted
    with Connection(parse_url(server.url("?sslmode=verify-full")), ca_bundle=str(certificate)) as db:
        assert db.encrypted


@pytest.mark.parametrize("query", ["?sslmode=verify-full", "?sslmode=verify-ca"])
def test_an_untrusted_certificate(serve: Serve, context: ssl.SSLContext, query: str) -> None:
    with pytest.raises(PostgresError, match=r"certificate is not trusted: self.signed") as caught:
        Connection(parse_url(serve(tls=context).url(query)))
    assert caught.value.kind == "tls"


def test_a_certificate_for_another_name(serve: Serve, context: ssl.SSLContext, certificate: Path) -> None:
    server = serve(tls=context)
    url = server.url(f"?sslmode=verify-full&sslrootcert={certificate}").replace("127.0.0.1", "localhost")
    with pytest.raises(PostgresError, match="not trusted: Hostname mismatch"):
        Connection(parse_url(url))


def test_files_of_certificates(serve: Serve, context: ssl.SSLContext, tmp_path: Path) -> None:
    server = serve(tls=context)
    with pytest.raises(PostgresError, match="the root certificate /nowhere that sslrootcert names is not on this host"):
        Connection(parse_url(server.url("?sslmode=require&sslrootcert=/nowhere")))
    (tmp_path / "empty.pem").touch()
    with pytest.raises(PostgresError, match=r"empty.pem cannot be read as a file of certificates"):
        Connection(parse_url(server.url(f"?sslrootcert={tmp_path}/empty.pem")))


def test_a_server_without_tls(serve: Serve) -> None:
    server = serve()
    Connection(parse_url(server.url())).close()
    with pytest.raises(PostgresError, match="does not offer TLS, which sslmode=require asks for") as caught:
        Connection(parse_url(server.url("?sslmode=require")))
    assert caught.value.kind == "tls"
