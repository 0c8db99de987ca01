"""Do generated gestures belong to the speech? On the test clips of a stage 2's motions.

python -m benchmarks.gestures STAGE2

Every test clip's motion is made anew from its speech and its first frame. Motion is compared as
angles less their speaker's mean over the training clips, standardised, whatever space stage 2 works
in; that needs neither joints nor pictures. Prints a Markdown table.

| row | what |
|---|---|
| real | the clips themselves; their FGD is that of two halves, fewer and so further apart |
| generated | from the clip's speech |
| other speech | from the speech of another clip |
| still | the first frame, held |
| shuffled frames | the frames of another clip, in random order |

| column | what |
|---|---|
| FGD | Frechet distance to the real windows; mean by autoencoders fitted to the training motions |
| FGD, least and most | by one of these autoencoders, which differ in their seeds alone |
| diversity | mean distance of two windows, in the autoencoders' latents: the mean |
| BAS | beat alignment with the clip's own sound |
| BAS, other sound | with that of other clips: the same motion, the wrong sound |
| standard errors | the difference of both over its standard error over clips |
| beats/s | of the motion |
| correlation | of the speed curve with that of the real motion |
| seam | jerk at the borders of windows over jerk elsewhere, median over clips |
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
# By one autoencoder the distance to a control may come out three times that by another.
_AUTOENCODERS = 4
_FIT_STEPS = 1000


class Bench:
    """The test clips of a stage 2, what was said in them, and what FGD is measured by."""

    def __init__(self, workdir: str):
        """Reads all that rows are made of, and fits the autoencoders."""
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
        # What windows read beyond the end of a clip.
        silence = self.generator.hearing.extract(np.zeros(64_000, "f4"), num_frames=self._window)
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
        """From now on measures this stage 2, trained on the same motions."""
        config = checkpoints.read_config(workdir, stage="stage2")
        self.generator = GestureGenerator.load(stage1=config.stage1_workdir, stage2=workdir)

    def generate(
        self, *, speech_of: int = 0, seed: int = 0, options: Options | None = None
    ) -> list[np.ndarray]:
        """Motion [t, d] for each test clip, by its own speech or that of the n-th clip after it."""
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
        """The table: `COLUMNS` of each row."""
        real = [take["motion"] for take in self.takes]
        random = np.random.default_rng(0)
        if len(real) < 2:
            raise InputError("the controls are made of other test clips; give a data set of two")
        return {
            "real": self.row(real) | _spread(self._floor(real)),
            "generated": self.row(self.generate()),
            "other speech": self.row(self.generate(speech_of=len(real) // 2)),
            "still": self.row([np.repeat(motion[:1], len(motion), axis=0) for motion in real]),
            # Of the same speaker, whose number of clips before it is the number of speakers.
            "shuffled frames": self.row(
                [random.permutation(real[index - len(self._means)]) for index in range(len(real))]
            ),
        }

    def row(self, motions: list[np.ndarray]) -> dict[str, float]:
        """`COLUMNS` of motions, one for each test clip."""
        encoded = self._encode_all(motions)
        latents = self._latents(motions)
        own, other = self._alignment(encoded)
        gap = own - other
        hop = self.generator.defaults.pace.hop
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
        """By each autoencoder, how far latents [n, 32] are from those of the real test windows."""
        return [_distance(*pair) for pair in zip(self._real, latents, strict=True)]

    def _alignment(self, encoded: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """BAS of each motion with its own clip's sound, and with those of the clips after it."""
        beats = [[beat_metrics.motion_beats(motion)] for motion in encoded]
        onsets = [take["onsets"] for take in self.takes]
        lasting = [len(motion) / FPS for motion in encoded]
        own = [
            beat_metrics.align("onsets", each, sound, duration_sec=duration)
            for each, sound, duration in zip(beats, onsets, lasting, strict=True)
        ]
        other = beat_metrics.shuffled("onsets", beats, onsets, lasting, num_others=_OTHER_SOUNDS)
        return np.array(own), other

    def _floor(self, motions: list[np.ndarray]) -> list[float]:
        """By each autoencoder, the distance of two halves of each speaker's clips."""
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
        """[n, t, d] to [n, 32] by each autoencoder."""
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
        size = np.maximum(self._std, 0.25 * np.sqrt(np.mean(self._std**2)))
        return (_angles(motion) - self._means[speaker]) / size


def _spread(distances: list[float]) -> dict[str, float]:
    names = ("FGD", "FGD, least", "FGD, most")
    return dict(zip(names, (np.mean(distances), min(distances), max(distances)), strict=True))


def _distance(some: np.ndarray, others: np.ndarray) -> float:
    return frechet_distance(Moments.of(some), Moments.of(others))


def _angles(motion: np.ndarray) -> np.ndarray:
    return np.asarray(rotation.matrix_to_angles_feature(motion))


if __name__ == "__main__":
    print(format_table(Bench(sys.argv[1]).rows(), first="motion"))
