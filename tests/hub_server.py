"""Local server with the part of the Hub's HTTP API that pushes and loads of models and data sets need."""

import base64
import hashlib
import json
import re
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


USER, TOKEN = "someone", "hf_loopback"


class HubServer:
    """
    Context manager that runs the server.

    Attributes:
        url (`str`): Endpoint.
        repos (`dict[str, dict[str, bytes]]`): Files by path of each repository; of a data set by `datasets/OWNER/NAME`.
        query_token (`str`, *optional*): Value of `?token=…` without which files are refused.
        ranges (`list[tuple[str, int]]`): Path and number of bytes of each request of a part of a file.
        commits (`dict[str, list[str]]`): Messages of the commits of each repository.
    """

    def __enter__(self):
        self.repos: dict[str, dict[str, bytes]] = {}
        self.query_token: str | None = None
        self.ranges: list[tuple[str, int]] = []
        self.private: dict[str, bool] = {}
        self.commits: dict[str, list[str]] = defaultdict(list)
        self.history: dict[str, list[dict[str, bytes]]] = defaultdict(list)
        self.objects: dict[str, bytes] = {}
        hub = self

        class Handler(_Handler):
            server_state = hub

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def environment(self, cache) -> dict[str, str]:
        """Return the environment variables with which a process uses this server as the Hub, with an empty cache."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(cache),
            "HF_TOKEN": TOKEN,
            "NO_PROXY": "127.0.0.1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }

    def head(self, repo: str) -> str:
        return hashlib.sha1(f"{repo} {len(self.commits[repo])}".encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: HubServer

    def log_message(self, *_):
        pass

    def respond(self, status: int, content=b"", **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def may_write(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def do_PUT(self):
        oid, content = self.path.rsplit("/", 1)[-1], self.body()
        assert hashlib.sha256(content).hexdigest() == oid
        self.server_state.objects[oid] = content
        self.respond(200)

    def do_POST(self):
        hub, path, content = self.server_state, urlsplit(self.path).path, self.body()
        if not self.may_write():
            return self.respond(401, {"error": "Invalid username or password."})
        if match := re.fullmatch(r"/api/(datasets/[^/]+/[^/]+)/paths-info/[^/]+", path):
            paths = parse_qs(content.decode())["paths"] if b"paths=" in content else json.loads(content)["paths"]
            entries = self.entries(match[1])
            return self.respond(200, [entry for entry in entries if entry["path"] in paths])
        if path == "/api/repos/create":
            request = json.loads(content)
            repo = f"{request.get('organization') or USER}/{request['name']}"
            if not repo.startswith(f"{USER}/"):
                return self.respond(403, {"error": "You don't have the rights to create a model under this namespace"})
            if request.get("type") == "dataset":
                repo = f"datasets/{repo}"
            if repo in hub.repos:
                return self.respond(409, {"url": f"{hub.url}/{repo}", "error": "You already created this model repo"})
            hub.repos[repo], hub.private[repo] = (
                {},
                bool(request.get("private")) or request.get("visibility") == "private",
            )
            return self.respond(200, {"url": f"{hub.url}/{repo}", "name": repo})
        if path == "/api/validate-yaml":
            base = re.search(r"^base_model: (.+)$", json.loads(content)["content"], re.MULTILINE)
            if base and not re.fullmatch(r"[\w.-]+/[\w.-]+", base[1]):
                error = {"message": f'"base_model" with value "{base[1]}" is not valid'}
                return self.respond(400, {"errors": [error], "warnings": [], "error": error["message"]})
            return self.respond(200, {"errors": [], "warnings": []})
        if match := re.fullmatch(r"/api/(?:models|datasets)/(.+?)/preupload/main", path):
            files = [
                {"path": f["path"], "uploadMode": "lfs" if f["size"] > 10_000 else "regular", "shouldIgnore": False}
                for f in json.loads(content)["files"]
            ]
            return self.respond(200, {"files": files})
        if re.fullmatch(r"/.+\.git/info/lfs/objects/batch", path):
            objects = [
                {**blob, "actions": {"upload": {"href": f"{hub.url}/lfs/{blob['oid']}"}}}
                for blob in json.loads(content)["objects"]
            ]
            return self.respond(
                200, {"transfer": "basic", "objects": objects}, Content_Type="application/vnd.git-lfs+json"
            )
        if match := re.fullmatch(r"/api/(?:models/)?((?:datasets/)?.+?)/commit/main", path):
            return self.commit(match[1], [json.loads(line) for line in content.splitlines() if line])
        return self.respond(404, {"error": path})

    def commit(self, repo: str, operations: list[dict]):
        hub = self.server_state
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "header":
                hub.commits[repo].append(value["summary"])
            elif operation["key"] == "file":
                hub.repos[repo][value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "deletedFile":
                hub.repos[repo].pop(value["path"], None)
            elif operation["key"] == "lfsFile":
                hub.repos[repo][value["path"]] = hub.objects[value["oid"]]
        hub.history[repo].append(dict(hub.repos[repo]))
        oid = hub.head(repo)
        self.respond(200, {"success": True, "commitOid": oid, "commitUrl": f"{hub.url}/{repo}/commit/{oid}"})

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        if path == "/api/whoami-v2":
            return self.respond(200, {"name": USER, "type": "user", "orgs": []})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/[^/]+)?", path):
            return self.info(match[1])
        if match := re.fullmatch(r"/api/(datasets/[^/]+/[^/]+)(/revision/[^/]+)?", path):
            return self.info(match[1])
        if match := re.fullmatch(r"/api/(?:models/)?((?:datasets/)?[^/]+/[^/]+)/tree/[^/]+/?(.*)", path):
            is_deep = "recursive=true" in urlsplit(self.path).query or "recursive" not in self.path
            entries = self.entries(match[1], match[2], is_deep)
            return (
                self.respond(200, entries)
                if entries or not match[2]
                else self.respond(404, {"error": "none"}, X_Error_Code="EntryNotFound")
            )
        if match := re.fullmatch(r"/((?:datasets/)?[^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            return self.file(match[1], match[2])
        return self.respond(404, {"error": path})

    def entries(self, repo: str, folder: str = "", is_deep: bool = True) -> list[dict]:
        """Describe the files below a folder of a repository, or its files and folders."""
        begin, entries = len(folder) + bool(folder), {}
        for path, content in self.server_state.repos.get(repo, {}).items():
            if not path.startswith(f"{folder}/" * bool(folder)):
                continue
            oid, name = hashlib.sha1(content).hexdigest(), path[begin:].partition("/")[0]
            if is_deep or name == path[begin:]:
                entries[path] = {"type": "file", "path": path, "size": len(content), "oid": oid}
            else:
                child = path[:begin] + name
                entries[child] = {"type": "directory", "path": child, "oid": oid}
        return list(entries.values())

    def info(self, repo: str):
        hub = self.server_state
        if repo not in hub.repos:
            return self.respond(404, {"error": "Repository not match"}, X_Error_Code="RepoNotFound")
        siblings = [{"rfilename": name} for name in hub.repos[repo]]
        self.respond(
            200,
            {
                "id": repo,
                "modelId": repo,
                "sha": hub.head(repo),
                "siblings": siblings,
                "tags": [],
                "private": hub.private.get(repo, False),
            },
        )

    def file(self, repo: str, name: str):
        files = self.server_state.repos.get(repo)
        if files is None:
            return self.respond(404, {"error": "Repository not match"}, X_Error_Code="RepoNotFound")
        if name not in files:
            return self.respond(404, {"error": "Entry not match"}, X_Error_Code="EntryNotFound")
        if self.server_state.query_token not in (None, *parse_qs(urlsplit(self.path).query).get("token", ())):
            return self.respond(403, {"error": "Forbidden"})
        etag = hashlib.sha256(files[name]).hexdigest()
        headers = {"ETag": f'"{etag}"', "X_Repo_Commit": self.server_state.head(repo), "Accept_Ranges": "bytes"}
        if not (part := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))):
            return self.respond(200, files[name], **headers)
        begin, end = int(part[1]), min(int(part[2] or len(files[name])) + 1, len(files[name]))
        self.server_state.ranges.append((name, end - begin))
        headers["Content_Range"] = f"bytes {begin}-{end - 1}/{len(files[name])}"
        self.respond(206, files[name][begin:end], **headers)
