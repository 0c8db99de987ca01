"""Compares generated with real videos by the usual metrics; writes numbers and a page.

    python -m gesture_jax.evaluate --real=DIR --generated=DIR --out=DIR [--paired]

Writes DIR/metrics.json and DIR/report.html. FGD, diversity and beat alignment measure motion; FVD
measures video. Lips are compared with the speech where a video shows a face and has sound. PSNR,
SSIM, ST-LPIPS and LPIPS compare frame by frame, if videos with the same name should be equal
(--paired).
"""

from absl import flags

from gesture_jax import cli
from gesture_jax.storage.output_paths import check_outputs

_REAL = cli.define_path("real", None, "Folder of real videos.", required=True)
_GENERATED = cli.define_path("generated", None, "Folder of generated videos.", required=True)
_OUT = cli.define_path("out", None, "Folder for metrics.json and report.html.", required=True)
_PAIRED = flags.DEFINE_boolean("paired", False, "Compare videos with the same name frame by frame.")
_LIMIT = flags.DEFINE_integer("limit", 0, "Number of videos to use from each folder; 0 for all.", 0)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Seed of the fit, the controls and the bootstrap.", 0, 2**31
)
_SIZE = flags.DEFINE_integer("size", 256, "Side in pixels at which frames are compared.", 24, 2048)
_PERCEPTUAL_STRIDE = flags.DEFINE_integer(
    "perceptual_stride", 10, "ST-LPIPS and LPIPS compare one frame in this many.", 1
)
_LPIPS = cli.define_path(
    "lpips", "", "File of AlexNet's weights for LPIPS, torchvision's alexnet-owt-7be5be79.pth."
)
_FVD_FRAMES = flags.DEFINE_integer("fvd_frames", 16, "Frames in a clip of FVD.", 10, 1000)
_FVD_STRIDE = flags.DEFINE_integer(
    "fvd_stride", 16, "Frames from one clip's start to the next one's in FVD.", 1
)
_FVD_CLIPS = flags.DEFINE_integer(
    "fvd_clips", 4, "Largest number of clips from a video; 0 leaves FVD out.", 0
)
_MOTION = flags.DEFINE_enum(
    "motion", "pose", ["pose", "joints", "features"],
    "Kind of motion: detected in the videos (extra [pose]), or from an .npz beside each.",
)  # fmt: skip
_WINDOW = flags.DEFINE_integer("window", 64, "Frames in a window of FGD and diversity.", 12)
_FIT = cli.define_path(
    "fit", "", "Folder of videos to fit FGD's autoencoder to; --real by default."
)
_AUTOENCODER = cli.define_path(
    "autoencoder", "", "Fitted autoencoder: OUT/fgd.npz of an earlier evaluation."
)
_BAS_VARIANT = flags.DEFINE_enum(
    "bas_variant", "onsets", ["onsets", "bailando", "ha2g", "beat", "emage"],
    "Variant of the beat alignment.",
)  # fmt: skip
_LIPS = flags.DEFINE_boolean("lips", True, "Measure lips against speech (extra [pose]).")
_PHONES = cli.define_path(
    "phones", "", "Folder with the phones of each video, NAME.json or NAME.csv, for the closure of "
    "lips; by default PocketSphinx finds those of English speech (extra [lips]).",
)  # fmt: skip
_SYNCNET = cli.define_path(
    "syncnet", "", "File of SyncNet's weights for LSE-D and LSE-C, its authors' syncnet_v2.model."
)


def main(_) -> None:
    from gesture_jax.evaluation.comparison import Comparison, Settings
    from gesture_jax.evaluation.lips import LipOptions
    from gesture_jax.evaluation.motion import MotionOptions

    folders = {
        "--real": _REAL.value,
        "--generated": _GENERATED.value,
        "--fit": _FIT.value,
        "--phones": _PHONES.value,
    }
    check_outputs({"--out": _OUT.value}, folders)
    settings = Settings(
        real=_REAL.value,
        generated=_GENERATED.value,
        out=_OUT.value,
        paired=_PAIRED.value,
        limit=_LIMIT.value,
        size=_SIZE.value,
        perceptual_stride=_PERCEPTUAL_STRIDE.value,
        lpips=_LPIPS.value,
        fvd_frames=_FVD_FRAMES.value,
        fvd_stride=_FVD_STRIDE.value,
        fvd_clips=_FVD_CLIPS.value,
        motion=MotionOptions(
            kind=_MOTION.value,
            bas_variant=_BAS_VARIANT.value,
            window=_WINDOW.value,
            fit=_FIT.value,
            autoencoder=_AUTOENCODER.value,
        ),
        lips=LipOptions(_PHONES.value, _SYNCNET.value) if _LIPS.value else None,
        seed=_SEED.value,
    )
    comparison = Comparison(settings)
    comparison.run()
    print(comparison.write())


if __name__ == "__main__":
    cli.run(main)
