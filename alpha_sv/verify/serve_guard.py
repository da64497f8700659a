"""What stands before every request: who may call,
how much they may send, what a browser may do with the answer.

* Host: loopback names only, or those that were allowed; with a token, any address in numbers as
  well. A page elsewhere that points its own name at 127.0.0.1 (DNS rebinding) is refused by this.
* Origin and Sec-Fetch-Site, where a browser sends them: only the page itself may call /api/ (CSRF).
* A token, where there is one, as "Authorization: Bearer ...", compared in constant time.
* Bodies up to a limit, whether or not their length was declared, within a minute.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import json
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
BODY_SECONDS = 60


class Refused(Exception):
    """A request that is answered with `status` and one sentence."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status, self.message = status, message


class Guard:
    """ASGI middleware around `app`; `page` is the HTML whose inline script and style may run."""

    def __init__(self, app, *, page: str, token: str | None, hosts: Iterable[str], max_bytes: int):
        self.app, self.token, self.max_bytes = app, token, max_bytes
        self.hosts = LOOPBACK | {host.lower() for host in hosts}
        self.headers = security_headers(page)

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # no WebSocket here
        begun = False

        async def answer(message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message = {**message, "headers": [*message.get("headers", []), *self.headers]}
            await send(message)

        try:
            self.check(scope)
            await self.app(scope, self.limited(scope, receive), answer)
        except Refused as refused:
            if not begun:
                body = json.dumps({"error": refused.message}).encode()
                headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
                await answer({"type": "http.response.start", "status": refused.status, "headers": headers})
                await answer({"type": "http.response.body", "body": body})

    def check(self, scope) -> None:
        """Refused unless the request may be made."""
        names = [name for name, _ in scope["headers"]]
        if names.count(b"host") != 1 or names.count(b"content-length") > 1 or names.count(b"authorization") > 1:
            raise Refused(400, "one Host header is needed, and none of the others twice")
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if not self.known_host(host := headers[b"host"]):
            raise Refused(403, "this name is not allowed; start it with --allow-host NAME")
        length = headers.get(b"content-length", "0")
        if not re.fullmatch("[0-9]{1,15}", length):
            raise Refused(400, "the content length is not a number")
        if int(length) > self.max_bytes:
            raise Refused(413, f"more than {self.max_bytes / 1e6:g} MB")
        if scope["path"].startswith("/api/"):
            origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site", "same-origin")
            if (origin is not None and urlsplit(origin).netloc.lower() != host.lower()) or site not in (
                "same-origin",
                "none",
            ):
                raise Refused(403, "only the page itself may call this")
            if self.token is not None:
                given = headers.get(b"authorization", "")
                if not hmac.compare_digest(given.encode(), f"Bearer {self.token}".encode()):
                    raise Refused(401, "a token is needed; it was printed at the start")

    def known_host(self, host: str) -> bool:
        """Whether a Host header names this server."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if name in self.hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self.token is not None

    def limited(self, scope, receive):
        """`receive` that refuses a body that is too large or too slow."""
        seen, deadline = 0, asyncio.get_running_loop().time() + BODY_SECONDS
        complete = False

        async def limited_receive():
            nonlocal seen, complete
            if complete:
                return await receive()
            left = deadline - asyncio.get_running_loop().time()
            try:
                message = await asyncio.wait_for(receive(), max(0.01, left))
            except asyncio.TimeoutError:
                raise Refused(408, f"the request took more than {BODY_SECONDS} s") from None
            seen += len(message.get("body", b""))
            if seen > self.max_bytes:
                raise Refused(413, f"more than {self.max_bytes / 1e6:g} MB")
            complete = not message.get("more_body", False)
            return message

        return limited_receive


def security_headers(page: str) -> list[tuple[bytes, bytes]]:
    """Headers for every answer; the policy lets the page's
    own inline script and style run and nothing else."""
    sources = {kind: _hashes(page, kind) for kind in ("script", "style")}
    policy = (
        f"default-src 'none'; script-src {sources['script']}; style-src {sources['style']}; connect-src 'self'; "
        "media-src blob:; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
        "Cache-Control": "no-store",
    }
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


def _hashes(page: str, kind: str) -> str:
    found = re.findall(rf"<{kind}>(.*?)</{kind}>", page, flags=re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in found)
    return " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
