"""The optimiser and the moving average of the parameters."""

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from gesture_jax.errors import InputError

# Key of its parameters in the tree, of its options in the config, and of its loss.
DISCRIMINATOR = "discriminator"


def make_optimizer(config: ConfigDict, *, num_steps: int) -> optax.GradientTransformation:
    """AdamW or Adan with a warm-up, cosine decay and clipping by the global norm.

    Where the config has a `discriminator`, the parameters under that key of the tree have an
    optimiser of their own, with their own norm to clip by. One update serves both sides, so the
    loss must be a sum in which each side is a constant to the other's terms.

    Args:
      config: fields `learning_rate`, `b1`, `b2`, `weight_decay`, `warmup_steps`, `final_fraction`
        (of the learning rate at the end) and `clip_norm`; optionally `name`, "adamw" (so it is
        without) or "adan", and `discriminator`, with those of the fields that differ for it.
      num_steps: length of the whole training, where the decay ends.

    Raises:
      InputError: for an unknown name.
    """
    ours = _make_clipped(config, num_steps)
    if not config.get(DISCRIMINATOR):
        return ours
    theirs = _make_clipped(ConfigDict({**config, **config[DISCRIMINATOR]}), num_steps)
    label = lambda key: DISCRIMINATOR if key == DISCRIMINATOR else "generator"
    return optax.partition(
        {"generator": ours, DISCRIMINATOR: theirs},
        lambda params: {key: label(key) for key in params},
    )


def _make_clipped(config: ConfigDict, num_steps: int) -> optax.GradientTransformation:
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.learning_rate,
        warmup_steps=config.warmup_steps,
        decay_steps=max(num_steps, config.warmup_steps + 1),
        end_value=config.learning_rate * config.final_fraction,
    )
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm), _make_unclipped(config, schedule)
    )


def _make_unclipped(config: ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    name, decay = config.get("name", "adamw"), config.weight_decay
    if name == "adamw":
        return optax.adamw(schedule, b1=config.b1, b2=config.b2, weight_decay=decay)
    if name == "adan":
        # Its three averages forget at rates of their own, given as 1 - beta by its authors and by
        # the template of this stage (reference 3.6): 0.02, 0.08, 0.01.
        return optax.adan(schedule, b1=0.98, b2=0.92, b3=0.99, weight_decay=decay)
    raise InputError(f"unknown optimiser {name!r}; choose adamw or adan")


def update_ema(ema, params, step: jax.Array, *, decay: float):
    """One step of the exponential moving average of a parameter tree.

    The decay grows from 0.1 as (1 + step) / (10 + step) up to `decay`, so that the average of a
    short run is not the initialisation.
    """
    decay = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda old, new: old * decay + new * (1.0 - decay), ema, params)
