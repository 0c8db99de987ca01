"""Tables from the names of arrays in PyTorch state dicts to their places in our variables."""

import functools
import re
from collections.abc import Callable, Collection
from typing import NamedTuple

import numpy as np


class Target(NamedTuple):
    """A place in our variables, and the function that changes an array's layout for it."""

    collection: str
    path: tuple[str, ...]
    layout: Callable[[np.ndarray], np.ndarray] = np.asarray


# From the name of a PyTorch array to its places in our variables: none where we do not use it.
Table = dict[str, tuple[Target, ...]]

_NUM_WAVLM_CONVS = 7
# Substitutions from the names of WavLM in transformers to those in fairseq, applied in this order.
_FAIRSEQ = (
    (r"(conv_layers\.\d+)\.conv\.", r"\1.0."),
    (r"(conv_layers\.\d+)\.layer_norm\.", r"\1.2.1."),
    (r"^feature_projection\.layer_norm", "layer_norm"),
    (r"^feature_projection\.projection", "post_extract_proj"),
    (r"^masked_spec_embed", "mask_emb"),
    (r"pos_conv_embed\.conv", "pos_conv.0"),
    (r"(\.layers\.\d+)\.layer_norm", r"\1.self_attn_layer_norm"),
    (r"feed_forward\.intermediate_dense", "fc1"),
    (r"feed_forward\.output_dense", "fc2"),
    (r"\.attention\.", ".self_attn."),
    (r"gru_rel_pos_linear", "grep_linear"),
    (r"gru_rel_pos_const", "grep_a"),
    (r"rel_attn_embed", "relative_attention_bias"),
)
_WEIGHT_NORM = (
    (r"\.weight_g$", ".parametrizations.weight.original0"),
    (r"\.weight_v$", ".parametrizations.weight.original1"),
)


def deviation_table() -> Table:
    """Maps the 651 arrays of the paper's released stage 1 to the default `DeviationModel`."""
    return {
        **_extractor_table(),
        **_source_table(),
        **_warping_table(),
        **_decoder_table(),
    }


def denoiser_table(num_layers: int = 8, num_speech_layers: int = 2) -> Table:
    """Maps S2G-MDDiffusion's 238 arrays to a `MotionDenoiser` with one prior frame."""
    table = {
        "null_cond_embed": (Target("params", ("null_tokens",)),),
        "null_cond_hidden": (Target("params", ("null_hidden",)),),
        **_linear("time_mlp.1", "time_in"),
        **_linear("to_time_cond.0", "time_hidden"),
        **_linear("to_time_tokens.0", "time_tokens"),
        **_norm("norm_cond", "memory_norm"),
        **_linear("input_projection", "motion_in"),
        **_linear("cond_projection", "speech_in"),
        **_norm("non_attn_cond_projection.0", "hidden_norm"),
        **_linear("non_attn_cond_projection.1", "hidden_in"),
        **_linear("non_attn_cond_projection.3", "hidden_out"),
        **_linear("final_layer", "motion_out"),
    }
    for index in range(num_speech_layers):
        theirs, ours = f"cond_encoder.{index}", f"speech_layer_{index}"
        table |= _attention(f"{theirs}.self_attn", f"{ours}/self_attention")
        table |= _feedforward(theirs, ours, norms=("self_norm", "feedforward_norm"))
    for index in range(num_layers):
        theirs, ours = f"seqTransDecoder.stack.{index}", f"layer_{index}"
        table |= _attention(f"{theirs}.self_attn", f"{ours}/self_attention")
        table |= _attention(f"{theirs}.multihead_attn", f"{ours}/speech_attention")
        norms = ("self_norm", "speech_norm", "feedforward_norm")
        table |= _feedforward(theirs, ours, norms=norms)
        for number, name in enumerate(("self", "speech", "feedforward"), start=1):
            table |= _linear(f"{theirs}.film{number}.block.1", f"{ours}/{name}_film")
    return table


def vgg16_table() -> Table:
    """Maps the 37 arrays of shift-tolerant LPIPS on VGG-16 to `VGG` and the `heads` of ST-LPIPS.

    Our code has the blur and the scaling layer as constants.
    """
    table: Table = {f"scaling_layer.{name}": () for name in ("shift", "scale")}
    layer = 0
    for block, count in enumerate((2, 2, 3, 3, 3), start=1):
        if block > 1:
            table[f"net.slice{block}.{layer + 1}.filt"] = ()
            layer += 2
        for number in range(1, count + 1):
            table |= _conv(f"net.slice{block}.{layer}", f"conv{block}_{number}")
            layer += 2
        head = Target("heads", (f"block{block}",), np.ravel)
        table[f"lin{block - 1}.model.1.weight"] = (head,)
    return table


def vgg19_table() -> Table:
    """Maps the arrays of torchvision's VGG-19 up to relu5_1 to `VGG`."""
    table: Table = {}
    layer = 0
    for block, (count, used) in enumerate(((2, 2), (2, 2), (4, 4), (4, 4), (4, 1)), start=1):
        for number in range(1, used + 1):
            table |= _conv(f"features.{layer + 2 * (number - 1)}", f"conv{block}_{number}")
        layer += 2 * count + 1
    return table


def lpips_table() -> Table:
    """Maps the arrays of torchvision's AlexNet up to relu5, and LPIPS's `heads`, to `AlexNet`."""
    table: Table = {}
    for block, layer in enumerate((0, 3, 6, 8, 10), start=1):
        table |= _conv(f"features.{layer}", f"conv{block}")
        head = Target("heads", (f"block{block}",), np.ravel)
        table[f"lin{block - 1}.model.1.weight"] = (head,)
    return table


def syncnet_table() -> Table:
    """Maps the arrays of SyncNet's authors to `SyncNet`, without the batch norms' counts."""
    table: Table = {}
    for theirs, ours in (("lip", "video"), ("aud", "audio")):
        # PyTorch also counts activations and max pooling.
        for index, layer in enumerate((0, 4, 8, 11, 14, 18)):
            name = f"netcnn{theirs}.{layer}"
            kernel = _target(f"{ours}/conv{index}", "kernel", _stack_frames)
            table |= {
                **_conv(name, f"{ours}/conv{index}"),
                f"{name}.weight": (kernel,),
                **_batch_norm(f"netcnn{theirs}.{layer + 1}", f"{ours}/norm{index}"),
            }
        table |= _linear(f"netfc{theirs}.0", f"{ours}/hidden")
        table |= _batch_norm(f"netfc{theirs}.1", f"{ours}/hidden_norm")
        table |= _linear(f"netfc{theirs}.3", f"{ours}/embedding")
    return {name: t for name, t in table.items() if not name.endswith(".num_batches_tracked")}


def _stack_frames(kernel: np.ndarray) -> np.ndarray:
    """From (out, in, [frames], rows, columns) to (rows, columns, frames * in, out)."""
    kernel = kernel.reshape(*kernel.shape[:2], -1, *kernel.shape[-2:])
    out, _, _, rows, columns = kernel.shape
    return kernel.transpose(3, 4, 2, 1, 0).reshape(rows, columns, -1, out)


def wavlm_table(num_layers: int = 24, *, conv_bias: bool = False) -> Table:
    """Maps the arrays of transformers' `WavLMModel` (487 in WavLM-Large) to `WavLM`."""
    table: Table = {}
    for index in range(_NUM_WAVLM_CONVS):
        theirs = f"feature_extractor.conv_layers.{index}"
        # Reversing the axes leads from (out, in, samples) to (samples, in, out).
        convolution = _linear(f"{theirs}.conv", f"conv{index}")
        if not conv_bias:
            del convolution[f"{theirs}.conv.bias"]
        table |= convolution | _norm(f"{theirs}.layer_norm", f"conv{index}_norm")
    positions = "encoder.pos_conv_embed.conv"
    table |= {
        **_norm("feature_projection.layer_norm", "in_norm"),
        **_linear("feature_projection.projection", "in"),
        f"{positions}.weight_g": (_target("position_conv", "scale", _squeeze(0, 1)),),
        f"{positions}.weight_v": (_target("position_conv", "direction", np.transpose),),
        f"{positions}.bias": (_target("position_conv", "bias"),),
        "encoder.layers.0.attention.rel_attn_embed.weight": (Target("params", ("position_bias",)),),
        **_norm("encoder.layer_norm", "out_norm"),
    }
    for index in range(num_layers):
        table |= _wavlm_layer(f"encoder.layers.{index}", f"layer_{index}")
    return table


def wavlm_spelling(names: Collection[str]) -> Callable[[str], str]:
    """Returns a function from a name in `wavlm_table` to its spelling in a file with these names.

    Microsoft's release uses fairseq's names; newer versions of PyTorch name a normalised weight
    differently.
    """
    changes = _WEIGHT_NORM if any(".parametrizations." in name for name in names) else ()
    if "post_extract_proj.weight" in names:
        changes = (*_FAIRSEQ, *changes)

    def spell(name: str) -> str:
        for pattern, replacement in changes:
            name = re.sub(pattern, replacement, name)
        return name

    return spell


def _wavlm_layer(theirs: str, ours: str) -> Table:
    attention = f"{theirs}.attention"
    places = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "out"}
    table = _linear(f"{attention}.gru_rel_pos_linear", f"{ours}/attention/gates")
    for name, place in places.items():
        table |= _linear(f"{attention}.{name}", f"{ours}/attention/{place}")
    weight = _target(f"{ours}/attention", "gate_weight", _squeeze(0, 2, 3))
    return {
        **table,
        f"{attention}.gru_rel_pos_const": (weight,),
        **_norm(f"{theirs}.layer_norm", f"{ours}/attention_norm"),
        **_linear(f"{theirs}.feed_forward.intermediate_dense", f"{ours}/feedforward_in"),
        **_linear(f"{theirs}.feed_forward.output_dense", f"{ours}/feedforward_out"),
        **_norm(f"{theirs}.final_layer_norm", f"{ours}/feedforward_norm"),
    }


def _extractor_table() -> Table:
    table = _conv("pose_base.conv1", "extractor/stem_conv")
    table |= _batch_norm("pose_base.norm1", "extractor/stem_norm")
    blocks = [
        [f"block1.b1_{i}" for i in range(3)],
        ["block2", *(f"block3.b3_{i}" for i in range(3))],
        ["block4", *(f"block5.b5_{i}" for i in range(5))],
    ]
    for stage, names in enumerate(blocks):
        table |= _conv(f"pose_base.conv{stage + 2}", f"extractor/stage{stage}_conv")
        table |= _batch_norm(f"pose_base.norm{stage + 2}", f"extractor/stage{stage}_norm")
        for index, name in enumerate(names):
            ours = f"extractor/stage{stage}_block{index}"
            strided = stage > 0 and index == 0
            table |= _bottleneck(f"pose_base.{name}", ours, strided=strided)
    # The reference's head called roll yields yaw, and the other way round.
    for theirs, ours in {"pitch": "pitch", "roll": "yaw", "yaw": "roll"}.items():
        table |= _conv(f"pose_base.fc_{theirs}_down8", f"extractor/{ours}_head")
    return table | _conv("pose_base.fc_t_down8.0", "extractor/translation_head")


def _source_table() -> Table:
    table = _conv_block("generator.first", "source_encoder/first")
    for level in range(3):
        table |= _conv_block(f"generator.down_blocks.{level}", f"source_encoder/down{level}")
    for index in range(4):
        table |= _res_block(f"generator.res_ms.{index}", f"source_encoder/res{index}")
    names = {"down_0": "down0", "down_1": "down1", "mid_0": "mid", "up_1": "up1", "up_0": "up0"}
    for theirs, ours in names.items():
        table |= _res_block(
            f"generator.Res_Feat.{theirs}",
            f"source_encoder/volume_{ours}",
            shortcut=theirs != "mid_0",
        )
    table |= _norm("generator.Res_Feat.out_o.0", "source_encoder/volume_norm")
    table |= _conv("generator.Res_Feat.out_o.2", "source_encoder/volume_out")
    for level in range(2):
        theirs, ours = f"generator.decoder.re_up{level}", f"source_encoder/skip{level}"
        table |= _res_block(theirs, ours, shortcut=True)
    return table


def _warping_table() -> Table:
    table = _conv("generator.pose_up.conv_0", "warping/in_conv")
    names = {
        "down_0": "down0", "down_1": "down1", "mid_0": "mid", "up_1": "up1", "up_0": "up0",
        "up_out": "up_out", "out_0": "out_res",
    }  # fmt: skip
    for theirs, ours in names.items():
        table |= _res_block(f"generator.pose_up.{theirs}", f"warping/{ours}", shortcut=True)
    for index in range(3):
        table |= _res_block(f"generator.pose_up.res_mid.{index}", f"warping/mid_res{index}")
    return table | _conv("generator.pose_up.out_1.0", "warping/out_conv")


def _decoder_table() -> Table:
    table = _conv("generator.decoder.conv_in", "decoder/in_conv")
    for index in range(8):
        table |= _res_block(f"generator.decoder.res_ms.{index}", f"decoder/res{index}")
    for level in range(3):
        table |= _conv_block(f"generator.decoder.up{level}.0", f"decoder/up{level}")
        table |= _res_block(f"generator.decoder.up{level}.1", f"decoder/up_res{level}")
    for level in range(2):
        table |= _conv(f"generator.decoder.mask_up{level}", f"decoder/gate{level}/conv")
        slope = Target("params", ("decoder", f"act{level}", "slope"))
        table[f"generator.decoder.re_ac{level}.weight"] = (slope,)
    return table | _conv("generator.decoder.conv_img", "decoder/out_conv")


def _bottleneck(theirs: str, ours: str, *, strided: bool) -> Table:
    table: Table = {}
    for number in (1, 2, 3):
        table |= _conv(f"{theirs}.conv{number}", f"{ours}/conv{number}")
        table |= _batch_norm(f"{theirs}.norm{number}", f"{ours}/norm{number}")
    if strided:
        table |= _conv(f"{theirs}.skip", f"{ours}/shortcut")
        table |= _batch_norm(f"{theirs}.norm4", f"{ours}/shortcut_norm")
    return table


def _conv_block(theirs: str, ours: str) -> Table:
    return _conv(f"{theirs}.conv", f"{ours}/conv") | _norm(f"{theirs}.norm", f"{ours}/norm")


def _res_block(theirs: str, ours: str, *, shortcut: bool = False) -> Table:
    table: Table = {}
    for number in (1, 2):
        table |= _norm(f"{theirs}.norm{number}", f"{ours}/norm{number}")
        table |= _conv(f"{theirs}.conv{number}", f"{ours}/conv{number}")
    return table | (_conv(f"{theirs}.conv3", f"{ours}/shortcut") if shortcut else {})


def _feedforward(theirs: str, ours: str, *, norms: tuple[str, ...]) -> Table:
    table = _linear(f"{theirs}.linear1", f"{ours}/feedforward_in")
    table |= _linear(f"{theirs}.linear2", f"{ours}/feedforward_out")
    for number, name in enumerate(norms, start=1):
        table |= _norm(f"{theirs}.norm{number}", f"{ours}/{name}")
    return table


def _attention(theirs: str, ours: str) -> Table:
    """Maps an attention layer; PyTorch keeps its query, key and value kernels in one array."""
    places = [(index, f"{ours}/{name}") for index, name in enumerate(("query", "key", "value"))]
    return {
        **{
            f"{theirs}.in_proj_{leaf}": tuple(
                _target(place, name, functools.partial(_third, index=index))
                for index, place in places
            )
            for leaf, name in (("weight", "kernel"), ("bias", "bias"))
        },
        **_linear(f"{theirs}.out_proj", f"{ours}/out"),
    }


def _third(array: np.ndarray, *, index: int) -> np.ndarray:
    return np.split(array, 3)[index].T


def _conv(theirs: str, ours: str) -> Table:
    # From (out, in, rows, columns) to (rows, columns, in, out).
    kernel = _target(ours, "kernel", lambda array: array.transpose(2, 3, 1, 0))
    return {f"{theirs}.weight": (kernel,), f"{theirs}.bias": (_target(ours, "bias"),)}


def _linear(theirs: str, ours: str) -> Table:
    kernel = _target(ours, "kernel", np.transpose)
    return {f"{theirs}.weight": (kernel,), f"{theirs}.bias": (_target(ours, "bias"),)}


def _norm(theirs: str, ours: str) -> Table:
    return {
        f"{theirs}.weight": (_target(ours, "scale"),),
        f"{theirs}.bias": (_target(ours, "bias"),),
    }


def _batch_norm(theirs: str, ours: str) -> Table:
    path = tuple(ours.split("/"))
    return {
        **_norm(theirs, ours),
        f"{theirs}.running_mean": (Target("batch_stats", (*path, "mean")),),
        f"{theirs}.running_var": (Target("batch_stats", (*path, "var")),),
        f"{theirs}.num_batches_tracked": (),
    }


def _squeeze(*axes: int) -> Callable[[np.ndarray], np.ndarray]:
    return functools.partial(np.squeeze, axis=axes)


def _target(path: str, leaf: str, layout: Callable = np.asarray) -> Target:
    return Target("params", (*path.split("/"), leaf), layout)
