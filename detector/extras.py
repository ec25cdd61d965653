"""How to install what an extra brings: the package is on no index, so only its source folder has them."""


def how_to_install(extras: str) -> str:
    """Return what to do, given the names of extras, with commas between."""
    return f"pip install '.[{extras}]' in the source folder of this package"
