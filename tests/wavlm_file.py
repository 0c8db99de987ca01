"""Small random weights of WavLM under the names of transformers: for tests."""

import numpy as np

from gesture_jax.models.wavlm import WavLMConfig

TINY = WavLMConfig(
    conv_features=(8,) * 7,
    latent=32,
    feedforward=48,
    num_layers=2,
    num_heads=4,
    position_kernel=64,
    position_groups=4,
)
_ATTENTION = "encoder.layers.{}.attention"


def state_dict(seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays of a network of the sizes `TINY`, in PyTorch's layout."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, shape in _shapes().items():
        values = rng.standard_normal(shape, dtype=np.float32)
        if len(shape) == 1:
            values = (1.0 if "norm.weight" in name else 0.0) + 0.1 * values
        else:
            values /= np.sqrt(np.prod(shape[1:]))
        arrays[name] = values.astype(np.float32)
    return arrays


def _shapes() -> dict[str, tuple[int, ...]]:
    shapes = {}
    for index, kernel in enumerate((10, 3, 3, 3, 3, 2, 2)):
        conv = f"feature_extractor.conv_layers.{index}"
        shapes[f"{conv}.conv.weight"] = (8, 8 if index else 1, kernel)
        shapes |= {f"{conv}.layer_norm.{leaf}": (8,) for leaf in ("weight", "bias")}
    linear = {"feature_projection.projection": (32, 8)}
    norms = {"feature_projection.layer_norm": 8, "encoder.layer_norm": 32}
    for index in range(2):
        layer, attention = f"encoder.layers.{index}", _ATTENTION.format(index)
        linear |= {f"{attention}.{part}_proj": (32, 32) for part in ("k", "v", "q", "out")}
        linear[f"{attention}.gru_rel_pos_linear"] = (8, 8)
        linear[f"{layer}.feed_forward.intermediate_dense"] = (48, 32)
        linear[f"{layer}.feed_forward.output_dense"] = (32, 48)
        norms |= {f"{layer}.layer_norm": 32, f"{layer}.final_layer_norm": 32}
        shapes[f"{attention}.gru_rel_pos_const"] = (1, 4, 1, 1)
    shapes |= {f"{name}.weight": shape for name, shape in linear.items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in linear.items()}
    shapes |= {f"{name}.{leaf}": (size,) for name, size in norms.items() for leaf in _LEAVES}
    return shapes | {
        "encoder.layers.0.attention.rel_attn_embed.weight": (320, 4),
        "encoder.pos_conv_embed.conv.bias": (32,),
        "encoder.pos_conv_embed.conv.weight_g": (1, 1, 64),
        "encoder.pos_conv_embed.conv.weight_v": (32, 8, 64),
        "masked_spec_embed": (32,),
    }


_LEAVES = ("weight", "bias")


def near_sighted(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """With attention that falls with the distance and a strong convolution of positions.

    So are trained networks; in random ones attention is flat, and only the mean of all speech
    reaches a frame.
    """
    name = "encoder.layers.0.attention.rel_attn_embed.weight"
    bucket = np.arange(320) % 160
    frames = np.where(bucket < 80, bucket, 80 * 10 ** (bucket / 80 - 1))
    nearer = (arrays[name] - frames[:, None] / 50).astype(np.float32)
    scale = "encoder.pos_conv_embed.conv.weight_g"
    return arrays | {name: nearer, scale: 10 * arrays[scale]}


def microsoft(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same network under the names of Microsoft's release, each written out."""
    names = {
        "feature_projection.layer_norm.": "layer_norm.",
        "feature_projection.projection.": "post_extract_proj.",
        "encoder.pos_conv_embed.conv.": "encoder.pos_conv.0.",
        "masked_spec_embed": "mask_emb",
        "encoder.layer_norm.": "encoder.layer_norm.",
    }
    for index in range(7):
        conv = f"feature_extractor.conv_layers.{index}"
        names |= {f"{conv}.conv.": f"{conv}.0.", f"{conv}.layer_norm.": f"{conv}.2.1."}
    for index in range(2):
        layer, attention = f"encoder.layers.{index}", _ATTENTION.format(index)
        ours = f"{layer}.self_attn"
        names |= {f"{attention}.{p}_proj.": f"{ours}.{p}_proj." for p in ("k", "v", "q", "out")}
        names |= {
            f"{attention}.gru_rel_pos_linear.": f"{ours}.grep_linear.",
            f"{attention}.gru_rel_pos_const": f"{ours}.grep_a",
            f"{attention}.rel_attn_embed.": f"{ours}.relative_attention_bias.",
            f"{layer}.layer_norm.": f"{layer}.self_attn_layer_norm.",
            f"{layer}.feed_forward.intermediate_dense.": f"{layer}.fc1.",
            f"{layer}.feed_forward.output_dense.": f"{layer}.fc2.",
            f"{layer}.final_layer_norm.": f"{layer}.final_layer_norm.",
        }
    renamed = {}
    for name, array in arrays.items():
        (start,) = [start for start in names if name.startswith(start)]
        renamed[names[start] + name.removeprefix(start)] = array
    return renamed
