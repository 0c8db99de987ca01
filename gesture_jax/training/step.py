"""The compiled training step, and the state that it starts from."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from gesture_jax.ops import remat
from gesture_jax.parallel import sharding
from gesture_jax.training import optim
from gesture_jax.training.task import Metrics, Objective, TrainState


def make_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    ema_decay: float,
    mesh: Mesh,
    num_parts: int = 1,
    policy: str = "none",
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Compiles `step(state, frozen, batch, key) -> (state, metrics)`, which donates the state.

    Args:
      objective: the network and its loss.
      optimizer: turns gradients into updates.
      ema_decay: decay of the averaged weights.
      mesh: the devices.
      num_parts: the batch is split into this many parts, which are computed one after another; the
        gradient is the mean over the parts.
      policy: which activations are recomputed for the gradient, one of `remat.POLICIES`.
    """

    def step(state: TrainState, frozen, batch, base_key):
        key = jax.random.fold_in(base_key, state.step)
        batch = {**batch, **objective.draw(key, batch)}
        (grads, metrics), model_state = _compute_gradients(
            objective, state, frozen, batch, key, mesh, num_parts, policy
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema_params = optim.update_ema(state.ema_params, params, state.step, decay=ema_decay)
        metrics = {"grad_norm": optax.tree.norm(grads), **metrics}
        state = TrainState(state.step + 1, params, ema_params, model_state, opt_state)
        return sharding.scatter(state, mesh), sharding.gather(metrics, mesh)

    return jax.jit(step, donate_argnums=0)


def _compute_gradients(objective, state, frozen, batch, key, mesh, num_parts, policy):
    """Returns `(gradients, metrics), model state`: means over the parts of a batch.

    Part k holds the rows k, k + n, ... of the batch.
    """
    grad_fn = jax.value_and_grad(remat.checkpoint(objective.loss, policy), has_aux=True)
    # The state is sharded between steps. The networks get whole parameters, so that the compiler
    # has no reason to gather activations instead.
    params = sharding.gather(state.params, mesh)

    def compute(model_state, part, key):
        (loss, (metrics, model_state)), grads = grad_fn(
            params, sharding.gather(model_state, mesh), frozen, part, key, state.step
        )
        return (sharding.scatter(grads, mesh), {"loss": loss, **metrics}), model_state

    if num_parts == 1:
        return compute(state.model_state, batch, key)

    def accumulate(carry, part):
        total, model_state = carry
        number, rows = part
        result, model_state = compute(model_state, rows, jax.random.fold_in(key, number))
        return (jax.tree.map(jnp.add, total, result), model_state), None

    parts = jnp.arange(num_parts), sharding.split_batch(batch, num_parts, mesh)
    first_part = jax.tree.map(lambda x: x[0], parts[1])
    shapes, _ = jax.eval_shape(compute, state.model_state, first_part, key)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    (total, model_state), _ = jax.lax.scan(accumulate, (zeros, state.model_state), parts)
    return jax.tree.map(lambda sum_: sum_ / num_parts, total), model_state


def create_state(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    start: Mapping[str, Any] | None = None,
) -> TrainState:
    """Returns the state before the first step.

    Args:
      objective: initialises the variables.
      optimizer: initialises its own state.
      seed: of the random weights.
      start: variables that replace random ones, as for fine-tuning.
    """
    params, model_state = objective.init(jax.random.key(seed))
    start = dict(start or {})
    params = {**params, **start.pop("params", {})}
    model_state = {**model_state, **start}
    ema_params = jax.tree.map(jnp.copy, params)
    opt_state = optimizer.init(params)
    return TrainState(jnp.zeros((), jnp.int32), params, ema_params, model_state, opt_state)
