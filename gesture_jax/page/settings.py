"""The settings of the page: one table defines the controls and their bounds."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from gesture_jax.diffusion import samplers
from gesture_jax.errors import InputError

# The fastest first.
SAMPLERS = tuple(reversed(samplers.SAMPLERS))


@dataclasses.dataclass(frozen=True)
class Setting:
    """A number in the config of stage 2 that visitors may change.

    Attributes:
      section: argument of `GestureGenerator.options`.
      key: name in this section.
      label: name of the control.
      info: description of the control, one line.
      low: smallest value.
      high: largest value.
      step: between values; an int makes the values whole numbers.
    """

    section: str
    key: str
    label: str
    info: str
    low: float
    high: float
    step: float

    def check(self, value: Any) -> float:
        """Returns the value.

        Raises:
          InputError: where it is not a number within the bounds.
        """
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not self.low <= value <= self.high:
            raise InputError(f"{self.label} has to be from {self.low:g} to {self.high:g}")
        return int(value) if isinstance(self.step, int) else float(value)


SETTINGS = (
    Setting("control", "motion_scale", "Movement", "1 is as generated, 0 is still.", 0, 2, 0.05),
    Setting(
        "control", "mouth_scale", "Mouth",
        "The same for the lips, if the model knows them.", 0, 2, 0.05,
    ),
    Setting("control", "head_scale", "Head", "The same for the head alone.", 0, 2, 0.05),
    Setting("control", "hands_scale", "Hands", "The same for all below the head.", 0, 2, 0.05),
    Setting(
        "control", "rest_sec", "Come to rest",
        "Seconds over which the portrait returns to its own pose at the end.", 0, 5, 0.1,
    ),
    Setting(
        "sampler", "guidance", "Guidance",
        "Weight of the speech; 1 is plain sampling, more follows it more closely.", 0, 5, 0.1,
    ),
    Setting(
        "sampler", "num_steps", "Denoising steps",
        "More steps take longer and give finer motion.", 1, 1000, 1,
    ),
    Setting(
        "schedule", "candidates", "Candidates",
        "Windows generated to choose the smoothest continuation from.", 1, 64, 1,
    ),
)  # fmt: skip
"""The settings in the order in which they are shown."""


def defaults(config: ConfigDict) -> list[float]:
    """The values of a model's config, in the order of `SETTINGS`."""
    return [config[setting.section][setting.key] for setting in SETTINGS]


def sections(values: list[Any], sampler: str) -> Mapping[str, Mapping[str, Any]]:
    """The arguments of `GestureGenerator.options`, from the values of the controls.

    Raises:
      InputError: for values out of bounds.
    """
    if sampler not in SAMPLERS:
        raise InputError(f"the sampler has to be one of {', '.join(SAMPLERS)}")
    result: dict[str, dict[str, Any]] = {"sampler": {"name": sampler}}
    for setting, value in zip(SETTINGS, values, strict=True):
        result.setdefault(setting.section, {})[setting.key] = setting.check(value)
    return result
