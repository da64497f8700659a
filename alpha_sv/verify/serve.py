"""A page for this machine: compare two recordings,
enrol, identify, remove; and the calls behind it.

    GET    /                  the page
    GET    /api/state         model, operating points, people, limits
    POST   /api/verify        multipart: files `a`, files `b`, optionally `point` or `threshold`
    POST   /api/identify      multipart: files `file`, optionally `point` or `threshold`
    POST   /api/enrol         multipart: `name`, files `file`
    POST   /api/remove        multipart: `name`
    GET    /api/check         `Gallery.check`

Answers are JSON; an error is {"error": "one sentence"} with a status of 4xx.
`alpha_sv.verify.serve_guard` says who may call. Recordings stay in memory and
are gone after the answer.
"""

from __future__ import annotations

import functools
import importlib.resources
import logging
import secrets
from collections.abc import Callable, Sequence

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

from alpha_sv.scoring.calibrator import Calibrator
from alpha_sv.verify.decision import verify
from alpha_sv.verify.evidence import require_model
from alpha_sv.verify.gallery import Gallery
from alpha_sv.verify.model import SpeakerModel
from alpha_sv.verify.serve_guard import LOOPBACK, Guard, Refused
from alpha_sv.verify.upload import Limits, decode
from alpha_sv.verify.waveforms import Recording

logger = logging.getLogger(__name__)
_AT_ONCE = 2  # networks at work; the others wait
_WAITING = 512  # connections; more are sent away with 503


class _InMemory(MultiPartParser):
    """Never spools a part to disk; the guard limits the whole."""

    spool_max_size = 1 << 40


def make_app(
    model: SpeakerModel,
    gallery: Gallery | None = None,
    *,
    token: str | None = None,
    hosts: Sequence[str] = (),
    limits: Limits | None = None,
    calibrator: Calibrator | None = None,
) -> Guard:
    """The ASGI application.

    Parameters
    ----------
    model : SpeakerModel
    gallery : Gallery, optional
        Without one, verification only.
    token : str, optional
        Every call then needs it.
    hosts : sequence of str
        Names by which it may be called, besides those of loopback.
    limits : Limits, optional
    calibrator : Calibrator, optional
        Instead of the model's own.
    """
    require_model(calibrator, model)
    page = importlib.resources.files("alpha_sv.verify").joinpath("page.html").read_text(encoding="utf-8")
    service = _Service(model, gallery, limits or Limits(), calibrator or model.calibrator)
    routes = [Route("/", lambda _: HTMLResponse(page))]
    for path, method, answer in (
        ("state", "GET", service.state),
        ("check", "GET", service.check),
        ("verify", "POST", service.verify),
        ("identify", "POST", service.identify),
        ("enrol", "POST", service.enrol),
        ("remove", "POST", service.remove),
    ):
        routes.append(Route(f"/api/{path}", functools.partial(service.answer, answer), methods=[method]))
    handlers = {Refused: lambda _, refused: JSONResponse({"error": refused.message}, refused.status)}
    return Guard(
        Starlette(routes=routes, exception_handlers=handlers),
        page=page,
        token=token,
        hosts=hosts,
        max_bytes=service.limits.bytes,
    )


class _Service:
    def __init__(self, model: SpeakerModel, gallery: Gallery | None, limits: Limits, calibrator: Calibrator | None):
        self.model, self._gallery, self.limits, self.calibrator = model, gallery, limits, calibrator
        self._workers: anyio.CapacityLimiter | None = None

    async def answer(self, work: Callable[[FormData], dict], request: Request) -> JSONResponse:
        """Read the form, do the work in a thread, answer;
        what the caller did wrong is a status of 4xx."""
        self._workers = self._workers or anyio.CapacityLimiter(_AT_ONCE)  # made inside of the event loop
        form = FormData()
        try:
            if request.method == "POST":
                form = await self._form(request)
            files = {name: await self._read(form, name) for name in ("a", "b", "file")}
            texts = {name: form.get(name) for name in ("name", "point", "threshold")}
            found = await anyio.to_thread.run_sync(work, {**files, **texts}, limiter=self._workers)
            return JSONResponse(found)
        except MultiPartException as error:
            return JSONResponse({"error": error.message}, 400)
        except ValueError as error:  # the file system of this machine is nobody's business
            path = str(self._gallery.path) if self._gallery else ""
            return JSONResponse({"error": str(error).replace(path, "the gallery") if path else str(error)}, 422)
        finally:
            await form.close()

    async def _form(self, request: Request) -> FormData:
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise Refused(415, "multipart/form-data is wanted")
        parser = _InMemory(request.headers, request.stream(), max_files=self.limits.files, max_fields=8)
        return await parser.parse()

    async def _read(self, form: FormData, field: str) -> list[bytes]:
        return [await part.read() for part in form.getlist(field) if isinstance(part, UploadFile)]

    def _recordings(self, given: dict, field: str, what: str) -> list[Recording]:
        if not given[field]:
            raise ValueError(f"{what} is missing")
        names = [what if len(given[field]) == 1 else f"{what} {i + 1}" for i in range(len(given[field]))]
        both = zip(given[field], names, strict=True)
        return [decode(content, name, self.model.sample_rate, self.limits) for content, name in both]

    @property
    def gallery(self) -> Gallery:
        if self._gallery is None:
            raise ValueError("this page was started without a gallery: alpha-sv serve people.sqlite")
        return self._gallery

    def state(self, given: dict) -> dict:
        line = self.calibrator
        points = [point.name for point in line.points if point.supports()] if line else []
        return {
            "model": self.model.name,
            "people": self._people() if self._gallery else None,
            "points": points,
            "histogram": line.provenance.get("histogram") if line else None,
            "limits": {"megabytes": self.limits.megabytes, "seconds": self.limits.seconds},
        }

    def verify(self, given: dict) -> dict:
        a = self._recordings(given, "a", "the first recording")
        b = self._recordings(given, "b", "the second recording")
        found = verify(self.model, a, b, calibrator=self.calibrator, **_request(given))
        return {**found.to_json(), "text": str(found)}

    def identify(self, given: dict) -> dict:
        found = self.gallery.identify(self._recordings(given, "file", "the recording"), **_request(given))
        return {**found.to_json(), "text": str(found)}

    def enrol(self, given: dict) -> dict:
        name = given["name"] if isinstance(given["name"], str) else ""
        done = self.gallery.enrol(name, self._recordings(given, "file", "the recording"))
        return {"name": done.name, "added": len(done.added), "known": len(done.known), "warnings": done.warnings}

    def remove(self, given: dict) -> dict:
        name = given["name"] if isinstance(given["name"], str) else ""
        return {"removed": self.gallery.remove(name)}

    def check(self, given: dict) -> dict:
        found = self.gallery.check()
        return {**found.to_json(), "text": str(found)}

    def _people(self) -> list[dict]:
        return [{"name": name, "samples": count} for name, count in self.gallery.counts().items()]


def _request(given: dict) -> dict:
    """Point and threshold of a form."""
    threshold = given["threshold"] or None
    if threshold is not None:
        try:
            threshold = float(threshold)
        except (TypeError, ValueError):
            raise ValueError("threshold is a number, on the cosine") from None
    return {"point": given["point"] or None, "threshold": threshold}


def run(
    model: SpeakerModel,
    gallery: Gallery | None,
    host: str = "127.0.0.1",
    port: int = 8765,
    *,
    token: str | None = None,
    hosts: Sequence[str] = (),
    limits: Limits | None = None,
    calibrator: Calibrator | None = None,
) -> None:
    """Serve until interrupted.
    Beyond loopback a token is made up if none is given; it is printed with the address."""
    if host not in LOOPBACK and token is None:
        token = secrets.token_urlsafe(24)
    if token is not None and len(token) < 16:
        raise ValueError(f"the token has {len(token)} characters; give at least 16, or none to have one made")
    app = make_app(model, gallery, token=token, hosts=[*hosts, host], limits=limits, calibrator=calibrator)
    shown = f"[{host}]" if ":" in host else host
    config = uvicorn.Config(
        app, host=host, port=port, limit_concurrency=_WAITING, log_level="warning", server_header=False, ws="none"
    )
    server = uvicorn.Server(config)
    socket = config.bind_socket()
    socket.listen(config.backlog)  # before the address is said: who calls at once waits
    address = f"http://{shown}:{socket.getsockname()[1]}/"
    # after the "#": it is not sent to servers and logs
    logger.warning("%s%s", address, f"#token={token}" if token else "")
    if host not in LOOPBACK:
        logger.warning("others can reach it and nothing is encrypted: put a server with TLS in front of it")
    server.run(sockets=[socket])
