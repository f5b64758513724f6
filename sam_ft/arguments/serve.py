"""Keys of the backend of Label Studio."""

from typing import ClassVar

from ..options.keys import key
from ..options.prediction import PredictOptions
from .base import Keys, with_keys_of


@with_keys_of(PredictOptions, leave_out=("exemplar_method",))
class ServeArguments(Keys):
    """Label Studio, images, network address, thresholds and tiling of the backend."""

    key_topic: ClassVar[str] = "Backend of Label Studio"
    options_class: ClassVar[type] = PredictOptions

    label_studio: str = key(
        "http://localhost:8080", "URL of Label Studio, from which the images of its tasks are downloaded."
    )
    label_studio_api_key: str | None = key(
        None,
        "Access token of Label Studio, which is sent to `label_studio` alone. Default: the environment variable "
        "LABEL_STUDIO_API_KEY.",
    )
    document_root: str | None = key(
        None,
        "Folder of local files, the value of LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT: they are read from it, and no "
        "file outside. Default: local files are downloaded, too.",
    )
    image_hosts: list[str] = key(
        [],
        "Other hosts from which images may be downloaded, such as images.example.com or localhost:9000. The token is "
        "not sent to them.",
    )
    host: str = key("127.0.0.1", "Network address of the backend; 0.0.0.0 makes it reachable from other machines.")
    port: int = key(9090, "Network port of the backend, 0 to 65535; 0 chooses a free one.", low=0, high=65535)
    server_user: str = key("sam-ft", "User of the basic authentication, with `server_password`.")
    server_password: str | None = key(
        None,
        "Password of the basic authentication, which Label Studio must send. Default: the environment variable "
        "SAM_FT_SERVER_PASSWORD, or no authentication.",
    )
    device: str | None = key(
        None, "Device of the model: cuda, cuda:1, mps or cpu. Default: the accelerator if there is one, else cpu."
    )
