"""Building: from a release spec to a release directory, and to a lock."""

from bundler.build.lock import lock_release
from bundler.build.release import BuiltRelease, build_release

__all__ = ["BuiltRelease", "build_release", "lock_release"]
