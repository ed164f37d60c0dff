"""Whether Prism, Beam's portable runner, can be had: from Beam's cache, or packed beside the checkout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_PACKED = Path(__file__).resolve().parents[3] / "shared" / "prism" / "install.py"
_CACHE = Path("~/.apache_beam/cache/prism/bin").expanduser()


def _installed() -> bool:
    if _PACKED.exists():
        return subprocess.run([sys.executable, str(_PACKED)], capture_output=True, check=False).returncode == 0
    return any(_CACHE.glob("apache_beam-*prism*"))


needs_prism = pytest.mark.skipif(not _installed(), reason="Prism is neither in Beam's cache nor beside the checkout")
