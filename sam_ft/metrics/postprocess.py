"""Post-processing of predictions to detections at the original image size."""

from collections.abc import Callable, Hashable, Iterator

import numpy as np
import torch

from ..ops.masks import encode_mask, mask_box_xywh
from ..ops.run_lengths import compress_run_ends, find_run_ends


PIXELS_PER_BLOCK = 2**24  # of the masks that are resized together, or one mask: 64 MiB of float32
VALUES_PER_TRANSFER = 2**23  # 32 MiB of int32, after which waiting detections are moved early


class DetectionTransfer:
    """
    Transfer of the predictions of several pairs from the device to the host at once.

    Masks are resized bilinearly, thresholded at a probability of 0.5 and encoded on their device, so that only scores,
    boxes and the ends of the masks' runs are moved.

    Args:
        receive (`Callable`): Called as `receive(key, presence, detections)` for each pair in the order of [`add`], see
            [`to_detections`].
    """

    def __init__(self, receive: Callable[[Hashable, float, list[dict]], None]):
        self.receive = receive
        self._waiting: list[tuple] = []
        self._tensors: list[torch.Tensor] = []
        self._num_values = 0

    def add(
        self,
        key: Hashable,
        presence: torch.Tensor,
        scores: torch.Tensor,
        boxes_xyxy: torch.Tensor,
        masks: torch.Tensor | None,
        size: tuple[int, int],
    ) -> None:
        """
        Add the predictions of a pair.

        Args:
            key (`Hashable`): Identifier of the pair.
            presence (`torch.Tensor`, scalar): Probability that the phrase is in the image.
            scores (`torch.Tensor` of shape `(n,)`): Scores, in `[0, 1]`.
            boxes_xyxy (`torch.Tensor` of shape `(n, 4)`): Normalised `(x1, y1, x2, y2)`.
            masks (`torch.Tensor` of shape `(n, h, w)` or `None`): Mask logits.
            size (`tuple[int, int]`): Height and width of the image, px.
        """
        device, blocks = boxes_xyxy.device, []
        numbers = (presence.reshape(1), scores, boxes_xyxy.flatten())
        tensors = [torch.cat([part.to(device).float() for part in numbers]).view(torch.int32)]
        for block in resize_masks(masks, *size) if masks is not None and len(masks) else ():
            ends = find_run_ends(block)
            blocks.append((len(block), len(ends)))
            tensors.append(ends.int())
        self._waiting.append((key, len(scores), None if masks is None else blocks, size))
        self._tensors += tensors
        self._num_values += sum(map(len, tensors))
        if self._num_values > VALUES_PER_TRANSFER:
            self.flush()

    def flush(self) -> None:
        """Move the waiting predictions, and pass each pair's to `receive`."""
        if not self._waiting:
            return
        values, start = torch.cat(self._tensors).cpu().numpy(), 0
        waiting, self._waiting, self._tensors, self._num_values = self._waiting, [], [], 0
        for key, number, blocks, (height, width) in waiting:
            numbers = values[start : start + 1 + 5 * number].view(np.float32)
            start += len(numbers)
            corners = numbers[1 + number :].reshape(-1, 4) * np.array([width, height, width, height], np.float32)
            detections = [
                {"score": score, "bbox": [x1, y1, x2 - x1, y2 - y1]}
                for score, (x1, y1, x2, y2) in zip(numbers[1 : 1 + number].tolist(), corners.tolist(), strict=True)
            ]
            counts = []
            for num_masks, num_ends in blocks or ():
                counts += compress_run_ends(values[start : start + num_ends], num_masks, height, width)
                start += num_ends
            for detection, text in zip(detections, counts, strict=blocks is not None):
                detection["segmentation"] = {"size": [height, width], "counts": text}
            self.receive(key, float(numbers[0]), detections)


def to_detections(
    scores: torch.Tensor, boxes_xyxy: torch.Tensor, masks: torch.Tensor | None, height: int, width: int
) -> list[dict]:
    """
    Convert one pair's predictions to detections at the original image size.

    Masks are resized bilinearly and thresholded at a probability of 0.5.

    Args:
        scores (`torch.Tensor` of shape `(n,)`): Scores, in `[0, 1]`.
        boxes_xyxy (`torch.Tensor` of shape `(n, 4)`): Normalised `(x1, y1, x2, y2)`.
        masks (`torch.Tensor` of shape `(n, h, w)` or `None`): Mask logits.
        height (`int`): Height of the image, px.
        width (`int`): Width of the image, px.

    Returns:
        `list[dict]`: `score`, `bbox` `[x, y, w, h]` in px and, with masks, `segmentation`, a COCO RLE.

    Source:
        `PostProcessImage` of `sam3/eval/postprocessors.py`.
    """
    received = []
    transfer = DetectionTransfer(lambda _key, _presence, detections: received.append(detections))
    transfer.add(None, torch.zeros(()), scores, boxes_xyxy, masks, (height, width))
    transfer.flush()
    return received[0]


def resize_masks(logits: torch.Tensor, height: int, width: int) -> Iterator[torch.Tensor]:
    """
    Resize mask logits bilinearly to the image size and threshold them at 0, in blocks of `PIXELS_PER_BLOCK`.

    Args:
        logits (`torch.Tensor` of shape `(n, h, w)`): Mask logits.
        height (`int`): Height of the image, px.
        width (`int`): Width of the image, px.

    Yields:
        `torch.Tensor` of shape `(block, height, width)`: Bool masks on the device of the logits.
    """
    for block in logits.split(max(PIXELS_PER_BLOCK // (height * width), 1)):
        full = torch.nn.functional.interpolate(
            block.float()[:, None], (height, width), mode="bilinear", align_corners=False
        )
        yield full[:, 0] > 0


def masks_at(logits: torch.Tensor, height: int, width: int) -> np.ndarray:
    """
    Resize mask logits to the image size and move them to the host; arguments as in [`resize_masks`].

    Returns:
        `np.ndarray` of shape `(n, height, width)`: Bool masks.
    """
    return np.concatenate([block.cpu().numpy() for block in resize_masks(logits, height, width)])


def prompted_detection(mask: np.ndarray, predicted_iou: float) -> dict:
    """
    Convert SAM 2's prediction for one prompt to a detection as of [`to_detections`].

    The score is `(1 + predicted IoU) / 2`: each prompt has a prediction, so each detection must reach the score
    threshold of 0.5, ranked by predicted IoU.

    Args:
        mask (`np.ndarray` of shape `(height, width)`): Bool mask at the original image size.
        predicted_iou (`float`): Predicted IoU, in `[0, 1]`.

    Returns:
        `dict`: `score`, `bbox`, `segmentation` and `predicted_iou`.
    """
    counts, size = encode_mask(mask), list(mask.shape)
    box = mask_box_xywh(counts, *size)
    mask_and_box = {"bbox": box, "segmentation": {"size": size, "counts": counts}}
    return {"score": (1 + predicted_iou) / 2, "predicted_iou": predicted_iou, **mask_and_box}
