"""Trackers on 127.0.0.1 that speak as much of each documented API as `replay ticket` uses, and keep what they get."""

from __future__ import annotations

import base64
import email.parser
import email.policy
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "s3cr3t-t0ken"


@dataclass
class Request:
    """What arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = field(repr=False)

    def json(self) -> Any:
        return json.loads(self.body)

    def form(self) -> dict[str, str]:
        return dict(urllib.parse.parse_qsl(self.body.decode()))

    def file(self) -> tuple[str, bytes]:
        """The one file of a multipart form, parsed by the standard library's mail parser."""
        head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode()
        [part] = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + self.body).iter_parts()
        assert part.get_param("name", header="content-disposition") == "file"
        return str(part.get_filename()), part.get_payload(decode=True)


Answer = tuple[int, dict[str, str], bytes]


def answer(data: Any, status: int = 200, **headers: str) -> Answer:
    """JSON."""
    return status, {"content-type": "application/json", **headers}, json.dumps(data).encode()


class Tracker:
    """One server. `faults` are answered before the honest ones; a callable may do as it likes to the connection."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.faults: list[Any] = []
        self.url = ""
        self.lock = threading.Lock()

    def respond(self, request: Request) -> Answer:
        raise NotImplementedError

    @contextmanager
    def running(self) -> Iterator[Tracker]:
        tracker = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                parts = urllib.parse.urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.command, parts.path, dict(urllib.parse.parse_qsl(parts.query)), headers, body)
                with tracker.lock:
                    tracker.requests.append(request)
                    fault = tracker.faults.pop(0) if tracker.faults else None
                    if callable(fault):
                        fault(self)
                        return
                    status, headers, body = fault or tracker.respond(request)
                self.close_connection = True
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.send_header("connection", "close")
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_PATCH = handle_any

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class GitHub(Tracker):
    """github:acme/line#7."""

    address, base = "github:acme/line#7", ""
    private = True

    def __init__(self) -> None:
        super().__init__()
        self.comments: list[dict[str, Any]] = []

    def respond(self, request: Request) -> Answer:
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        comments = "/repos/acme/line/issues/7/comments"
        match request.method, request.path:
            case "GET", "/user":
                return answer({"id": 1, "login": "bot"})
            case "GET", "/repos/acme/line":
                return answer({"private": self.private})
            case "GET", path if path == comments:
                size, page = int(request.query["per_page"]), int(request.query["page"])
                return answer(self.comments[(page - 1) * size : page * size])
            case "POST", path if path == comments:
                return answer(self.add(request.json()["body"], 1), 201)
            case "PATCH", path if match := re.fullmatch(r"/repos/acme/line/issues/comments/(\d+)", path):
                comment = next(each for each in self.comments if each["id"] == int(match[1]))
                comment["body"] = request.json()["body"]
                return answer(comment)
        return answer({"message": "Not Found"}, 404)

    def add(self, body: str, user: int) -> dict[str, Any]:
        number = len(self.comments) + 1
        comment = {
            "id": number,
            "body": body,
            "user": {"id": user, "type": "User"},
            "html_url": f"{self.url}/c/{number}",
        }
        self.comments.append(comment)
        return comment

    def texts(self) -> list[str]:
        return [each["body"] for each in self.comments if each["user"]["id"] == 1]


class GitLab(Tracker):
    """gitlab:acme/vision/line#7."""

    address, base = "gitlab:acme/vision/line#7", ""
    visibility = "private"

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[dict[str, Any]] = []
        self.files: list[tuple[str, bytes]] = []

    def respond(self, request: Request) -> Answer:
        assert request.headers["private-token"] == TOKEN
        project = "/api/v4/projects/acme%2Fvision%2Fline"
        notes = f"{project}/issues/7/notes"
        match request.method, request.path:
            case "GET", "/api/v4/user":
                return answer({"id": 1, "username": "bot"})
            case "GET", path if path == project:
                return answer({"visibility": self.visibility})
            case "GET", path if path == notes:
                size, page = int(request.query["per_page"]), int(request.query["page"])
                return answer(self.notes[(page - 1) * size : page * size])
            case "POST", path if path == notes:
                return answer(self.add(request.json()["body"], 1), 201)
            case "PUT", path if path.startswith(f"{notes}/"):
                note = next(each for each in self.notes if each["id"] == int(path.rpartition("/")[2]))
                note["body"] = request.json()["body"]
                return answer(note)
            case "POST", path if path == f"{project}/uploads":
                self.files.append(request.file())
                url = f"/uploads/{len(self.files):032x}/{self.files[-1][0]}"
                return answer({"id": 5, "url": url, "markdown": "[ignored](x)"}, 201)
        return answer({"message": "404 Not Found"}, 404)

    def add(self, body: str, user: int) -> dict[str, Any]:
        note = {"id": len(self.notes) + 100, "body": body, "author": {"id": user}}
        self.notes.append(note)
        return note

    def texts(self) -> list[str]:
        return [each["body"] for each in self.notes if each["author"]["id"] == 1]


class Jira(Tracker):
    """jira:LINE-7."""

    address, base = "jira:LINE-7", ""
    api, account = "/rest/api/3", "accountId"
    limit = 10**9

    def __init__(self) -> None:
        super().__init__()
        self.comments: list[dict[str, Any]] = []
        self.attachments: list[dict[str, Any]] = []
        self.files: list[tuple[str, bytes]] = []

    def respond(self, request: Request) -> Answer:
        self.check(request.headers["authorization"])
        issue = f"{self.api}/issue/LINE-7"
        match request.method, request.path:
            case "GET", path if path == f"{self.api}/myself":
                return answer({self.account: "me"})
            case "GET", path if path == f"{self.api}/attachment/meta":
                return answer({"enabled": True, "uploadLimit": self.limit})
            case "GET", path if path == issue:
                return answer({"fields": {"attachment": self.attachments}})
            case "GET", path if path == f"{issue}/comment":
                start, most = int(request.query["startAt"]), int(request.query["maxResults"])
                return answer({"comments": self.comments[start : start + most], "total": len(self.comments)})
            case "POST", path if path == f"{issue}/comment":
                return answer(self.add(request.json()["body"], "me"), 201)
            case "PUT", path if path.startswith(f"{issue}/comment/"):
                comment = next(each for each in self.comments if each["id"] == path.rpartition("/")[2])
                comment["body"] = request.json()["body"]
                return answer(comment)
            case "POST", path if path == f"{issue}/attachments":
                assert request.headers["x-atlassian-token"] == "no-check"
                name, data = request.file()
                self.files.append((name, data))
                number = len(self.files)
                content = f"{self.url}{self.api}/attachment/content/{number}"
                described = {"id": str(number), "filename": name, "size": len(data), "content": content}
                self.attachments.append({**described, "author": {self.account: "me"}})
                return answer(self.attachments[-1:])
        return answer({"errorMessages": ["Issue does not exist or you do not have permission to see it."]}, 404)

    def check(self, authorization: str) -> None:
        assert base64.b64decode(authorization.removeprefix("Basic ")).decode() == f"me@acme:{TOKEN}"

    def add(self, body: Any, user: str) -> dict[str, Any]:
        comment = {"id": str(10000 + len(self.comments)), "body": body, "author": {self.account: user}}
        self.comments.append(comment)
        return comment

    def texts(self) -> list[str]:
        bodies = [each["body"] for each in self.comments if each["author"][self.account] == "me"]
        return [body if isinstance(body, str) else json.dumps(body, ensure_ascii=False) for body in bodies]


class JiraServer(Jira):
    """jira-server:LINE-7, Data Center."""

    address, base = "jira-server:LINE-7", "/jira"
    api, account = "/jira/rest/api/2", "key"

    def check(self, authorization: str) -> None:
        assert authorization == f"Bearer {TOKEN}"


class Slack(Tracker):
    """slack:#line."""

    address, base = "slack:#line", "/api"

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[dict[str, Any]] = []
        self.files: list[tuple[str, bytes]] = []
        self.pending: dict[str, tuple[str, int]] = {}
        self.upload_host = ""

    def respond(self, request: Request) -> Answer:
        if match := re.fullmatch(r"/upload/(F\d+)", request.path):
            name, length = self.pending[match[1]]
            assert len(request.body) == length
            self.files.append((name, request.body))
            return 200, {}, b"OK - 1"
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        form = request.form() if "urlencoded" in request.headers["content-type"] else request.json()
        return answer(self.method(request.path.removeprefix("/api/"), form))

    def method(self, name: str, form: dict[str, Any]) -> dict[str, Any]:
        more: dict[str, Any] = {}
        match name:
            case "auth.test":
                more = {"user_id": "U1"}
            case "conversations.list":
                second = form.get("cursor") == "two"
                more = {
                    "channels": [{"id": "C123456", "name": "line"} if second else {"id": "C999999", "name": "other"}]
                }
                more["response_metadata"] = {"next_cursor": "" if second else "two"}
            case "conversations.history":
                assert form["channel"] == "C123456"
                more = {"messages": [each for each in reversed(self.messages) if not each.get("thread_ts")]}
            case "conversations.replies":
                more = {
                    "messages": [each for each in self.messages if form["ts"] in (each["ts"], each.get("thread_ts"))]
                }
            case "chat.postMessage":
                more = {"ts": self.add(form, "U1")["ts"], "channel": "C123456"}
            case "chat.update":
                message = next(each for each in self.messages if each["ts"] == form["ts"])
                message.update(form)
                more = {"ts": form["ts"]}
            case "files.getUploadURLExternal":
                number = f"F{len(self.pending)}"
                self.pending[number] = (form["filename"], int(form["length"]))
                more = {"upload_url": f"{self.upload_host or self.url}/upload/{number}", "file_id": number}
            case "files.completeUploadExternal":
                listed = [self.pending[each["id"]] for each in json.loads(form["files"])]
                files = [{"name": name, "size": size} for name, size in listed]
                self.add({"thread_ts": form["thread_ts"], "files": files}, "U1")
            case _:
                return {"ok": False, "error": "unknown_method"}
        return {"ok": True, **more}

    def add(self, message: dict[str, Any], user: str) -> dict[str, Any]:
        message = {**message, "ts": f"17000000.{len(self.messages):06d}", "user": user}
        self.messages.append(message)
        return message

    def texts(self) -> list[str]:
        ours = [each for each in self.messages if each["user"] == "U1" and "blocks" in each]
        return [json.dumps(each["blocks"], ensure_ascii=False) for each in ours]


class Webhook(Tracker):
    """webhook:http://127.0.0.1/…"""

    base = ""

    @property
    def address(self) -> str:
        return f"webhook:{self.url}/hooks/vision?team=a"

    def respond(self, request: Request) -> Answer:
        return 204, {}, b""

    def texts(self) -> list[str]:
        return [json.dumps(each.json(), ensure_ascii=False) for each in self.requests]
