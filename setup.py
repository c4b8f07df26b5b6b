"""The compiled part. Where it cannot be made (no compiler, no epoll) the package installs without it."""

import sys

from setuptools import Extension, setup

setup(
    ext_modules=[Extension("streamgauge._drain", ["native/drain.c"], optional=True)] if sys.platform == "linux" else []
)
