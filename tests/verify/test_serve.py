"""The page and its calls: what they answer, and what they do with hostile requests."""

import base64
import hashlib
import io
import re

import numpy as np
import pytest
import soundfile

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
pytest.importorskip("httpx", reason="what starlette's TestClient needs")

from starlette.testclient import TestClient

from alpha_sv.verify.gallery import Gallery
from alpha_sv.verify.serve import make_app
from alpha_sv.verify.upload import Limits, decode
from tests.fixtures.voices import SpectralModel, calibrator, spoken

LOCAL = "http://127.0.0.1:8765"


def wav(samples, rate=16000, **options):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **{"format": "WAV", **options})
    return file.getvalue()


ANN, ANN2, BOB = (wav(spoken(*who)) for who in ((0, 0), (0, 1), (5, 0)))


@pytest.fixture
def gallery(tmp_path):
    return Gallery(tmp_path / "g.sqlite", SpectralModel(calibrator=calibrator(weight=40.0, offset=-30.0)))


@pytest.fixture
def client(gallery):
    return TestClient(make_app(gallery.model, gallery, limits=Limits(megabytes=2, seconds=6, files=4)), base_url=LOCAL)


def files(**given):
    return [(field, ("x", content)) for field, contents in given.items() for content in contents]


def test_verify_enrol_identify_check_remove(client, gallery):
    assert client.get("/api/state").json()["people"] == []
    same = client.post("/api/verify", files=files(a=[ANN], b=[ANN2])).json()
    expected = gallery.model.verify(spoken(0, 0), spoken(0, 1))
    assert same["same"] is expected.same is True
    assert same["score"] == pytest.approx(expected.score, abs=1e-4)  # 16 bits
    assert client.post("/api/verify", files=files(a=[ANN], b=[BOB])).json()["same"] is False
    for name, content in (("Ann", ANN), ("<script>alert(1)</script>", BOB)):
        assert client.post("/api/enrol", data={"name": name}, files=files(file=[content])).json()["added"] == 1
    assert gallery.names() == ["<script>alert(1)</script>", "Ann"]
    assert client.get("/api/state").json()["people"][1] == {"name": "Ann", "samples": 1}
    found = client.post("/api/identify", files=files(file=[ANN2])).json()
    assert (found["name"], found["verdict"]) == ("Ann", "known")
    assert "2 people" in client.get("/api/check").json()["text"]
    assert client.post("/api/remove", data={"name": "Ann"}, files=[("none", b"")]).json() == {"removed": 1}
    assert gallery.names() == ["<script>alert(1)</script>"]


def test_without_a_gallery_it_verifies_only(gallery):
    client = TestClient(make_app(gallery.model), base_url=LOCAL)
    assert client.get("/api/state").json()["people"] is None
    assert client.post("/api/verify", files=files(a=[ANN], b=[ANN2])).json()["same"] is True
    answer = client.post("/api/identify", files=files(file=[ANN]))
    assert answer.status_code == 422 and "without a gallery" in answer.json()["error"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"no audio at all", "not audio"),
        (b"RIFF" + b"\xff" * 400, "not audio"),
        (b"PK\x03\x04" + bytes(1000), "not audio"),
        (wav(np.zeros(16000)), "silent"),
        (wav(np.full(16000, np.nan), subtype="FLOAT"), "NaN"),
        (wav(np.zeros((800, 12))), "12 channels"),
        (wav(np.zeros(800), 1000), "1000 Hz"),
        (wav(np.zeros(0)), "no samples"),
        (wav(0.1 * np.random.default_rng(0).standard_normal(16000 * 7)), "longer than 6 s"),
    ],
)
def test_a_recording_that_is_none_is_an_error_of_the_caller(client, gallery, content, message):
    for path, fields in (("verify", {"a": [content], "b": [ANN]}), ("identify", {"file": [content]})):
        answer = client.post(f"/api/{path}", files=files(**fields))
        assert answer.status_code == 422 and message in answer.json()["error"]
    answer = client.post("/api/enrol", data={"name": "Eve"}, files=files(file=[content]))
    assert answer.status_code == 422 and gallery.names() == []


def test_the_length_is_looked_at_before_anything_is_decoded():
    silence = wav(np.zeros(16000 * 600, "int16"), format="FLAC")  # ten minutes in a few kilobytes
    assert len(silence) < 500_000
    with pytest.raises(ValueError, match="longer than 120 s"):
        decode(silence, "it", 16000, Limits())


def test_what_is_missing_or_wrong_in_a_form_is_said(client):
    for path, data, given, message in (
        ("verify", {}, files(a=[ANN]), "second recording is missing"),
        ("verify", {"a": "text", "b": "text"}, [("x", b"")], "first recording is missing"),
        ("verify", {"point": "fpr 7"}, files(a=[ANN], b=[BOB]), "no operating point"),
        ("verify", {"threshold": "abc"}, files(a=[ANN], b=[BOB]), "threshold is a number"),
        ("verify", {"threshold": "nan"}, files(a=[ANN], b=[BOB]), "from -1 to 1"),
        ("enrol", {"name": ""}, files(file=[ANN]), "1 to 200 characters"),
        ("enrol", {"name": "a\nb"}, files(file=[ANN]), "control character"),
        ("enrol", {}, files(file=[ANN]), "name"),
        ("remove", {"name": "nobody"}, [("x", b"")], "nobody called"),
    ):
        answer = client.post(f"/api/{path}", data=data, files=given)
        assert answer.status_code == 422 and message in answer.json()["error"], (path, data)


def test_no_name_of_a_sender_and_no_audio_reach_the_disk(client, gallery, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.TemporaryFile", None)  # a spooled part would be written with it
    name = "../../../../tmp/evil\0.wav"
    big = wav(np.tile(spoken(0, 0), 2)[: 16000 * 6], subtype="DOUBLE", rate=16000)
    answer = client.post("/api/enrol", data={"name": "Ann"}, files=[("file", (name, ANN)), ("file", ("evil", big))])
    assert answer.json()["added"] == 2
    assert not [path for path in tmp_path.rglob("*") if not path.name.startswith("g.sqlite")]
    raw = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"evil" not in raw and ANN[1000:1100] not in raw
    assert all(row["file"] is None for row in gallery.export()["people"]["Ann"])


def test_too_much_is_refused_whether_declared_or_not(client):
    huge = files(a=[bytes(3_000_000)], b=[ANN])
    assert client.post("/api/verify", files=huge).status_code == 413
    head = b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n'

    def endless():
        yield head
        for _ in range(100):
            yield bytes(100_000)

    answer = client.post("/api/verify", content=endless(), headers={"content-type": "multipart/form-data; boundary=x"})
    assert answer.status_code == 413 and "2 MB" in answer.json()["error"]
    assert client.post("/api/verify", content=b"", headers={"content-length": "9" * 40}).status_code == 400
    assert client.post("/api/verify", files=files(a=[ANN] * 5)).status_code == 400
    assert client.post("/api/verify", data={str(i): "x" for i in range(50)}, files=files(a=[ANN])).status_code == 400


@pytest.mark.parametrize(
    "kind", ["application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_bodies_of_another_kind_are_refused(client, kind):
    answer = client.post("/api/verify", content=b'{"a": 1}', headers={"content-type": kind})
    assert answer.status_code in (400, 415) and "error" in answer.json()


def test_another_name_for_this_machine_is_refused(client):
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil", "192.168.0.7", "", "[::1", "0x7f.1"):
        for path in ("/", "/api/state"):
            assert client.get(path, headers={"host": host}).status_code == 403, host
    for host in ("localhost", "127.0.0.1:8765", "LOCALHOST:1", "[::1]:8765", "localhost."):
        assert client.get("/api/state", headers={"host": host}).status_code == 200, host


def test_other_pages_may_not_call(client, gallery):
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "http://localhost:8765"},  # another origin than 127.0.0.1
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ):
        answer = client.post("/api/enrol", data={"name": "Eve"}, files=files(file=[ANN]), headers=headers)
        assert answer.status_code == 403 and gallery.names() == [], headers
    own = {"origin": LOCAL, "sec-fetch-site": "same-origin"}
    assert client.post("/api/enrol", data={"name": "Eve"}, files=files(file=[ANN]), headers=own).status_code == 200


def test_with_a_token_nothing_goes_without_it(gallery):
    app = make_app(gallery.model, gallery, token="a secret of some length", hosts=["voices.example"])
    client = TestClient(app, base_url="http://voices.example")
    assert client.get("/").status_code == 200  # the page itself has nothing to hide
    good = {"authorization": "Bearer a secret of some length"}
    for headers in (
        {},
        {"authorization": "Bearer "},
        {"authorization": "Bearer a secret"},
        {"authorization": "bearer é".encode()},
    ):
        for method, path in (("GET", "state"), ("GET", "check"), ("POST", "verify"), ("POST", "remove")):
            assert client.request(method, f"/api/{path}", headers=headers).status_code == 401
    assert client.get("/api/state", headers=good).status_code == 200
    assert client.get("/api/state", headers={**good, "host": "10.0.0.8:8765"}).status_code == 200
    assert client.get("/api/state", headers={**good, "host": "evil.example"}).status_code == 403


def test_the_token_of_the_environment_is_used_and_not_shown(monkeypatch, capsys):
    from alpha_sv.cli import main
    from alpha_sv.verify import model, serve

    used = []
    monkeypatch.setenv("ALPHA_SV_TOKEN", "a secret of 22 letters")
    monkeypatch.setattr(serve, "run", lambda *_, token, **__: used.append(token))
    monkeypatch.setattr(model, "load_model", lambda *_: SpectralModel())
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    assert main(["serve"]) == 0 and main(["serve", "--token", "another of 20 letters"]) == 0
    assert used == ["a secret of 22 letters", "another of 20 letters"]
    assert "a secret" not in capsys.readouterr().out


def test_every_answer_has_the_security_headers_and_only_the_pages_own_script_may_run(client):
    page = client.get("/")
    for answer in (page, client.get("/api/state"), client.get("/nothing"), client.get("/", headers={"host": "x"})):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY" and answer.headers["cache-control"] == "no-store"
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
        assert "unsafe" not in str(policy)
    for kind in ("script", "style"):
        (inline,) = re.findall(rf"<{kind}>(.*?)</{kind}>", page.text, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert policy[f"{kind}-src"] == f"'sha256-{digest}'"
    assert not re.findall(r"""(src|href)\s*=\s*["']?(https?:)?//""", page.text)  # nothing from elsewhere
    assert " on" + "click=" not in page.text and " style=" not in page.text  # the policy would stop them


def test_paths_and_methods_that_are_none(client):
    for path in ("/../../etc/passwd", "/api/../page.html", "/static/x", "/api/", "/api/verify/x"):
        assert client.get(path).status_code in (404, 405)
    for method, path in (("GET", "enrol"), ("POST", "state"), ("DELETE", "remove"), ("TRACE", "state")):
        assert client.request(method, f"/api/{path}").status_code == 405


def test_errors_do_not_tell_where_the_gallery_is(client, gallery, tmp_path):
    client.post("/api/enrol", data={"name": "Ann"}, files=files(file=[ANN]))
    gallery.path.write_bytes(b"overwritten" * 1000)
    answer = client.post("/api/remove", data={"name": "Ann"}, files=[("x", b"")])
    assert answer.status_code == 422 and str(tmp_path) not in answer.text
