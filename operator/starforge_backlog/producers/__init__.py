"""Ways to pause a producer. Each is a compare-and-set with ownership (P4), behind one protocol."""
