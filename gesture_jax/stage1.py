"""Stage 1 as a task: the deviation model learns, self-supervised, to redraw a driving frame.

Source and driving are two frames of one clip. The motion feature of the driving frame is all that
the renderer learns of it, so it must hold the motion and nothing else that the source has already.
"""

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gesture_jax import pretrained
from gesture_jax.data import clips, images, pipeline, procedural
from gesture_jax.data.augment import Augmentation
from gesture_jax.errors import InputError
from gesture_jax.metrics import image as image_metrics
from gesture_jax.models import vgg
from gesture_jax.models.deviation import DeviationModel
from gesture_jax.ops import image as image_ops


class Stage1:
    """See `train_lib.Task`. Batches are `source` and `driving`, [b, h, w, 3] float32 in [0, 1]."""

    def __init__(self, config: ConfigDict, workdir: str):
        """Finds the dataset, or makes that of the procedural speaker where the preset says so.

        Raises:
          InputError: where the dataset is missing, or its frames are not of the model's resolution.
        """
        self._config = config
        self.model = DeviationModel(**config.model)
        self.frozen = _load_frozen(config)
        path = ensure_dataset(config, workdir)
        self._train = clips.ClipSource(path, "train")
        self._test = clips.ClipSource(path, "test")
        if self._train.size != config.model.resolution:
            raise InputError(
                f"{path}: frames of {self._train.size} pixels, but the model's resolution is "
                f"{config.model.resolution}; prepare with --size={config.model.resolution}"
            )

    def train_batches(self) -> pipeline.BatchIterator:
        """Endless random pairs of frames of one clip."""
        shard = jax.process_index(), jax.process_count()
        return iter(
            pipeline.frame_pairs(
                self._train,
                batch_size=self._config.batch_size // jax.process_count(),
                seed=self._config.seed,
                train=True,
                shard=shard,
                cache=self._config.data.cache,
                augmentation=Augmentation(**self._config.data.augment),
                num_workers=self._config.data.num_workers,
            )
        )

    def test_batches(self) -> Iterable[dict[str, np.ndarray]]:
        """The first frame of every test clip against frames spread over the clip."""
        return pipeline.frame_pairs(
            self._test,
            batch_size=self._config.batch_size,
            seed=0,
            train=False,
            frames_per_clip=self._config.data.eval_frames_per_clip,
        )

    def init(self, key: jax.Array):
        """Parameters and the extractor's batch statistics."""
        resolution = self._config.model.resolution
        blank = jnp.zeros((1, resolution, resolution, 3))
        variables = self.model.init(key, blank, blank, train=False)
        return variables["params"], {"batch_stats": variables["batch_stats"]}

    def loss(self, params, model_state, frozen, batch, key):
        """Pixel L1 and perceptual distance over a pyramid, and warp consistency."""
        del key
        outputs, updates = self.model.apply(
            {"params": params, **model_state},
            batch["source"],
            batch["driving"],
            train=True,
            mutable=["batch_stats"],
        )
        weights = self._config.loss
        metrics = {
            "pixel": pyramid_l1(
                outputs["image"], batch["driving"], num_levels=weights.pyramid_levels
            ),
            "warp": self._warp_consistency(params, model_state, outputs, batch["driving"]),
        }
        if weights.perceptual:
            metrics["perceptual"] = pyramid_perceptual(
                frozen["perceptual"],
                outputs["image"],
                batch["driving"],
                num_levels=weights.pyramid_levels,
            )
        loss = sum(weights[name] * value for name, value in metrics.items())
        metrics["psnr"] = image_metrics.psnr(outputs["image"], batch["driving"]).mean()
        return loss, (metrics, updates)

    def _warp_consistency(self, params, model_state, outputs, driving):
        """Warped source volume against the driving frame's own.

        Both encodings are constants here, so that the term trains the field alone and cannot be met
        by encodings that say nothing. Relative to the size of the driving volume, whose scale is
        free.
        """
        variables = jax.lax.stop_gradient({"params": params, **model_state})
        own = self.model.apply(variables, driving, method="encode_source").volume
        source = outputs["source"]
        source = source.replace(volume=jax.lax.stop_gradient(source.volume))
        warped = self.model.apply(
            {"params": params, **model_state}, source, outputs["motion"], method="warp"
        )
        own = jax.lax.stop_gradient(own)
        return jnp.abs(warped - own).mean() / jnp.maximum(jnp.abs(own).mean(), 1e-6)

    def evaluate(self, variables, frozen, batch, key):
        """PSNR in dB and, where VGG is there, ST-LPIPS, one value an example: of the redrawn frame,
        of the source frame copied, and of the frame redrawn by the motion of another example.
        """
        del key
        driving = batch["driving"]
        pictures = {
            "": self._redraw(variables, batch),
            "_copy_source": batch["source"],
            # How much worse it is by the motion of another frame: whether motion is used at all.
            "_other_motion": self._redraw(
                variables, {**batch, "driving": jnp.roll(driving, 1, axis=0)}
            ),
        }
        values = {}
        for name, picture in pictures.items():
            values[f"psnr{name}"] = image_metrics.psnr(picture, driving)
            if "st_lpips" in frozen:
                values[f"st_lpips{name}"] = _st_lpips(frozen["st_lpips"], picture, driving)
        return values

    def draw_samples(self, variables, batch, key) -> np.ndarray:
        """Rows of source, driving, redrawn."""
        del key
        image = np.asarray(jax.jit(self._redraw)(variables, batch))
        return images.contact_sheet([batch["source"], batch["driving"], image])

    def _redraw(self, variables, batch):
        return self.model.apply(variables, batch["source"], batch["driving"])["image"]


def ensure_dataset(config: ConfigDict, workdir: str) -> str:
    """The dataset's folder; makes a missing one of the procedural speaker where the preset says so.

    Raises:
      InputError: where it is missing and the preset makes none.
    """
    path = config.data.path or str(pathlib.Path(workdir) / "dataset")
    if not clips.is_dataset(path):
        if not config.data.procedural_clips:
            raise InputError(
                f"{path}: no dataset here; make one with `python -m gesture_jax.prepare "
                f"--videos=DIR --size={config.model.resolution} --out=DATASET` "
                "and pass --config.data.path=DATASET"
            )
        procedural.write_procedural(
            path,
            num_clips=config.data.procedural_clips,
            num_identities=config.data.procedural_identities,
            clip_sec=config.data.procedural_clip_sec,
            size=config.model.resolution,
            seed=config.seed,
        )
    config.data.path = path
    return path


def pyramid_perceptual(
    variables: Mapping[str, Any], image: jax.Array, target: jax.Array, *, num_levels: int
) -> jax.Array:
    """`vgg.perceptual_distance`, averaged over the scales 1, 1/2, 1/4, ... that VGG can see.

    Args:
      variables: of `pretrained.load_vgg16` or `load_vgg19`.
      image: [b, h, w, 3].
      target: [b, h, w, 3]; a constant.
      num_levels: scales at most.
    """
    smallest = _vgg_of(variables).config.min_size
    pairs = zip(
        image_ops.pyramid(image, num_levels=num_levels),
        image_ops.pyramid(jax.lax.stop_gradient(target), num_levels=num_levels),
        strict=True,
    )
    return jnp.stack([
        vgg.perceptual_distance(_see(variables, ours), _see(variables, theirs))
        for ours, theirs in pairs
        if min(ours.shape[1:3]) >= smallest
    ]).mean()  # fmt: skip


def _load_frozen(config: ConfigDict) -> dict[str, Any]:
    """VGGs, where the loss or the evaluation asks for them."""
    perceptual, path = config.loss.perceptual, config.loss.vgg19
    frozen = {}
    if config.st_lpips or (perceptual and not path):
        vgg16 = pretrained.load_vgg16()
    if config.st_lpips:
        frozen["st_lpips"] = vgg16
    if perceptual:
        frozen["perceptual"] = pretrained.load_vgg19(path) if path else vgg16
    return frozen


def _vgg_of(variables: Mapping[str, Any]) -> vgg.VGG:
    """ST-LPIPS's heads come with VGG-16."""
    return vgg.VGG(vgg.VGG16 if "heads" in variables else vgg.VGG19)


def _see(variables: Mapping[str, Any], image: jax.Array) -> list[jax.Array]:
    return _vgg_of(variables).apply({"params": variables["params"]}, image)


def _st_lpips(variables: Mapping[str, Any], image: jax.Array, target: jax.Array) -> jax.Array:
    heads = [variables["heads"][name] for name in sorted(variables["heads"])]
    return vgg.st_lpips(_see(variables, image), _see(variables, target), heads)


def pyramid_l1(image: jax.Array, target: jax.Array, *, num_levels: int) -> jax.Array:
    """Mean absolute difference, averaged over the scales 1, 1/2, 1/4, ...; images [b, h, w, 3]."""
    pairs = zip(
        image_ops.pyramid(image, num_levels=num_levels),
        image_ops.pyramid(target, num_levels=num_levels),
        strict=True,
    )
    return jnp.stack([jnp.abs(ours - theirs).mean() for ours, theirs in pairs]).mean()
