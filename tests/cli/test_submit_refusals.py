"""What `submit` refuses, before anything is uploaded: one line that says what was got, and exit code 2."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import ray
from ray._raylet import AuthenticationTokenLoader

from tangentscope.pipeline import cli


class Head:
    """A server that answers every request with the same, and remembers them."""

    def __init__(self) -> None:
        self.code, self.text, self.asked = 200, json.dumps({"ray_version": ray.__version__}), []
        head = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                head.asked.append((self.command, self.path))
                self.send_response(head.code)
                self.end_headers()
                self.wfile.write(head.text.encode())

            def do_PUT(self) -> None:
                self.do_GET()

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.address = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def head() -> Iterator[Head]:
    started = Head()
    thread = threading.Thread(target=started.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield started
    started.server.shutdown()
    thread.join()
    started.server.server_close()


@pytest.fixture
def refused(
    head: Head, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., str]]:
    """Submit what is to be refused; its one line, after checking that nothing was sent."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 32)
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")  # which Ray would believe, rather than --address
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")  # set by the command, in this process: taken back at the end

    def submit(*arguments: str, address: str = head.address, out: str = "/shared/study") -> str:
        words = ["quickstart", "--address", address, "--out", out, *arguments]
        monkeypatch.setattr("sys.argv", ["tangentscope", "submit", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr()
        assert (stop.value.code, printed.out) == (2, "")
        assert printed.err.startswith("error: ")
        assert printed.err.count("\n") == 1
        assert {method for method, _ in head.asked} <= {"GET"}
        return printed.err

    yield submit
    # Ray remembers a token as long as the process lives: the next Ray of this process would be asked with this one.
    AuthenticationTokenLoader.instance().reset_cache()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train.epocs=3"], "train.epocs: unknown key; allowed: batch_size, epochs, evaluate_every, evaluate_train, "),
        (["grid.model.width=[0]"], "model.width: got 0; input should be greater than or equal to 1"),
        (["model.name=mpl"], 'model.name: "mpl" unknown'),
        (["--scale", "huge"], 'scale "huge" unknown'),
    ],
)
def test_a_study_that_does_not_hold(arguments: list[str], said: str, head: Head, refused: Callable[..., str]):
    assert said in refused(*arguments)
    assert head.asked == []


def test_places_on_this_machine(head: Head, refused: Callable[..., str]):
    assert "--out results/mine: a relative path" in refused(out="results/mine")
    assert "--data-dir data: a relative path" in refused("--data-dir", "data")
    assert head.asked == []


def test_no_out_and_no_address(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    for words, missing in ((["--out", "/shared"], "--address"), (["--address", "http://127.0.0.1:1"], "--out")):
        monkeypatch.setattr("sys.argv", ["tangentscope", "submit", "quickstart", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 2
        assert f"parameter {missing} requires an argument" in capsys.readouterr().err


def test_an_address_of_another_kind(refused: Callable[..., str]):
    for address in ("auto", "127.0.0.1:6379", "ray://127.0.0.1:10001"):
        said = refused(address=address)
        assert f"address {address}: expected the cluster's dashboard, such as http://127.0.0.1:8265" in said


def test_nobody_there(head: Head, refused: Callable[..., str]):
    said = refused(address="http://127.0.0.1:1")
    assert "http://127.0.0.1:1 takes no Ray jobs: ConnectionError: Failed to connect to Ray" in said
    assert said.endswith("start the cluster's head with a dashboard (ray[default]), or a tunnel to it\n")
    assert head.asked == []


@pytest.mark.parametrize(("code", "text"), [(404, "no"), (200, "<html>"), (200, "{}"), (500, "broken")])
def test_another_server(code: int, text: str, head: Head, refused: Callable[..., str]):
    head.code, head.text = code, text
    assert f"{head.address} takes no Ray jobs: " in refused()
    assert head.asked == [("GET", "/api/version")]


@pytest.mark.parametrize(("code", "said"), [(401, "Authentication required: "), (403, "Authentication failed: ")])
def test_a_token_that_is_missing_or_wrong(code: int, said: str, head: Head, refused: Callable[..., str]):
    head.code, head.text = code, "no entry"
    line = refused()
    assert f"{head.address}: {said}no entry; set RAY_AUTH_TOKEN to the cluster's, or RAY_AUTH_TOKEN_PATH" in line


def test_another_version_of_ray(head: Head, refused: Callable[..., str]):
    head.text = json.dumps({"ray_version": "2.41.0"})
    mend = f"install ray=={ray.__version__} on the cluster's machines"
    assert f"{head.address} runs Ray 2.41.0, this machine {ray.__version__}; {mend}" in refused()
    assert set(head.asked) == {("GET", "/api/version")}
