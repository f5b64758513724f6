"""Keys of the backend of Label Studio."""

from typing import ClassVar

from ..options.keys import get_default, get_keys, key
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
        "Folder of local files, the value of LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT; files outside it are refused. "
        "Default: local files are downloaded from Label Studio, too.",
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
    train_project: int | None = key(
        None,
        "Id of the project of Label Studio whose annotations train the model that is served. Default: no training.",
        low=1,
    )
    train_config: str = key(
        "sam3_concepts",
        "YAML file of the trainings, or the name of a packaged one; model, data and output folder are set by the "
        "backend.",
    )
    train_after: int = key(
        10,
        "Number of new or changed annotations of `train_project` after which a training starts; 0: trainings start on "
        "request alone.",
        low=0,
    )
    train_dir: str = key(
        "out/label-studio",
        "Folder of the trainings: exports, images and tuned models. The model of the last one is served after a "
        "restart.",
    )
    device: str | None = key(
        None, "Device of the model: cuda, cuda:1, mps or cpu. Default: the accelerator if there is one, else cpu."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("train_config", "train_after", "train_dir"):
            if self.train_project is None and getattr(self, name) != get_default(get_keys(type(self))[name]):
                raise ValueError(
                    f"`{name}` is {getattr(self, name)!r}, but `train_project` is not set, so there is no training. "
                    f"Set `train_project`, or leave `{name}` out"
                )
