"""Preparation, training and generation use the same speech features, or an error says so."""

import pytest

from configs import stage2 as stage2_config
from gesture_jax.data import clips
from gesture_jax.errors import InputError
from gesture_jax.inference import generator
from gesture_jax.preparation import procedural
from gesture_jax.procedural import speaker
from gesture_jax.speech import extractor
from tests import safetensors_file, wavlm_file


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("wavlm") / "tiny.safetensors"
    return str(safetensors_file.save(wavlm_file.state_dict(), path))


@pytest.mark.parametrize(("kind", "width"), [("mel", 129), ("wavlm", 32), ("both", 67)])
def test_features_lie_in_the_data_set(weights, tmp_path, kind, width):
    hearing = extractor.SpeechFeatureExtractor(kind, None if kind == "mel" else weights)
    options = dict(num_clips=2, num_identities=1, clip_sec=1.2, size=16, seed=0)
    procedural.write_procedural(tmp_path / "data", **options, feature_extractor=hearing)
    source = clips.ClipSource(tmp_path / "data", "train")
    assert (
        source.speech_features == hearing.describe() and source.speech_features["features"] == kind
    )
    done = speaker.perform(identity=0, seed=0, duration_sec=1.2, size=16)
    expected = hearing.extract(done.audio, num_frames=30)
    assert source[0]["speech"].shape == (30, width)
    assert source[0]["speech"] == pytest.approx(expected, abs=1e-5)
    if kind == "both":  # WavLM's first, as in S2G-MDDiffusion.
        baseline = extractor.speech_features(done.audio, num_frames=30)
        assert source[0]["speech"][:, 32:] == pytest.approx(baseline, abs=1e-5)


def _config(kind, sha256):
    config = stage2_config.get_config("smoke")
    config.data.features, config.wavlm_sha256 = kind, sha256
    return config


def test_generation_uses_the_features_of_training(weights):
    sha256 = extractor.SpeechFeatureExtractor("both", weights).describe()["wavlm_sha256"]
    hearing = generator.load_feature_extractor("runs/a", _config("both", sha256), weights)
    assert hearing == extractor.SpeechFeatureExtractor("both", weights)
    assert (
        generator.load_feature_extractor("runs/a", _config("baseline", ""), None)
        == extractor.SpeechFeatureExtractor()
    )
    assert generator.load_feature_extractor("runs/a", _config("mel", ""), None).kind == "mel"
    with pytest.raises(InputError, match="not the WavLM that runs/a was trained with"):
        generator.load_feature_extractor("runs/a", _config("both", "0" * 64), weights)
    with pytest.raises(InputError, match="'both' and needs --wavlm=FILE"):
        generator.load_feature_extractor("runs/a", _config("both", sha256), None)
    with pytest.raises(InputError, match="'baseline' and has no use for --wavlm"):
        generator.load_feature_extractor("runs/a", _config("baseline", ""), weights)


@pytest.mark.parametrize(
    ("kind", "wavlm", "reason"),
    [
        ("loud", None, "'loud' are not known"),
        ("wavlm", None, "give --wavlm=FILE"),
        ("baseline", "weights.pt", "do without WavLM"),
        ("mel", "weights.pt", "do without WavLM"),
    ],
)
def test_kinds_and_weights_go_together(kind, wavlm, reason):
    with pytest.raises(InputError, match=reason):
        extractor.SpeechFeatureExtractor(kind, wavlm)
