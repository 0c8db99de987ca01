"""Downloads the published weights in advance: `python -m gesture_jax.pretrained`."""

from gesture_jax import cli
from gesture_jax.pretrained import fetch


def main(_) -> None:
    """Prints the path of each file."""
    for name in fetch.FILES:
        print(f"{name}: {fetch.find(name)}")


if __name__ == "__main__":
    cli.run(main)
