"""Official dropouts: active in training only, with the official rates."""

import torch

from sam_ft.testing import random_batch, tiny_sam3


PAIRS = [(0, "red circle", 2), (1, "square", 1)]


def test_official_dropout_is_active_in_training_only():
    batch = random_batch(PAIRS)
    plain, dropped = tiny_sam3().eval(), tiny_sam3(official_dropout=True).eval()
    with torch.no_grad():
        torch.testing.assert_close(dropped(**batch).loss, plain(**batch).loss, rtol=1e-5, atol=0)
        dropped.train()
        losses = {round(dropped(**batch).loss.item(), 4) for _ in range(3)}
    assert len(losses) == 3


def test_drop_path_drops_whole_images_and_preserves_the_mean():
    model = tiny_sam3(official_dropout=True).train()
    layer = model.vision_encoder.backbone.layers[-1]  # the full rate of 0.1
    before = layer.mlp.fc2(torch.ones(64, 8, 8, layer.mlp.fc2.in_features))
    handles = list(layer.mlp._forward_hooks.values())
    assert len(handles) == 1
    torch.manual_seed(0)
    after = torch.stack([handles[0](layer.mlp, None, before) for _ in range(50)])
    factors = (after / before).flatten(2)
    per_image = factors[..., :1]
    torch.testing.assert_close(factors, per_image.expand_as(factors), rtol=1e-4, atol=1e-4)
    keep_rate = (per_image > 0).float().mean()
    assert abs(keep_rate - 0.9) < 0.02  # 3,200 draws: a standard error of 0.005
    assert (per_image[per_image > 0] - 1 / 0.9).abs().max() < 1e-4


def test_windows_of_an_image_share_one_draw():
    model = tiny_sam3(official_dropout=True).train()
    layers = model.vision_encoder.backbone.layers
    layer = next(layer for layer in layers if layer.window_size and layer is not layers[0])
    hook = next(iter(layer.attention._forward_hooks.values()))
    layer._forward_pre_hooks[next(iter(layer._forward_pre_hooks))](layer, (torch.zeros(6, 8, 8, 96),))
    hidden = torch.ones(6 * 4, 4, 4, 96)  # six images, four windows each
    patterns = set()
    for _ in range(60):
        dropped, _ = hook(layer.attention, None, (hidden, None))
        images = dropped.view(6, -1)
        assert (images == images[:, :1]).all()
        patterns.add(tuple((images[:, 0] > 0).tolist()))
    assert len(patterns) > 1
