"""The optimiser, and the moving average of the parameters."""

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from gesture_jax.errors import InputError

# Key of the discriminator's parameters in the tree, of its optimiser's options, and of its loss.
DISCRIMINATOR = "discriminator"


def make_optimizer(config: ConfigDict, *, num_steps: int) -> optax.GradientTransformation:
    """Returns AdamW or Adan with a warm-up, cosine decay and clipping by the global norm.

    Where the config has a `discriminator`, the parameters under that key of the tree have an
    optimiser of their own, with a gradient norm of their own. One update serves generator and
    discriminator, so each must be constant in the other's terms of the loss.

    Args:
      config: fields `learning_rate`, `b1`, `b2`, `weight_decay`, `warmup_steps`, `final_fraction`
        (final over peak learning rate) and `clip_norm`; optionally `name`, "adamw" (the default) or
        "adan", `discriminator`, with the fields that differ for it, and `frozen_parts`, the names
        of parts whose parameters do not change.
      num_steps: length of the training, at which the decay ends.

    Raises:
      InputError: for an unknown name.
    """
    generator = _make_clipped(config, num_steps)
    frozen_parts = config.get("frozen_parts", ())
    if not config.get(DISCRIMINATOR) and not frozen_parts:
        return generator
    optimizers = {"generator": generator, "frozen": optax.set_to_zero()}
    if config.get(DISCRIMINATOR):
        own = ConfigDict({**config, **config[DISCRIMINATOR]})
        optimizers[DISCRIMINATOR] = _make_clipped(own, num_steps)
    label = lambda key: (
        "frozen" if key in frozen_parts else key if key in optimizers else "generator"
    )
    return optax.partition(optimizers, lambda params: {key: label(key) for key in params})


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
        # The decay rates of its three averages. Its authors, and the code that this stage follows,
        # give 1 - beta: 0.02, 0.08, 0.01.
        return optax.adan(schedule, b1=0.98, b2=0.92, b3=0.99, weight_decay=decay)
    raise InputError(f"unknown optimiser {name!r}; choose adamw or adan")


def update_ema(ema, params, step: jax.Array, *, decay: float):
    """Updates the exponential moving average of a parameter tree.

    The decay grows from 0.1 as (1 + step) / (10 + step) up to `decay`, so that the initialisation
    does not dominate the average of a short run. The average of a parameter that does not change is
    the parameter itself, to the bit.
    """
    decay = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda old, new: old + (1.0 - decay) * (new - old), ema, params)
