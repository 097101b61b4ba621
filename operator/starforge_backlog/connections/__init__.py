"""What adapters have in common: `docs/architecture.md` lists the modules."""
