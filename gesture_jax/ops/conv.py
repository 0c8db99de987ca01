from jax.lax import conv_general_dilated  # noqa: F401
