"""Programs of Debian packages without installing them, and a Debian root file system with Python.

Packages are downloaded and unpacked into the per-user cache. A process sees them laid over the
machine's `/usr`, in a mount namespace that ends with it: the machine itself is not changed.
"""
