"""What the policies of one process settle between them: connections (P1) and targets (P9)."""
