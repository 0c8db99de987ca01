"""Loads WavLM-Large from a user's file of weights, without PyTorch."""

import itertools
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gesture_jax.errors import InputError
from gesture_jax.models.wavlm import WavLM, WavLMConfig
from gesture_jax.pretrained import torch_checkpoint, torch_names, torch_weights
from gesture_jax.storage import safetensors
from gesture_jax.storage.files import as_path

_PREFIX = "wavlm."
_ENDINGS = (".safetensors", ".pt", ".pth", ".bin")


def load(path: str | os.PathLike) -> tuple[WavLM, dict[str, Any]]:
    """Returns the network and its parameters.

    Args:
      path: a `.safetensors` or PyTorch file (`.pt`, `.pth`, `.bin`) with the names of transformers
        or of Microsoft's release. The sizes of the network, WavLM-Large or a smaller one of the
        same structure, are inferred from the shapes.

    Raises:
      InputError: where the file is missing, damaged or not of this structure.
    """
    path = as_path(path)
    if path.suffix.lower() not in _ENDINGS:
        raise InputError(f"{path}: weights of WavLM end in one of {', '.join(_ENDINGS)}")
    is_safe = path.suffix.lower() == ".safetensors"
    state_dict = safetensors.read(path) if is_safe else torch_checkpoint.read_checkpoint(path)
    try:
        config, params = wavlm_params(state_dict)
    except InputError as error:
        raise InputError(f"{path}: {error}; give WavLM-Large") from error
    return WavLM(config), params


def wavlm_params(state_dict: Mapping[str, np.ndarray]) -> tuple[WavLMConfig, dict[str, Any]]:
    """Returns the sizes and the parameters from a state dict.

    Where some names begin with "wavlm.", the others belong to a head on top and are ignored.

    Raises:
      InputError: naming the arrays that are missing, left over or misshapen.
    """
    inner = {
        name.removeprefix(_PREFIX): array
        for name, array in state_dict.items()
        if name.startswith(_PREFIX)
    }
    state_dict = inner or dict(state_dict)
    spell = torch_names.wavlm_spelling(state_dict)
    config = _infer_config({name: array.shape for name, array in state_dict.items()}, spell)
    table = torch_names.wavlm_table(config.num_layers, conv_bias=config.conv_bias)
    # The embedding of masked frames is used in training only; some files lack it.
    state_dict.pop(spell("masked_spec_embed"), None)
    abstract = jax.eval_shape(
        WavLM(config).init,
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, config.receptive_field), jnp.float32),
    )
    spelt = {spell(name): targets for name, targets in table.items()}
    return config, torch_weights.place(state_dict, spelt, abstract)["params"]


def _infer_config(
    shapes: Mapping[str, tuple[int, ...]], spell: Callable[[str], str]
) -> WavLMConfig:
    """Infers the sizes from the shapes.

    Where an array is missing, the size is WavLM-Large's; `torch_weights.place` will name the array.
    """
    usual = WavLMConfig()

    def size(name: str, axis: int, default: int) -> int:
        shape = shapes.get(spell(name), ())
        return shape[axis] if len(shape) > axis and shape[axis] else default

    layers = itertools.takewhile(
        lambda index: spell(f"encoder.layers.{index}.final_layer_norm.weight") in shapes,
        itertools.count(),
    )
    latent = size("feature_projection.projection.weight", 0, usual.latent)
    num_heads = size("encoder.layers.0.attention.gru_rel_pos_const", 1, usual.num_heads)
    group = size("encoder.pos_conv_embed.conv.weight_v", 1, latent // usual.position_groups)
    if latent % num_heads or latent % max(group, 1):
        raise InputError(
            f"not the weights of this network: {num_heads} heads or groups of {group} channels do "
            f"not divide its width of {latent}"
        )
    return WavLMConfig(
        conv_features=tuple(
            size(f"feature_extractor.conv_layers.{index}.conv.weight", 0, features)
            for index, features in enumerate(usual.conv_features)
        ),
        conv_bias=spell("feature_extractor.conv_layers.0.conv.bias") in shapes,
        latent=latent,
        feedforward=size(
            "encoder.layers.0.feed_forward.intermediate_dense.weight", 0, usual.feedforward
        ),
        num_layers=sum(1 for _ in layers) or usual.num_layers,
        num_heads=num_heads,
        position_kernel=size("encoder.pos_conv_embed.conv.weight_v", 2, usual.position_kernel),
        position_groups=latent // max(group, 1),
        num_buckets=size("encoder.layers.0.attention.rel_attn_embed.weight", 0, usual.num_buckets),
    )
