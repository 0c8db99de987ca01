"""Measures whether generated gestures belong to the speech, on the test clips of a stage 2.

python -m benchmarks.gestures STAGE2

Motion is generated for every test clip from its speech and its first frame. Motion is compared as
standardised angles minus their speaker's mean over the training clips, in whatever space stage 2
works; this needs neither joints nor pictures. Prints a Markdown table.

| row | motion |
|---|---|
| real | of the clips; the FGD compares two halves, which have fewer examples and so a larger FGD |
| generated | generated from the clip's speech |
| other speech | generated from the speech of another clip |
| still | the first frame of the clip, held |
| shuffled frames | the frames of another clip, in random order |

| column | meaning |
|---|---|
| FGD | Frechet distance to the real windows, mean over autoencoders fitted to training motions |
| FGD, least and most | smallest and largest of these; the autoencoders differ in their seeds |
| diversity | mean distance of two windows in the latents, mean over the autoencoders |
| BAS | beat alignment with the clip's own sound |
| BAS, other sound | beat alignment of the same motion with the sound of other clips |
| standard errors | difference of the two, divided by its standard error over clips |
| beats/s | beats per second of the motion |
| correlation | correlation of the speed curve with that of the real motion |
| seam | jerk at the borders of windows divided by jerk elsewhere, median over clips |
"""

import collections
import sys

import numpy as np

from benchmarks.report import format_table
from gesture_jax.checkpoint import checkpoints
from gesture_jax.data.clips import ClipSource
from gesture_jax.data.motions import MotionSource
from gesture_jax.errors import InputError
from gesture_jax.inference.generator import GestureGenerator, Options
from gesture_jax.media.rates import FPS
from gesture_jax.metrics import beats as beat_metrics
from gesture_jax.metrics import fgd
from gesture_jax.metrics import motion as motion_metrics
from gesture_jax.metrics.frechet import Moments, frechet_distance
from gesture_jax.ops import rotation

COLUMNS = (
    "FGD", "FGD, least", "FGD, most", "diversity", "BAS", "BAS, other sound", "standard errors",
    "beats/s", "correlation", "seam",
)  # fmt: skip
_STRIDE = 10
_OTHER_SOUNDS = 8
# The distance to a control may be three times as large with one autoencoder as with another.
_AUTOENCODERS = 4
_FIT_STEPS = 1000


class Bench:
    """The test clips of a stage 2, their speech, and the autoencoders for FGD."""

    def __init__(self, workdir: str):
        """Reads the clips and fits the autoencoders."""
        config = checkpoints.read_config(workdir, stage="stage2")
        self.use(workdir)
        self._window = config.model.window
        train, test = (MotionSource(config.data.path, split) for split in ("train", "test"))
        by_speaker = collections.defaultdict(list)
        for record in train:
            by_speaker[record["speaker"]].append(_angles(record["motion"]))
        self._means = {name: np.concatenate(each).mean(axis=0) for name, each in by_speaker.items()}
        self._std = np.concatenate(
            [angles - self._means[name] for name, each in by_speaker.items() for angles in each]
        ).std(axis=0)
        sounds = ClipSource(test.metadata["data_path"], "test")
        # Windows read these features beyond the end of a clip.
        silence = self.generator.feature_extractor.extract(
            np.zeros(64_000, "f4"), num_frames=self._window
        )
        self.takes = []
        for record, clip in zip(test, sounds, strict=True):
            audio = clip["audio"]
            self.takes.append({
                "motion": record["motion"],
                "speaker": record["speaker"],
                "features": np.concatenate([record["speech"], silence]),
                "onsets": beat_metrics.audio_onsets(audio),
            })  # fmt: skip
        windows = np.concatenate([self._windows(r["motion"], r["speaker"]) for r in train])
        self._autoencoders = [
            fgd.fit_autoencoder(windows, seed=seed, num_steps=_FIT_STEPS)
            for seed in range(_AUTOENCODERS)
        ]
        self._real = self._latents([take["motion"] for take in self.takes])

    def use(self, workdir: str) -> None:
        """Measures another stage 2 from now on, trained on the same motions."""
        config = checkpoints.read_config(workdir, stage="stage2")
        self.generator = GestureGenerator.load(stage1=config.stage1_workdir, stage2=workdir)

    def generate(
        self, *, speech_of: int = 0, seed: int = 0, options: Options | None = None
    ) -> list[np.ndarray]:
        """Generates motion [t, d] for each test clip from the speech of the n-th clip after it."""
        motions = []
        for index, take in enumerate(self.takes):
            features = self.takes[(index + speech_of) % len(self.takes)]["features"]
            pieces = self.generator.motion_from_features(
                take["motion"][0], [features], len(take["motion"]), seed=seed + 1000 * index,
                speaker=take["speaker"] if self.generator.speakers else None, options=options,
            )  # fmt: skip
            motions.append(np.concatenate(list(pieces)))
        return motions

    def rows(self) -> dict[str, dict[str, float]]:
        """Returns the table: `COLUMNS` for each row."""
        real = [take["motion"] for take in self.takes]
        random = np.random.default_rng(0)
        if len(real) < 2:
            raise InputError("the controls need other test clips; use a dataset with two or more")
        return {
            "real": self.row(real) | _spread(self._floor(real)),
            "generated": self.row(self.generate()),
            "other speech": self.row(self.generate(speech_of=len(real) // 2)),
            "still": self.row([np.repeat(motion[:1], len(motion), axis=0) for motion in real]),
            # Clips of the speakers alternate, so this is another clip of the same speaker.
            "shuffled frames": self.row(
                [random.permutation(real[index - len(self._means)]) for index in range(len(real))]
            ),
        }

    def row(self, motions: list[np.ndarray]) -> dict[str, float]:
        """Returns `COLUMNS` for motions, one for each test clip."""
        encoded = self._encode_all(motions)
        latents = self._latents(motions)
        own, other = self._alignment(encoded)
        gap = own - other
        hop = self.generator.defaults.schedule.hop
        seams = [
            motion_metrics.seam_jerk_ratio(motion, range(hop, len(motion), hop))
            for motion in encoded
        ]
        beats = [len(beat_metrics.motion_beats(m)) * FPS / len(m) for m in encoded]
        pairs = zip(encoded, self._encode_all([t["motion"] for t in self.takes]), strict=True)
        return {
            **_spread(self.distances(latents)),
            "diversity": np.mean([motion_metrics.diversity(each) for each in latents]),
            "BAS": own.mean(),
            "BAS, other sound": other.mean(),
            "standard errors": gap.mean() / max(gap.std(ddof=1) / len(gap) ** 0.5, 1e-9),
            "beats/s": np.mean(beats),
            "correlation": np.mean([motion_metrics.speed_correlation(*pair) for pair in pairs]),
            "seam": np.nanmedian(seams) if np.isfinite(seams).any() else np.nan,
        }

    def distances(self, latents: list[np.ndarray]) -> list[float]:
        """Returns distances of latents [n, 32] from those of real windows, by autoencoder."""
        return [_distance(*pair) for pair in zip(self._real, latents, strict=True)]

    def _alignment(self, encoded: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Returns BAS of each motion with its own clip's sound, and with the next clips' sound."""
        beats = [[beat_metrics.motion_beats(motion)] for motion in encoded]
        onsets = [take["onsets"] for take in self.takes]
        durations = [len(motion) / FPS for motion in encoded]
        own = [
            beat_metrics.align("onsets", each, sound, duration_sec=duration)
            for each, sound, duration in zip(beats, onsets, durations, strict=True)
        ]
        other = beat_metrics.shuffled("onsets", beats, onsets, durations, num_others=_OTHER_SOUNDS)
        return np.array(own), other

    def _floor(self, motions: list[np.ndarray]) -> list[float]:
        """Returns distances between two halves of each speaker's clips, by autoencoder."""
        halves = ([], [])
        for index, (motion, take) in enumerate(zip(motions, self.takes, strict=True)):
            half = halves[index // len(self._means) % 2]
            half.append(self._windows(motion, take["speaker"]))
        encoded = [self._encode_windows(np.concatenate(half)) for half in halves]
        return [_distance(*pair) for pair in zip(*encoded, strict=True)]

    def _latents(self, motions: list[np.ndarray]) -> list[np.ndarray]:
        pairs = zip(motions, self.takes, strict=True)
        windows = [self._windows(motion, take["speaker"]) for motion, take in pairs]
        return self._encode_windows(np.concatenate(windows))

    def _encode_windows(self, windows: np.ndarray) -> list[np.ndarray]:
        """Encodes windows [n, t, d] to latents [n, 32] with each autoencoder."""
        return [fgd.encode_windows(variables, windows) for variables in self._autoencoders]

    def _windows(self, motion: np.ndarray, speaker: str) -> np.ndarray:
        encoded = self._encode(motion, speaker)
        return fgd.cut_windows(encoded, window=self._window, stride=_STRIDE)

    def _encode_all(self, motions: list[np.ndarray]) -> list[np.ndarray]:
        return [
            self._encode(motion, take["speaker"])
            for motion, take in zip(motions, self.takes, strict=True)
        ]

    def _encode(self, motion: np.ndarray, speaker: str) -> np.ndarray:
        scale = np.maximum(self._std, 0.25 * np.sqrt(np.mean(self._std**2)))
        return (_angles(motion) - self._means[speaker]) / scale


def _spread(distances: list[float]) -> dict[str, float]:
    names = ("FGD", "FGD, least", "FGD, most")
    return dict(zip(names, (np.mean(distances), min(distances), max(distances)), strict=True))


def _distance(some: np.ndarray, others: np.ndarray) -> float:
    return frechet_distance(Moments.of(some), Moments.of(others))


def _angles(motion: np.ndarray) -> np.ndarray:
    return np.asarray(rotation.matrix_to_angles_feature(motion))


if __name__ == "__main__":
    print(format_table(Bench(sys.argv[1]).rows(), first="motion"))
