"""From a file, loose or in a tar, to the samples of a training chunk:
reading, speed, augmentation."""

from alpha_sv.data.audio.read import (
    AUDIO_EXTENSIONS,
    SILENCE_PEAK,
    AudioError,
    check_signal,
    mix,
    read_audio,
    read_blocks,
    read_header,
    uncounted_in,
)

__all__ = [
    "AUDIO_EXTENSIONS",
    "SILENCE_PEAK",
    "AudioError",
    "check_signal",
    "mix",
    "read_audio",
    "read_blocks",
    "read_header",
    "uncounted_in",
]
