"""Two folders of videos to one set of results: which parts are computed, in which order."""

import dataclasses
import time
from importlib import metadata
from typing import Any

from tqdm import tqdm

from gesture_jax.evaluation import appearance, motion, pictures, report, video_motion, videos
from gesture_jax.evaluation.motion import MotionOptions
from gesture_jax.evaluation.results import Results
from gesture_jax.metrics.scores import mean_score
from gesture_jax.people import pose
from gesture_jax.pretrained import fetch
from gesture_jax.storage.files import as_path, hash_file

_UNPAIRED = "compares frame by frame: pass --paired where videos by one name ought to be equal"
_NO_POSE = (
    f"wants the pose model: {pose.remedy()}; or pass --motion=joints or --motion=features where "
    "each video has an .npz beside it"
)
_NO_LPIPS = "wants AlexNet's weights: pass --lpips=alexnet-owt-7be5be79.pth, torchvision's file"
_PACKAGES = "gesture_jax", "jax", "flax", "av", "soxr", "numpy"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is compared with what, and how.

    Attributes:
      real: folder of real videos.
      generated: folder of generated ones.
      out: folder that is written to.
      paired: whether videos by one name ought to be equal, frame by frame.
      limit: videos of each folder, 0 for all.
      size: side in pixels at which pictures are compared.
      perceptual_stride: one frame in so many is compared by ST-LPIPS and LPIPS.
      lpips: file of AlexNet's weights; LPIPS is left out without it.
      fvd_frames: of one clip.
      fvd_stride: frames from one clip's start to the next one's.
      fvd_clips: of a video at most; 0 leaves FVD out.
      motion: its kind and its measures.
      seed: of all that is drawn.
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
    seed: int = 0


class Comparison:
    """The videos of an evaluation, and what is found of them."""

    def __init__(self, settings: Settings):
        """Finds the videos.

        Raises:
          InputError: where a folder is missing or empty, or names do not match.
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
            note for folder in folders for note in videos.tell_unused(folder, companions=companions)
        ]
        self.results = Results(protocol=self._describe(), notes=unused)

    def run(self) -> None:
        """Computes all parts.

        Raises:
          InputError: for videos, motion or weights that cannot be read.
        """
        parts = {"motion": self._motion, "pictures": self._pictures, "fvd": self._fvd}
        for name, part in parts.items():
            start = time.perf_counter()
            self.results.add(part())
            self.results.seconds[name] = time.perf_counter() - start

    def write(self) -> str:
        """Writes `metrics.json` and `report.html`; returns the table in plain text."""
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

    def _pictures(self) -> Results:
        settings = self._settings
        if not settings.paired:
            return Results(missing=dict.fromkeys(("psnr", "ssim", "st_lpips", "lpips"), _UNPAIRED))
        networks, part = self._load_networks()
        with tqdm(self._partners.items(), desc="pictures", unit="video") as progress:
            for generated, real in progress:
                part.clips[generated.stem] = pictures.compare(
                    real, generated, networks,
                    size=settings.size,
                    perceptual_stride=settings.perceptual_stride,
                    boxes=video_motion.find_boxes(real, size=settings.size),
                )  # fmt: skip
        part.protocol["perceptual_stride"] = settings.perceptual_stride
        part.protocol["frames_left_out"] = sum(
            scores.pop("frames_left_out") for scores in part.clips.values()
        )
        # In the order in which they are compared, which all clips share.
        for name in next(iter(part.clips.values())):
            values = [scores[name] for scores in part.clips.values()]
            part.scores[name] = mean_score(values, seed=settings.seed)
        return part

    def _load_networks(self) -> tuple[dict[str, Any], Results]:
        """Variables of the distances that there are weights for, and what is to say of them."""
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
        return appearance.score(
            self._real, self._generated,
            size=settings.size,
            length=settings.fvd_frames,
            stride=settings.fvd_stride,
            most=settings.fvd_clips,
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
