"""Static files, and logging in and out. Nothing here is fetched from another host."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web

from mlops.service.failures import Failures
from mlops.service.http import check_origin, decode, given_by, json_answer, read_body, refusal
from mlops.service.sessions import COOKIE, LIFE_S, Sessions
from mlops.service.tokens import NOTHING, KeysAway, Role, Tokens

STATIC: Final = Path(__file__).parent / "static"
KINDS: Final = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
LOGIN: Final = "/console/login"
LOGOUT: Final = "/console/logout"
ME: Final = "/console/me"


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /console/login`."""

    token: str


class Door:
    """What a browser may have before it has logged in, and how it does."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._files = _files()
        self.sessions = Sessions()
        self.failures = Failures()
        """Of the API and of the login together."""

    @property
    def public(self) -> frozenset[str]:
        """Paths that need no token; a viewer, who may change nothing, may log out."""
        return frozenset({LOGIN, LOGOUT, ME, *self._files})

    def routes(self) -> list[web.RouteDef]:
        """The handlers of the files, of the login and the logout, and of who looks."""
        files = [web.get(path, self._get_file) for path in self._files]
        return [
            *files,
            web.post(LOGIN, self._post_login),
            web.post(LOGOUT, self._post_logout),
            web.get(ME, self._get_me),
        ]

    async def _get_file(self, request: web.Request) -> web.Response:
        body, kind, tag = self._files[request.path]
        headers = {**HEADERS, "ETag": tag}
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        response = web.Response(body=body, content_type=kind, charset="utf-8", headers=headers)
        response.enable_compression()
        return response

    async def _post_login(self, request: web.Request) -> web.Response:
        check_origin(request)
        if (refused := self._too_often(request)) is not None:
            return refused
        token = decode(await read_body(request), Login).token.strip()
        try:
            grant = await self._tokens.grant_for(f"Bearer {token}")
        except KeysAway as error:
            return refusal(503, "unavailable", str(error))
        now_s = time.monotonic()
        if grant.role is Role.NOBODY:
            self.failures.note(request.remote or "", f"Bearer {token}", now_s)
            return refusal(401, "unauthorized", "this token is not known, or its last day is over")
        self.sessions.end(request.cookies.get(COOKIE, ""))  # whoever was logged in here before
        answer = json_answer({"ok": True})
        answer.set_cookie(
            COOKIE,
            self.sessions.begin(token, now_s),
            max_age=int(LIFE_S),
            httponly=True,
            samesite="Strict",
            secure=request.secure,
            path="/",
        )
        return answer

    async def _post_logout(self, request: web.Request) -> web.Response:
        check_origin(request)
        self.sessions.end(request.cookies.get(COOKIE, ""))
        answer = json_answer({"ok": True})
        answer.del_cookie(COOKIE, path="/")
        return answer

    async def _get_me(self, request: web.Request) -> web.Response:
        """Who looks; `nobody` is an answer too, so that asking is no error.

        A wrong token counts here as it does at the login: else this would be the place to guess.
        """
        if (refused := self._too_often(request)) is not None:
            return refused
        given = given_by(request, self.sessions, changes=False)
        try:
            grant = await self._tokens.grant_for(given)
        except KeysAway:
            grant = NOTHING
        else:
            if given and grant.role is Role.NOBODY:
                self.failures.note(request.remote or "", given, time.monotonic())
        return json_answer(
            {
                "role": grant.role.name.lower(),
                "name": grant.name,
                "routes": None if grant.routes is None else sorted(grant.routes),
                "open": self._tokens.is_open,
            }
        )

    def _too_often(self, request: web.Request) -> web.Response | None:
        """The refusal of an address that came with too many wrong tokens."""
        wait_s = self.failures.wait_s(request.remote or "", time.monotonic())
        if not wait_s:
            return None
        return refusal(
            429,
            "too_many_failures",
            "too many wrong tokens; wait a minute",
            headers={"Retry-After": str(math.ceil(wait_s))},
        )


def _files() -> Mapping[str, tuple[bytes, str, str]]:
    """By path: content, type, and a tag that changes with it."""
    found = {}
    for file in sorted(STATIC.iterdir()):
        body = file.read_bytes()
        tag = f'"{blake2b(body, digest_size=8).hexdigest()}"'
        path = "/" if file.name == "index.html" else f"/console/{file.name}"
        found[path] = (body, KINDS[file.suffix], tag)
    return found
