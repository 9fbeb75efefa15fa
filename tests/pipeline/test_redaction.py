"""No secret is in what is printed or recorded, wherever it stood and whoever quoted it."""

import shlex
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tangentscope.pipeline.system import provenance
from tangentscope.pipeline.system.errors import Fenced, Stopped, UserError, one_line
from tangentscope.pipeline.system.logs import Tail
from tangentscope.pipeline.system.redaction import redacted, secret_options, without_userinfo

MARK = "hunter2mark"
PLACES = [
    f"http://user:{MARK}@host:5000/path",
    f"https://{MARK}@host",
    f"http://user:a@{MARK}@host",
    f"postgresql+psycopg2://user:{MARK}@host:5432/db?sslmode=require",
    f"mysql://user@host/db?ssl=1&password={MARK}",
    f"s3://bucket/study?scheme=http&secret_key={MARK}&region=x",
    f"s3://{MARK}:key@bucket/study",
    f"https://bucket.s3.amazonaws.com/x?X-Amz-Signature={MARK}&X-Amz-Credential={MARK}/2026/us-east-1",
    f"abfs://container?sas_token={MARK}",
    f"http:/user:{MARK}@host",  # as a path has it
    f"Authorization: Bearer {MARK}",
    f"Authorization: Basic {MARK}==",
]


@pytest.mark.parametrize("place", PLACES, ids=range(len(PLACES)))
@pytest.mark.parametrize("around", ["{}", "error: {} does not answer", "('{}',)", '<a href="{}">', "a\n{}\nb"])
def test_a_secret_is_taken_out_of_what_surrounds_it(place: str, around: str):
    text = redacted(around.format(place))
    assert MARK not in text
    before, _, after = around.partition("{}")
    assert text.startswith(before)
    assert text.endswith(after)


HARMLESS = [
    "sqlite:////home/me@work/mlflow.db",
    "s3://bucket/study?endpoint_override=127.0.0.1:9000&scheme=http",
    "https://arxiv.org/abs/2410.07451",
    "mail me@example.com",
    "http://127.0.0.1:5000/#/experiments/1/runs?searchFilter=tags.%60tangentscope.run%60&compareRunsMode=CHART",
    "got 3 tokens, expected pass=4",
    "key=value",
]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_holds_none_stays(text: str):
    assert redacted(text) == text


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "RAY_AUTH_TOKEN"])
@pytest.mark.parametrize("secret", [MARK, "a b/c@d+e"])
def test_secrets_of_the_environment_are_known(name: str, secret: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(name, secret)
    assert redacted(f"got '{secret}', or http%3A%2F%2Fa%3Aa%20b%2Fc%40d%2Be") in (
        "got '***', or http%3A%2F%2Fa%3A***",
        "got '***', or http%3A%2F%2Fa%3Aa%20b%2Fc%40d%2Be",
    )


def test_the_password_of_a_uri_of_the_environment_is_known_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:{MARK}@host")
    assert MARK not in redacted(f"nonnumeric port: '{MARK}@host'")


def test_the_file_of_a_token_is_no_secret(tmp_path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "a-token"
    file.write_text(MARK)
    monkeypatch.setenv("MY_TOKEN", str(file))
    assert redacted(f"{file}: not there") == f"{file}: not there"


@pytest.mark.parametrize("kind", [UserError, Stopped, Fenced])
def test_whatever_is_told_is_redacted(kind: type[Exception]):
    error = kind(f"tracking {PLACES[0]}: no\nanswer")
    assert str(error) == "tracking http://***@host:5000/path: no answer"
    assert MARK not in one_line(error)
    assert MARK not in one_line(ConnectionError(PLACES[0]))
    assert MARK not in "".join(traceback.format_exception(error))


def test_what_is_kept_of_a_launch_is_redacted():
    command = shlex.join(["tangentscope", "run", "x.yaml", "--address", PLACES[0]])
    assert MARK not in str(provenance.gather(command, [0], {}, 0.0))
    tail = Tail()
    tail.write(f"a warning of {PLACES[0]}")
    assert tail.text == "a warning of http://***@host:5000/path"


def test_options_that_hold_secrets_are_named():
    assert secret_options("s3://b/x?scheme=http&secret_key=a&access_key=b&session_token=") == [
        "access_key",
        "secret_key",
        "session_token",
    ]
    assert secret_options("s3://b/access_key?scheme=http&region=x&endpoint_override=h:1") == []


words = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1)


@given(words, words, words)
def test_a_name_and_a_password_are_parted_from_their_host(name: str, password: str, host: str):
    assert without_userinfo(f"http://{name}:{password}@{host}/a@b?c@d") == (f"http://{host}/a@b?c@d", name, password)
    assert without_userinfo(f"http://{name}@{host}") == (f"http://{host}", name, None)
    assert without_userinfo(f"http://{host}/a@b") == (f"http://{host}/a@b", None, None)
    assert redacted(f"http://{name}:{password}@{host}/x") == f"http://***@{host}/x"
