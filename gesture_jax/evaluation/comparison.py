"""Compares two folders of videos: runs all parts of the evaluation and collects their results."""

import dataclasses
import time
from importlib import metadata
from typing import Any

from tqdm import tqdm

from gesture_jax.evaluation import frames, fvd, lips, motion, report, video_motion, videos
from gesture_jax.evaluation.lips import LipOptions
from gesture_jax.evaluation.motion import MotionOptions
from gesture_jax.evaluation.results import Results
from gesture_jax.metrics.scores import mean_score
from gesture_jax.people import pose
from gesture_jax.pretrained import fetch
from gesture_jax.storage.files import as_path, hash_file

_UNPAIRED = "compares frame by frame: pass --paired if videos with the same name should be equal"
_NO_POSE = (
    f"needs the pose model: {pose.remedy()}; or pass --motion=joints or --motion=features if each "
    "video has an .npz beside it"
)
_NO_LPIPS = "needs AlexNet's weights: pass --lpips=alexnet-owt-7be5be79.pth, torchvision's file"
_NO_FACES = f"needs the face model: {pose.remedy()}"
_PACKAGES = "gesture_jax", "jax", "flax", "av", "soxr", "numpy"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Which videos are compared, and how.

    Attributes:
      real: folder of real videos.
      generated: folder of generated videos.
      out: folder for the results.
      paired: whether videos with the same name should be equal, frame by frame.
      limit: the largest number of videos from each folder, 0 for all.
      size: side in pixels at which frames are compared.
      perceptual_stride: ST-LPIPS and LPIPS compare every so-many-th frame.
      lpips: file of AlexNet's weights; without it LPIPS is left out.
      fvd_frames: frames in a clip.
      fvd_stride: frames from one clip's start to the next one's.
      fvd_clips: the largest number of clips from a video; 0 leaves FVD out.
      motion: the kind of motion, and how it is compared.
      lips: the files that lips are measured with; None leaves them out.
      seed: seeds all random draws.
    """

    real: str
    generated: str
    out: str
    paired: bool = False
    limit: int = 0
    size: int = 256
    perceptual_stride: int = 10
    lpips: str = ""
    fvd_frames: int = 16
    fvd_stride: int = 16
    fvd_clips: int = 4
    motion: MotionOptions = dataclasses.field(default_factory=MotionOptions)
    lips: LipOptions | None = dataclasses.field(default_factory=LipOptions)
    seed: int = 0


class Comparison:
    """An evaluation: its videos and its results."""

    def __init__(self, settings: Settings):
        """Finds the videos.

        Raises:
          InputError: for a missing or empty folder, or names that do not match.
        """
        self._settings, self._out = settings, as_path(settings.out)
        self._real, self._generated = (
            videos.find_videos(folder, limit=settings.limit)
            for folder in (settings.real, settings.generated)
        )
        pairs = videos.match(self._real, self._generated) if settings.paired else []
        self._partners = {generated: real for real, generated in pairs}
        companions = settings.motion.kind != "pose"
        folders = filter(
            None, dict.fromkeys((settings.real, settings.generated, settings.motion.fit))
        )
        unused = [
            note
            for folder in folders
            for note in videos.describe_unused(folder, companions=companions)
        ]
        self.results = Results(protocol=self._describe(), notes=unused)

    def run(self) -> None:
        """Computes all parts.

        Raises:
          InputError: for videos, motion or weights that cannot be read.
        """
        parts = {
            "motion": self._motion,
            "lips": self._lips,
            "pictures": self._frames,
            "fvd": self._fvd,
        }
        for name, part in parts.items():
            start = time.perf_counter()
            self.results.add(part())
            self.results.seconds[name] = time.perf_counter() - start

    def write(self) -> str:
        """Writes `metrics.json` and `report.html`, and returns the table as plain text."""
        self.results.write(self._out / "metrics.json")
        clips = {path.stem: (self._partners.get(path), path) for path in self._generated}
        report.write(self._out / "report.html", self.results, clips, size=self._settings.size)
        return report.plain_table(self.results) + f"\nreport: {self._out / 'report.html'}"

    def _motion(self) -> Results:
        settings = self._settings
        if settings.motion.kind == "pose" and not pose.is_installed():
            return Results(missing=dict.fromkeys(motion.METRICS, _NO_POSE))
        return motion.score(
            self._real, self._generated, settings.motion,
            keep=self._out / "fgd.npz", paired=settings.paired, seed=settings.seed,
        )  # fmt: skip

    def _lips(self) -> Results:
        options = self._settings.lips
        if options is None:
            return Results(missing=dict.fromkeys(lips.METRICS, "--nolips leaves lips out"))
        if not pose.is_installed():
            return Results(missing=dict.fromkeys(lips.METRICS, _NO_FACES))
        return lips.score(self._real, self._generated, options, seed=self._settings.seed)

    def _frames(self) -> Results:
        settings = self._settings
        if not settings.paired:
            return Results(missing=dict.fromkeys(("psnr", "ssim", "st_lpips", "lpips"), _UNPAIRED))
        networks, part = self._load_networks()
        with tqdm(self._partners.items(), desc="pictures", unit="video") as progress:
            for generated, real in progress:
                part.clips[generated.stem] = frames.compare(
                    real, generated, networks,
                    size=settings.size,
                    perceptual_stride=settings.perceptual_stride,
                    boxes=video_motion.find_boxes(real, size=settings.size),
                )  # fmt: skip
        part.protocol["perceptual_stride"] = settings.perceptual_stride
        part.protocol["frames_left_out"] = sum(
            scores.pop("frames_left_out") for scores in part.clips.values()
        )
        # All clips have the same scores in the same order.
        for name in next(iter(part.clips.values())):
            values = [scores[name] for scores in part.clips.values()]
            part.scores[name] = mean_score(values, seed=settings.seed)
        return part

    def _load_networks(self) -> tuple[dict[str, Any], Results]:
        """The variables of each distance whose weights are there, and the entries about them."""
        networks = {"st_lpips": fetch.load_vgg16()}
        part = Results(protocol={"st_lpips_sha256": hash_file(fetch.find("vgg16"))})
        path = self._settings.lpips
        if path:
            networks["lpips"] = fetch.load_lpips(path)
            part.protocol["lpips_sha256"] = hash_file(path)
        else:
            part.missing["lpips"] = _NO_LPIPS
        return networks, part

    def _fvd(self) -> Results:
        settings = self._settings
        if not settings.fvd_clips:
            return Results(missing={"fvd": "--fvd_clips is 0"})
        return fvd.score(
            self._real, self._generated,
            size=settings.size,
            length=settings.fvd_frames,
            stride=settings.fvd_stride,
            max_clips=settings.fvd_clips,
            paired=settings.paired,
            seed=settings.seed,
        )  # fmt: skip

    def _describe(self) -> dict[str, Any]:
        return {
            "real": f"{len(self._real)} videos",
            "real_sha256": videos.hash_videos(self._real),
            "generated": f"{len(self._generated)} videos",
            "generated_sha256": videos.hash_videos(self._generated),
            "paired": self._settings.paired,
            "size_px": self._settings.size,
            "frames_per_sec": 25,
            "seed": self._settings.seed,
            "intervals": "95 %, bootstrap over clips",
            "versions": {name: metadata.version(name) for name in _PACKAGES},
        }
