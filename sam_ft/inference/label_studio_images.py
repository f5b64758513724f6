"""Images of Label Studio's tasks: files below a document root, and downloads from the server with its token."""

from pathlib import Path

import httpx

from ..utils.text import short_repr
from .label_studio_client import LabelStudioClient


_LOCAL_FILES = "/data/local-files/"
_MAX_BYTES = 512 * 2**20


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

    Attributes:
        client (`LabelStudioClient`): Client of the server.

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
        self.client = LabelStudioClient(server, token)
        self._server = self.client.server
        self._root = None if document_root is None else Path(document_root).resolve()
        self._hosts = {host.lower() for host in image_hosts or ()}

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
            return self.client.download(url, _MAX_BYTES, with_token=with_token)
        except httpx.HTTPError as error:
            raise ValueError(f"the image {short_repr(str(url))} cannot be downloaded ({error})") from error


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
