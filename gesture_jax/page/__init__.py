"""The web page of `gesture_jax.app`, by Gradio (extra `[app]`)."""
