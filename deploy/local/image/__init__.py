"""The operator's image, built with what this machine has: `python -m local.image`."""
