"""Passwords and certificates in the settings: what fits together, what is refused by name, what nothing shows."""

from __future__ import annotations

import ast
import json
import socket
import threading
import traceback
from pathlib import Path

import pytest
from click.testing import CliRunner

from infra.cli import cli
from infra.credentials import password_of, speaks_tls, tls_context
from infra.errors import ConfigurationError
from infra.kafka_security import client_arguments
from infra.settings import KafkaSettings, RedisSettings, load_settings, secret_keys
from serving.up import NEEDLESS, settings_env
from tests.support.certificates import Authority

ROOT = Path(__file__).parents[2]
KAFKA = {"MODISTE_KAFKA__URL": "kafka://h:1"}
SASL = {**KAFKA, "MODISTE_KAFKA__SECURITY_PROTOCOL": "SASL_SSL", "MODISTE_KAFKA__USERNAME": "anna"}
REDIS = {"MODISTE_REDIS__URL": "rediss://h:1"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (SASL, "needs username and password"),
        ({**KAFKA, "MODISTE_KAFKA__USERNAME": "anna"}, "SASL_SSL or SASL_PLAINTEXT only"),
        ({**KAFKA, "MODISTE_KAFKA__CA_FILE": "ca.pem"}, "SSL or SASL_SSL only"),
        (
            {**KAFKA, "MODISTE_KAFKA__KEY_FILE": "k", "MODISTE_KAFKA__SECURITY_PROTOCOL": "SSL"},
            "key_file needs cert_file",
        ),
        ({**SASL, "MODISTE_KAFKA__PASSWORD": "s3cret", "MODISTE_KAFKA__PASSWORD_FILE": "p"}, "not both"),
        ({"MODISTE_KAFKA__SECURITY_PROTOCOL": "SSL"}, "embedded broker knows no security_protocol"),
        ({"MODISTE_KAFKA__URL": "kafka://anna:s3cret@h:1"}, "set kafka.username and kafka.password"),
        ({**KAFKA, "MODISTE_KAFKA__SASL_MECHANISM": "GSSAPI"}, "'PLAIN', 'SCRAM-SHA-256' or 'SCRAM-SHA-512'"),
        ({**REDIS, "MODISTE_REDIS__USERNAME": "anna"}, "username needs password"),
        ({"MODISTE_REDIS__PASSWORD": "s3cret"}, "asks for no password"),
        ({"MODISTE_REDIS__URL": "redis://anna:s3cret@h", "MODISTE_REDIS__PASSWORD": "s3cret"}, "one of the two places"),
        ({"MODISTE_REDIS__URL": "redis://h:1", "MODISTE_REDIS__CA_FILE": "ca.pem"}, "with a rediss:// url only"),
    ],
)
def test_what_does_not_fit_together_is_refused_and_no_secret_said(given: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(given)
    assert said in str(caught.value)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_a_password_of_the_wrong_kind_is_not_said_either(tmp_path: Path) -> None:
    (tmp_path / "modiste.toml").write_text("[kafka]\npassword = 35791113\n")
    with pytest.raises(ConfigurationError, match=r"kafka\.password in .*valid string") as caught:
        load_settings({})
    assert "35791113" not in "".join(traceback.format_exception(caught.value))


def test_a_secret_reaches_a_child_and_shows_nowhere_else() -> None:
    given = {**SASL, **REDIS, "MODISTE_KAFKA__PASSWORD": "s3cret-k", "MODISTE_REDIS__PASSWORD": "s3cret-r"}
    settings = load_settings(given)
    shown = repr(settings) + str(settings) + json.dumps(settings.shown()) + settings.model_dump_json()
    assert "s3cret" not in shown
    env = settings_env(settings)
    assert (env["MODISTE_KAFKA__PASSWORD"], env["MODISTE_REDIS__PASSWORD"]) == ("s3cret-k", "s3cret-r")
    assert load_settings(env) == settings
    partly = settings_env(settings, without=["redis"])
    assert not any(name.startswith("MODISTE_REDIS") for name in partly)
    assert partly["MODISTE_KAFKA__PASSWORD"] == "s3cret-k"


def test_the_secret_settings_are_known() -> None:
    assert secret_keys() == ("kafka.password", "redis.password", "llm.api_key")


LLM = {"MODISTE_LLM__URL": "https://h/v1", "MODISTE_LLM__MODEL": "m", "MODISTE_LLM__API_KEY": "sk-s3cret"}


def test_the_key_of_the_language_model_reaches_who_calls_it_and_shows_nowhere() -> None:
    settings = load_settings(LLM)
    assert "s3cret" not in repr(settings) + str(settings) + json.dumps(settings.shown()) + settings.model_dump_json()
    for asked in (["config", "show"], ["config", "show", "--json"]):
        printed = CliRunner(env=LLM).invoke(cli, asked, catch_exceptions=False).output
        assert "llm" in printed and "api_key" in printed and "s3cret" not in printed
    assert settings_env(settings)["MODISTE_LLM__API_KEY"] == "sk-s3cret"
    for name in ("worker", "archiver", "encoder"):
        assert "s3cret" not in str(settings_env(settings, without=NEEDLESS[name]))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"MODISTE_LLM__URL": "https://h/v1"}, "url needs model"),
        ({**LLM, "MODISTE_LLM__API_KEY_FILE": "k"}, "give api_key or api_key_file, not both"),
        ({**LLM, "MODISTE_LLM__URL": "https://anna:s3cret@h/v1"}, "set llm.api_key or llm.api_key_file"),
        ({**LLM, "MODISTE_LLM__TOP_N": "x"}, "MODISTE_LLM__TOP_N = 'x'"),
    ],
)
def test_a_wrong_setting_of_the_language_model_says_no_secret(given: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(given)
    assert said in str(caught.value)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_a_password_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    settings = RedisSettings(url="redis://h:1", password_file=file)
    with pytest.raises(ConfigurationError, match=r"redis\.password_file = .*No such file"):
        password_of("redis", settings)
    for written, read in ((b" a b \r\n", " a b "), (b"a\n", "a"), (b"a", "a")):
        file.write_bytes(written)
        assert password_of("redis", settings) == read
    for written, said in ((b"\n", "is empty"), (b"\xff", "not UTF-8")):
        file.write_bytes(written)
        with pytest.raises(ConfigurationError, match=rf"redis\.password_file .*{said}"):
            password_of("redis", settings)


def kafka(**given: Path) -> KafkaSettings:
    return KafkaSettings.model_validate({"url": "kafka://h:1", "security_protocol": "SSL", **given})


def test_files_that_cannot_be_used_are_refused_by_their_setting(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("ours")
    _, foreign = authority.issue("foreign")
    _, locked = authority.issue("locked", passphrase=b"s3cret")
    text = tmp_path / "text"
    text.write_text("no certificate")
    tls_context("kafka", kafka(ca_file=authority.ca_file, cert_file=certificate, key_file=key))
    cases = [
        (kafka(ca_file=tmp_path / "no"), r"kafka\.ca_file = .*No such file"),
        (kafka(ca_file=text), r"kafka\.ca_file = .*PEM form"),
        (kafka(cert_file=tmp_path / "no"), r"kafka\.cert_file = .*No such file"),
        (kafka(cert_file=certificate, key_file=foreign), r"kafka\.key_file = .*key values mismatch"),
        (kafka(cert_file=certificate, key_file=locked), r"kafka\.key_file = .*the key is encrypted"),
    ]
    for settings, said in cases:
        with pytest.raises(ConfigurationError, match=said):
            tls_context("kafka", settings)


def test_plaintext_clients_are_given_no_more_than_the_address() -> None:
    assert client_arguments(KafkaSettings(url="kafka://a:1,b:2")) == {
        "bootstrap_servers": "a:1,b:2",
        "security_protocol": "PLAINTEXT",
    }


def test_every_client_of_ours_is_made_with_the_shared_arguments() -> None:
    """A client made otherwise would connect in plaintext, whatever the settings say."""
    made = {"AIOKafkaProducer", "AIOKafkaConsumer", "ClosingConsumer", "AIOKafkaAdminClient"}
    found: list[str] = []
    careless: list[str] = []
    for package in ("infra", "streams", "serving", "offline"):
        for path in (ROOT / package).rglob("*.py"):
            # Other people's pipelines, on a plaintext broker of their own; a subscriber that has no Modiste.
            if {"peers", "examples"} & set(path.parts):
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in made:
                    place = f"{path.relative_to(ROOT)}:{node.lineno}"
                    found.append(place)
                    spread = [ast.unparse(keyword.value) for keyword in node.keywords if keyword.arg is None]
                    if not any("client_arguments" in text or text == "shared" for text in spread):
                        careless.append(place)
    assert len(found) >= 6
    assert careless == [], "give these clients **infra.kafka_security.client_arguments(settings)"


@pytest.mark.parametrize(
    ("answered", "tls"),
    [(b"\x16", True), (b"\x15", True), (b"-ERR unknown command\r\n", False), (b"HTTP/1.1 400", False), (b"", False)],
    ids=["a handshake", "an alert", "redis", "http", "hangs up"],
)
def test_the_first_byte_of_an_answer_tells_whether_a_server_speaks_tls(answered: bytes, tls: bool) -> None:
    """The handshake need not come to an end, which may take a busy server longer than anybody waits."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        hellos: list[bytes] = []

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                hellos.append(connection.recv(65_536))
                connection.sendall(answered)

        thread = threading.Thread(target=answer)
        thread.start()
        assert speaks_tls("127.0.0.1", listener.getsockname()[1], 60) is tls
        thread.join()
    assert hellos[0][:1] == b"\x16"


def test_where_nobody_listens_nobody_speaks_tls() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert speaks_tls("127.0.0.1", port) is False
