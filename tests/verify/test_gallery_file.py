"""The file of a gallery: when it comes into being."""

import stat

import numpy as np
import pytest

from alpha_sv.verify.gallery import Gallery
from alpha_sv.verify.gallery_file import GalleryError
from tests.fixtures.voices import SpectralModel, spoken


def test_the_file_comes_into_being_with_its_first_sample(tmp_path):
    path = tmp_path / "new" / "g.sqlite"
    gallery, other = Gallery(path, SpectralModel()), Gallery(path, SpectralModel())
    with pytest.raises(ValueError, match="silent"):
        gallery.enrol("Ann", np.zeros(32000, np.float32))
    with pytest.raises(GalleryError, match="nobody called"):
        gallery.remove("Ann")
    assert gallery.names() == [] and gallery.counts() == {} and gallery.export()["people"] == {}
    assert gallery.identify(spoken(0, 0), threshold=0.5).verdict == "unknown"
    assert not path.parent.exists()
    gallery.enrol("Ann", spoken(0, 0))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert other.names() == ["Ann"] and len(other.enrol("Bob", spoken(2, 0)).added) == 1
    assert Gallery(path).names() == gallery.names() == ["Ann", "Bob"]
    with pytest.raises(GalleryError, match="another model"):
        Gallery(path, SpectralModel("other", bands=30))
