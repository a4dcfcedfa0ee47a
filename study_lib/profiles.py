"""The three sizes in which every notebook runs."""

PROFILES = {
    "smoke": "a tiny built-in cohort: tests, and a first look",
    "demo": "the built-in cohort: every table and figure, with results that mean something",
    "paper": "manifests of real data, on GPU nodes",
}


def check_profile(name: str) -> str:
    """Give `name` back if it is a profile; otherwise say which there are."""
    if name not in PROFILES:
        known = ", ".join(PROFILES)
        raise ValueError(f"profile: expected one of {known}; got {name!r}")
    return name
