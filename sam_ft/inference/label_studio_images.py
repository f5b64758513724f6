"""Images of Label Studio's tasks: files below a document root, and downloads from the server with its token."""

import re
import threading
import time
from pathlib import Path

import httpx

from ..utils.text import short_repr


_LOCAL_FILES = "/data/local-files/"
_TIMEOUT_S = 30
_ACCESS_TOKEN_S = 120  # Label Studio's access tokens expire after five minutes
_MAX_BYTES = 512 * 2**20
_PERSONAL_TOKEN = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+")  # a JSON web token; a legacy token has no dots


class TaskImages:
    """
    Images of tasks.

    Local files are read below `document_root`, if there is one. Everything else is downloaded from `server`, with the
    token, and from `image_hosts`, without it; other hosts are refused, because the data of a task is untrusted.

    Args:
        server (`str`): URL of Label Studio.
        token (`str`, *optional*): Access token of Label Studio, personal or legacy.
        document_root (`str` or `Path`, *optional*): Value of LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT.
        image_hosts (`list[str]`, *optional*): Other hosts, with the port if it is not the default one.

    Raises:
        `ValueError`: If the URL is not valid.
    """

    def __init__(
        self,
        server: str,
        token: str | None = None,
        document_root: str | Path | None = None,
        image_hosts: list[str] | None = None,
    ):
        self._server, self._token = parse_server_url(server), token
        self._root = None if document_root is None else Path(document_root).resolve()
        self._hosts = {host.lower() for host in image_hosts or ()}
        self._client = httpx.Client(timeout=_TIMEOUT_S, follow_redirects=True)
        self._lock, self._access, self._access_time = threading.Lock(), "", 0.0

    def load(self, reference: str) -> Path | bytes:
        """
        Return the file of an image, or its content.

        Args:
            reference (`str`): Value of the image in the data of a task: a local file, an upload or a URL.

        Raises:
            `ValueError`: If the file does not exist or lies outside the document root, the host is not allowed, or the
                download fails.
        """
        try:
            url = httpx.URL(reference)
            if not url.scheme:  # a path on the server
                url = self._server.join(reference.lstrip("/"))
        except httpx.InvalidURL as error:
            raise ValueError(f"the image {short_repr(reference)} is not a valid URL ({error})") from error
        is_on_server = _origin(url) == _origin(self._server)
        if is_on_server and self._root is not None and url.path.endswith(_LOCAL_FILES):
            return self._find_local_file(reference, url.params.get("d", ""))
        is_allowed = url.scheme in ("http", "https") and url.netloc.decode("ascii") in self._hosts
        if not is_on_server and not is_allowed:
            raise ValueError(
                f"the image {short_repr(reference)} is neither on {self._server} nor on a host of `image_hosts`. Add "
                "its host to `image_hosts`, or import the image into Label Studio"
            )
        return self._download(url, is_on_server)

    def _find_local_file(self, reference: str, path: str) -> Path:
        try:
            file = (self._root / path).resolve()  # links are followed, so that they cannot lead outside
        except (OSError, ValueError) as error:
            raise ValueError(f"the image {short_repr(reference)} has no valid path ({error})") from error
        if not file.is_relative_to(self._root):
            raise ValueError(f"the image {short_repr(reference)} lies outside `document_root`")
        if not file.is_file():
            raise ValueError(
                f"the image {short_repr(reference)} does not exist below `document_root`. Set `document_root` to the "
                "value of LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"
            )
        return file

    def _download(self, url: httpx.URL, with_token: bool) -> bytes:
        try:
            headers = self._authorize() if with_token and self._token else {}
            with self._client.stream("GET", url, headers=headers) as response:
                _check_status(response, with_token)
                content = bytearray()
                for chunk in response.iter_bytes():
                    content += chunk
                    if len(content) > _MAX_BYTES:
                        raise ValueError(f"the image {short_repr(str(url))} has more than {_MAX_BYTES >> 20} MiB")
        except httpx.HTTPError as error:
            raise ValueError(f"the image {short_repr(str(url))} cannot be downloaded ({error})") from error
        return bytes(content)

    def _authorize(self) -> dict[str, str]:
        """Return the header of the token; a personal token is exchanged for an access token."""
        if not _PERSONAL_TOKEN.fullmatch(self._token):
            return {"Authorization": f"Token {self._token}"}
        with self._lock:
            if not self._access or time.monotonic() - self._access_time > _ACCESS_TOKEN_S:
                response = self._client.post(self._server.join("api/token/refresh"), json={"refresh": self._token})
                _check_status(response, with_token=True)
                try:
                    self._access, self._access_time = str(response.json()["access"]), time.monotonic()
                except (ValueError, KeyError, TypeError) as error:
                    raise ValueError(
                        f"`label_studio`: {self._server} does not respond as Label Studio does"
                    ) from error
            return {"Authorization": f"Bearer {self._access}"}


def parse_server_url(text: str) -> httpx.URL:
    """
    Parse the URL of Label Studio.

    Raises:
        `ValueError`: If it is not an http or https URL.
    """
    try:
        url = httpx.URL(text.rstrip("/") + "/")
    except httpx.InvalidURL as error:
        raise ValueError(f"`label_studio`: {text!r} is not a valid URL ({error})") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"`label_studio` must be a URL such as http://localhost:8080, got {text!r}")
    return url


def _check_status(response: httpx.Response, with_token: bool) -> None:
    if with_token and response.status_code in (401, 403):
        raise ValueError(
            f"`label_studio_api_key` is missing or not valid: {short_repr(str(response.url))} responds with the "
            f"status {response.status_code}. Copy the token from the account settings of Label Studio"
        )
    response.raise_for_status()


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
