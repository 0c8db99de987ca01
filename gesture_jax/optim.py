"""The optimiser and the moving average of the parameters."""

import jax
import jax.numpy as jnp
import optax


def make_optimizer(config, *, num_steps: int) -> optax.GradientTransformation:
    """Adam with a warm-up, cosine decay and clipping by the global norm.

    Args:
      config: fields `learning_rate`, `b1`, `b2`, `weight_decay`, `warmup_steps`, `final_fraction`
        (of the learning rate at the end) and `clip_norm`.
      num_steps: length of the whole training, where the decay ends.
    """
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.learning_rate,
        warmup_steps=config.warmup_steps,
        decay_steps=max(num_steps, config.warmup_steps + 1),
        end_value=config.learning_rate * config.final_fraction,
    )
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(schedule, b1=config.b1, b2=config.b2, weight_decay=config.weight_decay),
    )


def update_ema(ema, params, step: jax.Array, *, decay: float):
    """One step of the exponential moving average of a parameter tree.

    The decay grows from 0.1 as (1 + step) / (10 + step) up to `decay`, so that the average of a
    short run is not the initialisation.
    """
    decay = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda old, new: old * decay + new * (1.0 - decay), ema, params)
