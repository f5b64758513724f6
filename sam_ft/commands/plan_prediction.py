"""Prediction of memory and time of a run on a card that need not be there, by a step on fake tensors."""

import contextlib
import copy
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from PIL import Image
from torch.utils._pytree import tree_leaves
from transformers import PreTrainedConfig

from ..data.loading import PhraseData
from ..data.row_schema import to_dataset
from ..data.samples.sample import Sample, SamplePhrase
from ..models.families import FAMILIES, PACKAGE_MODEL_NAMES, get_resolution
from ..models.family_spec import resolve
from ..models.freezing import count_parameters
from ..models.model_files import add_model_to_errors, check_exists, detect_family, find_adapter_file, find_concept_info
from ..models.unwrapping import unwrap_sam
from ..planning.cards import Card
from ..planning.roofline import HOST_SECONDS_PER_KERNEL
from ..planning.simulation import StepRecorder, simulate
from ..training.feature_cache import STORED_DTYPE, check_frozen_encoder
from .build import load_to_train
from .build_concepts import add_concepts_of_run
from .key_conversion import list_distillation_phrases, to_model_options
from .plan_measurement import CONTEXT_MEMORY, HEADROOM
from .run import Run
from .run_family import get_family_of_run


logger = logging.getLogger("sam_ft.run")

_BLOCK = 256  # values of an 8-bit optimizer state that share a scale
_MIN_8BIT = 4096  # values; smaller states stay in float32


@dataclass(frozen=True)
class StepContent:
    """
    Content of the images of a predicted step.

    Attributes:
        phrases (`int`): Phrases per image; the first half of them is present.
        objects (`int`): Objects per image, shared among the present phrases.
    """

    phrases: int = 8
    objects: int = 8

    @property
    def present(self) -> int:
        """Number of phrases with objects."""
        return min((self.phrases + 1) // 2, self.objects)


@dataclass
class StepPrediction:
    """
    Predicted memory in bytes and time in seconds of a step.

    Attributes:
        step_peak (`int`): Peak of the allocated memory.
        weights (`int`): Memory of parameters and buffers on the card.
        gradients (`int`): Memory of the gradients.
        optimizer (`int`): Memory of the optimizer states.
        side (`int`): Side of the model's input in px.
        kernels (`float`): Kernels per image, as the two below.
        flops (`float`): Floating-point operations per image.
        moved (`float`): Bytes read and written per image.
        kernel_seconds (`float`): Time of the kernels per image by the roofline; 0 for a card without rates.
        trained (`dict[str, tuple[int, int]]`): Number of (trained, all) parameters by part.
    """

    step_peak: int
    weights: int
    gradients: int
    optimizer: int
    side: int
    kernels: float
    flops: float
    moved: float
    kernel_seconds: float
    trained: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def activations(self) -> int:
        """Memory of a step beyond weights, gradients and optimizer states."""
        return self.step_peak - self.weights - self.gradients - self.optimizer

    @property
    def needed(self) -> int:
        """Memory that the step takes on the card, with fragmentation and the CUDA context."""
        return int(self.step_peak * HEADROOM) + CONTEXT_MEMORY

    @property
    def host_seconds(self) -> float:
        """Time per image in which the host launches the kernels."""
        return self.kernels * HOST_SECONDS_PER_KERNEL

    @property
    def step(self) -> float:
        """Time per image: that of the kernels, or of the host that launches them one after another."""
        return max(self.kernel_seconds, self.host_seconds)


def predict(
    run: Run, card: Card, content: StepContent, *, with_bf16: bool, with_cuda_kernels: bool = True
) -> StepPrediction:
    """
    Predict memory and time of a run's step from its code, on fake tensors: no weights, data or GPU are needed.

    The second micro-batch of a window is run, which finds gradients and optimizer states in memory, then clipping and
    the update.

    Args:
        run (`Run`): Keys of the run, with training arguments for the CPU.
        card (`Card`): Card whose rates give the time.
        content (`StepContent`): Phrases and objects of each image.
        with_bf16 (`bool`): Whether the step runs under bf16 autocast, which arguments for the CPU do not have.
        with_cuda_kernels (`bool`): Choose kernels as CUDA does; `False` predicts a step on a CPU.

    Raises:
        ValueError: If the run itself would raise it, or its optimizer cannot be predicted.
    """
    args = copy.deepcopy(run.training)
    window = args.gradient_accumulation_steps
    args.check_optimizer()
    if args.get_optimizer_name() == "adamw_torch":  # its update reads the step count, a tensor without memory
        raise ValueError(
            "`optim` is 'adamw_torch', whose update cannot be predicted. Leave `optim` out: the default is the fused "
            "AdamW, with the same result"
        )
    with tempfile.TemporaryDirectory() as folder, _quiet():
        args.reduce_to_dry_run(f"{folder}/run")
        args.gradient_accumulation_steps, args.disable_tqdm = window, True
        args.metric_for_best_model = None  # there are no evaluation images
        options = _find_config(to_model_options(run.model, args.seed), Path(folder))
        data = _build_data(content)
        with_tf32 = args.tf32 is not False  # `None` on a machine without TF32
        with simulate(card, with_cuda_kernels=with_cuda_kernels, with_tf32=with_tf32) as recorder:
            model = load_to_train(run.model, options)
            processor = get_family_of_run(run).build_tiny_processor()
            add_concepts_of_run(model, processor, data, run.model, args.seed)
            trained = count_parameters(unwrap_sam(model))
            trainer = _build_trainer(replace(run, training=args), model, processor, data, recorder)
            found = _run_step(trainer, _build_samples(trainer, run, content), recorder, with_bf16)
    return replace(found, trained=trained)


def _find_config(options, folder: Path):
    """Return options that name a folder with the model's config alone, and no weights; packaged names stay."""
    options, family = replace(options, load_weights=False), FAMILIES[options.family]
    name = options.model_name_or_path
    if name in PACKAGE_MODEL_NAMES:
        return options
    if name == family.example:
        config = family.config_class()  # its defaults are the architecture of the published model
    else:
        check_exists(name)
        if find_adapter_file(name, options.revision) or find_concept_info(name, options.revision):
            raise ValueError(
                f"`model_name_or_path`: {name!r} is an adapter or contains concepts. Pass its base model, such as "
                f"{family.example}, to predict memory; `lora` or `concept_tokens` of the run are counted"
            )
        detect_family(name, options.revision, options.family)
        with add_model_to_errors(name):
            config: PreTrainedConfig = family.config_class.from_pretrained(name, revision=options.revision)
    config.save_pretrained(folder)
    return replace(options, model_name_or_path=str(folder), revision=None)


def _build_data(content: StepContent) -> PhraseData:
    """Build one row with the phrases of a step; its image is not read."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, format="PNG")
    texts = [f"phrase {number}" for number in range(content.phrases)]
    instance = {"bbox": [1.0, 1.0, 4.0, 4.0], "segmentation": None, "area": 16.0, "is_crowd": False}
    phrases = [
        {"text": text, "instances": [number] if number < content.present else [], "exhaustive": True}
        for number, text in enumerate(texts)
    ]
    image = {"bytes": file.getvalue(), "path": None}
    row = {"example_id": "predicted", "image": image, "width": 8, "height": 8, "phrases": phrases}
    rows = to_dataset([row | {"instances": [instance] * content.present}])
    ids = {text: number for number, text in enumerate(texts, 1)}
    return PhraseData(rows, rows, ids, {}, [], [])


def _build_trainer(run: Run, model, processor, data: PhraseData, recorder: StepRecorder):
    """Build the trainer of a run; cached encoders are offloaded without computing features."""
    family, sam = get_family_of_run(run), unwrap_sam(model)
    if run.data.feature_cache:
        check_frozen_encoder(sam)
        sam.offload(*sam.offloaded_when_cached)
    data_args = replace(run.data, feature_cache=None, cache_views=1)
    trainer = resolve(family.build_trainer)(model, processor, data, data_args, run.loss, run.training)
    with sam.restore_offloaded() as offloaded:
        for module in offloaded.values():
            recorder.leave_out((*module.parameters(), *module.buffers()))
    return trainer


def _build_samples(trainer, run: Run, content: StepContent) -> list[Sample]:
    """Build the samples of a micro-batch."""
    sam = unwrap_sam(trainer.model)
    side = get_resolution(sam.config)
    members = [list(range(number, content.objects, content.present)) for number in range(content.present)]
    phrases = [
        SamplePhrase(f"phrase {number}", members[number] if number < content.present else [], [], True, True)
        for number in range(content.phrases)
    ]
    texts = list_distillation_phrases(run.loss)[: run.loss.distill_per_image]
    features = None
    if run.data.feature_cache:
        trunk = sam.config.vision_config.backbone_config
        cells = side // trunk.patch_size
        features = torch.zeros(cells, cells, trunk.hidden_size, dtype=STORED_DTYPE)
    return [
        Sample(
            example_id=f"predicted-{number}",
            original_size=(side, side),
            image=None if features is not None else torch.zeros(3, side, side, dtype=torch.uint8),
            boxes=torch.full((content.objects, 4), 0.5),
            masks=torch.zeros(content.objects, side, side, dtype=torch.bool) if sam.with_masks else None,
            has_mask=[sam.with_masks] * content.objects,
            instances=list(range(content.objects)),
            features=features,
            phrases=phrases,
            distill_phrases=[SamplePhrase(text, [], [], False, True) for text in texts],
        )
        for number in range(trainer.args.per_device_train_batch_size)
    ]


def _run_step(trainer, samples: list[Sample], recorder: StepRecorder, with_bf16: bool) -> StepPrediction:
    """Run a micro-batch, clipping and the update, with gradients and optimizer states in memory."""
    model, window = trainer.model, trainer.args.gradient_accumulation_steps
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    weights = recorder.live
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    gradients = recorder.live - weights
    update, states = _build_optimizer(trainer, trained)
    optimizer = recorder.live - weights - gradients
    if window == 1:
        model.zero_grad()
    batch = trainer.data_collator(samples)
    recorder.track(tensor for tensor in tree_leaves(batch) if isinstance(tensor, torch.Tensor))
    (batch,), counts = trainer.get_batch_samples(iter([batch]), 1, torch.device("cpu"))
    trainer.current_gradient_accumulation_steps = window
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=with_bf16)
    model.forward = autocast(model.forward)  # as Accelerate does: the backward pass runs outside
    recorder.reset()
    trainer.training_step(model, batch, counts)
    images = len(samples)
    per_image = [
        recorder.kernels / images,
        recorder.flops / images,
        recorder.moved / images,
        recorder.seconds / images,
    ]
    peak = recorder.peak
    recorder.reset()
    if trainer.args.max_grad_norm:
        trainer.accelerator.clip_grad_norm_(trained, trainer.args.max_grad_norm)
    update()
    update_counts = recorder.kernels, recorder.flops, recorder.moved, recorder.seconds
    per_image = [total + once / (images * window) for total, once in zip(per_image, update_counts, strict=True)]
    del states
    side = get_resolution(unwrap_sam(model).config)
    return StepPrediction(max(peak, recorder.peak), weights, gradients, optimizer, side, *per_image)


def _build_optimizer(trainer, trained: list[torch.nn.Parameter]):
    """Return the update of a run's optimizer, and its states; those of bitsandbytes have their size alone."""
    if "8bit" in trainer.args.get_optimizer_name():
        return lambda: None, [state for parameter in trained for state in _build_8bit_states(parameter)]
    optimizer = trainer.create_optimizer()
    optimizer.step()
    return optimizer.step, optimizer


def _build_8bit_states(parameter: torch.nn.Parameter) -> Iterator[torch.Tensor]:
    size = parameter.numel()
    for _ in range(2):
        if size < _MIN_8BIT:
            yield torch.zeros(size)
        else:
            yield torch.zeros(size, dtype=torch.uint8)
            yield torch.zeros(-(-size // _BLOCK))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence Trainer, which prints to the standard output, notes about the data, and warnings of Transformers."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logger.setLevel(level)
