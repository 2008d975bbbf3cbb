"""What the packages above ask of a bundle before a channel may point at it; found by entry points, as their commands.

A checksum says that a bundle is as it was published; only who answers from it can say whether this code could.
"""

from __future__ import annotations

from importlib.metadata import entry_points

from infra.bundle import Bundle
from infra.errors import BundleError, ConfigurationError, DataError, ModisteError

GROUP = "modiste.bundle_checks"


def check_usable(bundle: Bundle) -> None:
    """Open a verified bundle as the processes would that use it, were they of this very code.

    Raises:
        BundleError: they would refuse it; says why. ConfigurationError: nobody here can tell.
    """
    points = entry_points(group=GROUP)
    if not points:
        raise ConfigurationError(
            "nothing that is installed here can tell whether a bundle is usable; install Modiste again"
        )
    for point in points:
        check = point.load()
        try:
            check(bundle)
        except (BundleError, DataError) as error:
            if bundle.bundle_id in str(error):
                raise
            raise BundleError(f"bundle {bundle.bundle_id}: {error}") from error
        except ModisteError:
            raise
        except Exception as error:  # whatever a bad bundle does to its loader
            told = f"{type(error).__name__}: {error}"
            raise BundleError(f"bundle {bundle.bundle_id} cannot be loaded: {told}") from error
