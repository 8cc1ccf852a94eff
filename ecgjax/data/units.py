"""Units of voltage as files write them."""

_MILLIVOLTS = {"mv": 1.0, "uv": 1e-3, "nv": 1e-6, "v": 1e3, "millivolt": 1.0, "microvolt": 1e-3, "volt": 1e3}


def millivolts(unit: str) -> float | None:
    """Millivolts in one `unit`, such as "uV", either Greek mu and "V", or "MICROVOLTS"; None if it is no voltage."""
    return _MILLIVOLTS.get(unit.strip().lower().replace("µ", "u").replace("μ", "u").removesuffix("s"))
