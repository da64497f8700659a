"""From a file, loose or in a tar, to the samples of a training chunk: reading, speed, augmentation."""

from alpha_sv.data.audio.read import (
    AUDIO_EXTENSIONS,
    AudioError,
    check_signal,
    mix,
    read_audio,
    read_blocks,
    read_header,
)

__all__ = ["AUDIO_EXTENSIONS", "AudioError", "check_signal", "mix", "read_audio", "read_blocks", "read_header"]
