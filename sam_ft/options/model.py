"""Options of loading a model and of its LoRA adapters."""

from dataclasses import dataclass

from ..utils.text import short_repr
from .keys import check_values, key
from .model_names import TINY


MAX_RANK = 4096


@dataclass
class ModelOptions:
    """
    Settings for loading a model. They do not change the format of saved checkpoints.

    Attributes:
        model_name_or_path (`str`): A Hub id, a folder, or a model of this package: `sam-ft/tiny` (SAM 3, 1.8 M
            parameters, trained on coloured shapes), `sam-ft/tiny-sam2` (SAM 2, 1.0 M parameters), or the untrained
            `sam-ft/random-tiny` and `sam-ft/random-tiny-sam2`.
        family (`str`, *optional*): Required family: `sam3` or `sam2`.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.
        dtype (`str`): Dtype of the encoder weights; all other modules are float32.
        attn_implementation (`str`, *optional*): `sdpa` or `eager`; SAM 2 also `flash_attention_2`.
        resolution (`int`, *optional*): Side of the square input in pixels. Default: that of the checkpoint.
        activation_checkpointing (`bool`): Gradient checkpointing of the encoder layers.
        dropout (`float`, *optional*): SAM 3: dropout behind the encoders. Default: that of the checkpoint.
        official_dropout (`bool`): SAM 3: add the drop-path and dropouts that Transformers' port lacks.
        with_masks (`bool`): SAM 3: train and predict masks, not boxes alone.
        pairs_per_chunk (`int`): SAM 3: (image, phrase) pairs decoded at once.
        pair_checkpointing (`bool`): SAM 3: gradient checkpointing of the modules behind the encoders.
        compile_vision (`bool` or `str`): SAM 3: compile the ViT layers; `auto`: in training, where it is faster.
        quantization (`str`, *optional*): SAM 3: `nf4`: linear layers of the encoders in 4 bits (Dettmers et al. 2023).
        objects_per_chunk (`int`): SAM 2: objects decoded at once.
        concepts (`list[str]`): SAM 3: folders or Hub ids of concepts to add to the model.
        allow_other_base (`bool`): Load an adapter onto a base with other weights than it was trained on.
        seed (`int`): Random seed of untrained weights and of the initial weights of adapters.
        load_weights (`bool`): Whether to read weights. Without them the model has the shapes of its config, for a
            prediction of memory on fake tensors.
    """

    model_name_or_path: str = key(
        TINY,
        "Model: Hub id (facebook/sam3), folder of a saved model or of a run, or a model of this package: sam-ft/tiny "
        "(1.8 M parameters, trained on coloured shapes) or sam-ft/random-tiny (the same with random weights).",
    )
    family: str | None = None
    revision: str | None = key(
        None, "Branch, tag or commit of the model on the Hub. Default: its main branch.", name="model_revision"
    )
    dtype: str = key(
        "float32",
        "Data type of the weights of the vision and text encoders; the other parts are in float32.",
        choices=("float32", "bfloat16"),
    )
    attn_implementation: str | None = key(
        None, "Attention implementation: sdpa or eager; SAM 2 also flash_attention_2. Default: chosen by Transformers."
    )
    resolution: int | None = key(
        None,
        "Side of the model's input in px, a multiple of its patch size (14 in SAM 3). Default: the checkpoint's, 1008 "
        "in SAM 3.",
        low=1,
    )
    activation_checkpointing: bool = key(
        False,
        "Gradient checkpointing of the ViT and text layers: about a third more time for a fraction of the memory.",
        name="vision_text_checkpointing",
    )
    dropout: float | None = key(
        None,
        "Dropout probability of the parts behind the encoders, 0 to 1. Default: the checkpoint's, 0.1 in SAM 3.",
        low=0,
        high=1,
    )
    official_dropout: bool = key(
        False, "Use the drop path and dropouts of the official training, which Transformers leaves out."
    )
    with_masks: bool = key(True, "Train and predict masks; if false, boxes only.", name="train_masks")
    pairs_per_chunk: int = key(
        4,
        "Number of (image, phrase) pairs that are processed at once, at least 1. It changes speed and memory, but no "
        "result.",
        low=1,
    )
    pair_checkpointing: bool = key(
        False,
        "Gradient checkpointing of the fusion encoder, decoder and pixel decoder: less memory for more time.",
    )
    compile_vision: bool | str = key(
        "auto",
        "Compile the ViT layers one by one with torch.compile: true, false, or auto: in training on a GPU with Triton "
        "and a C compiler, for batches of at least 4 images.",
    )
    quantization: str | None = key(
        None,
        "Quantization of the encoders' frozen weights: nf4 (4 bits). Needs `lora` and bitsandbytes. Default: none.",
        choices=("nf4",),
    )
    objects_per_chunk: int = key(
        8,
        "Number of objects that are processed at once, at least 1. It changes speed and memory, but no result.",
        low=1,
    )
    concepts: list[str] = key(
        [],
        "Concepts to add to the model: folders or Hub ids with concepts.safetensors and concepts.json. A phrase with "
        "a concept uses its tokens; `base:PHRASE` is the same phrase without.",
    )
    allow_other_base: bool = key(
        False,
        "Load an adapter onto a base model whose weights differ from the base on which it was trained; without it "
        "this is an error.",
    )
    seed: int = 0
    load_weights: bool = True

    def __post_init__(self) -> None:
        check_values(self)
        if self.compile_vision not in ("auto", True, False):
            raise ValueError(f"`compile_vision` must be auto, true or false, got {short_repr(self.compile_vision)}")
        if isinstance(self.concepts, str):
            raise ValueError(f"`concepts` is the string {self.concepts!r}. Pass a list: [{self.concepts!r}]")
        self.concepts = [str(name) for name in self.concepts]
        repeated = next((name for name in self.concepts if self.concepts.count(name) > 1), None)
        if repeated is not None:
            raise ValueError(f"`concepts` contains {repeated!r} twice. Remove one")


def is_rank(value) -> bool:
    """Return whether a value is an integer between 1 and `MAX_RANK`."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_RANK


@dataclass
class LoraOptions:
    """
    Settings of LoRA adapters.

    Attributes:
        target (`str`): A preset of the model's family, or a regex that matches whole module names.
        r (`int`): Rank (Hu et al. 2021).
        alpha (`float`): Scale; the update is multiplied by `alpha / r`.
        dropout (`float`): Dropout probability of the adapter inputs.
        rank_pattern (`dict[str, int]`): Module name or regex -> rank that replaces `r`.
        dora (`bool`): Decompose weights into magnitude and direction (Liu et al. 2024).
        rslora (`bool`): Scale by `alpha / √r` (Kalajdzievski 2023).
        modules_to_save (`list[str]`): Names, or ends of names, of modules that are trained and saved in full.
    """

    target: str
    r: int = key(
        16,
        f"LoRA rank, 1 to {MAX_RANK}; a higher rank has more capacity and takes more memory.",
        name="lora_r",
        low=1,
        high=MAX_RANK,
    )
    alpha: float = key(
        32.0,
        "LoRA scale, at least 0: adapter outputs are multiplied by `lora_alpha` / `lora_r`.",
        name="lora_alpha",
        low=0,
    )
    dropout: float = key(
        0.0, "Dropout probability before the adapters, 0 to 0.99.", name="lora_dropout", low=0, high=0.99
    )
    rank_pattern: dict = key(
        {},
        "LoRA rank of single modules, as {name or regex: rank}, such as {q_proj: 32}. Default: `lora_r` for all.",
        name="lora_rank_pattern",
    )
    dora: bool = key(
        False, "Use DoRA (separate magnitude and direction): slower, often better at a low rank.", name="lora_dora"
    )
    rslora: bool = key(
        False,
        "Use rsLoRA: adapter outputs are multiplied by `lora_alpha` / √`lora_r`, for high ranks.",
        name="lora_rslora",
    )
    modules_to_save: list[str] = key(
        [],
        "Modules that are trained and saved as full weights beside the adapters, such as dot_product_scoring or "
        "iou_prediction_head.",
        name="lora_modules_to_save",
    )

    def __post_init__(self) -> None:
        check_values(self)
        for pattern, rank in self.rank_pattern.items():
            if not isinstance(pattern, str) or not is_rank(rank):
                raise ValueError(
                    f"`lora_rank_pattern` maps {short_repr(pattern)} to {short_repr(rank)}. Map a module name "
                    f"or regex to an integer between 1 and {MAX_RANK}"
                )
