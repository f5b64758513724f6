"""Client of Label Studio's API: requests with the access token, and the annotated tasks of a project."""

import re
import threading
import time

import httpx

from ..utils.text import short_repr


_TIMEOUT_S = 30
_EXPORT_TIMEOUT_S = 600  # Label Studio collects all annotations of a project before it responds
_ACCESS_TOKEN_S = 120  # Label Studio's access tokens expire after five minutes
_PERSONAL_TOKEN = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+")  # a JSON web token; a legacy token has no dots


class LabelStudioClient:
    """
    Client of one Label Studio. The token is sent to this server alone.

    Args:
        server (`str`): URL of Label Studio.
        token (`str`, *optional*): Access token, personal or legacy.

    Attributes:
        server (`httpx.URL`): URL of Label Studio, which ends with a slash.

    Raises:
        `ValueError`: If the URL is not valid.
    """

    def __init__(self, server: str, token: str | None = None):
        self.server, self._token = _parse_server_url(server), token
        self._client = httpx.Client(timeout=_TIMEOUT_S, follow_redirects=True)
        self._lock, self._access, self._access_time = threading.Lock(), "", 0.0

    def download(self, url: httpx.URL, max_bytes: int, *, with_token: bool) -> bytes:
        """
        Download a file.

        Args:
            url (`httpx.URL`): Its URL.
            max_bytes (`int`): Maximum size.
            with_token (`bool`): Whether to send the token; for URLs on `server` alone.

        Raises:
            `ValueError`: If the token is refused, or the file is too large.
            `httpx.HTTPError`: If the download fails.
        """
        headers = self._authorize() if with_token else {}
        with self._client.stream("GET", url, headers=headers) as response:
            _check_status(response, with_token)
            content = bytearray()
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) > max_bytes:
                    raise ValueError(f"{short_repr(str(url))} has more than {max_bytes >> 20} MiB")
        return bytes(content)

    def load_project(self, project: int) -> dict:
        """
        Load a project.

        Args:
            project (`int`): Its id.

        Returns:
            `dict`: Its fields, such as `title` and `label_config`.

        Raises:
            `ValueError`: If the server cannot be reached, refuses the token, or has no such project.
        """
        content = self._get(f"api/projects/{project}/", project)
        if not isinstance(content, dict):
            raise self._unexpected_response()
        return content

    def export_tasks(self, project: int) -> list[dict]:
        """
        Export the annotated tasks of a project.

        Args:
            project (`int`): Its id.

        Returns:
            `list[dict]`: Tasks with `data` and `annotations`.

        Raises:
            `ValueError`: As in [`load_project`].
        """
        content = self._get(f"api/projects/{project}/export?exportType=JSON", project, timeout=_EXPORT_TIMEOUT_S)
        if not isinstance(content, list) or not all(isinstance(task, dict) for task in content):
            raise self._unexpected_response()
        return content

    def _get(self, path: str, project: int, timeout: float = _TIMEOUT_S):
        try:
            response = self._client.get(self.server.join(path), headers=self._authorize(), timeout=timeout)
            if response.status_code == 404:
                raise ValueError(
                    f"`train_project`: {self.server} has no project {project} that the token may read. Its id is in "
                    "the address of the project's page: /projects/ID"
                )
            _check_status(response, with_token=True)
        except httpx.HTTPError as error:
            raise ValueError(
                f"`label_studio`: {self.server} cannot be used ({error}). Start Label Studio, or correct the URL"
            ) from error
        try:
            return response.json()
        except ValueError as error:
            raise self._unexpected_response() from error

    def _authorize(self) -> dict[str, str]:
        """Return the header of the token; a personal token is exchanged for an access token."""
        if not self._token:
            return {}
        if not _PERSONAL_TOKEN.fullmatch(self._token):
            return {"Authorization": f"Token {self._token}"}
        with self._lock:
            if not self._access or time.monotonic() - self._access_time > _ACCESS_TOKEN_S:
                response = self._client.post(self.server.join("api/token/refresh"), json={"refresh": self._token})
                _check_status(response, with_token=True)
                try:
                    self._access, self._access_time = str(response.json()["access"]), time.monotonic()
                except (ValueError, KeyError, TypeError) as error:
                    raise self._unexpected_response() from error
            return {"Authorization": f"Bearer {self._access}"}

    def _unexpected_response(self) -> ValueError:
        return ValueError(f"`label_studio`: {self.server} does not respond as Label Studio does")


def _parse_server_url(text: str) -> httpx.URL:
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
