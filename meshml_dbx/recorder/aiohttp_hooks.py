"""Hooks in aiohttp."""

from types import ModuleType

from meshml_dbx.recorder.patches import Patches
from meshml_dbx.recorder.recorder import Recorder


def hook_aiohttp(module: ModuleType, patches: Patches, recorder: Recorder) -> None:
    """Record what goes through the transports of aiohttp."""
