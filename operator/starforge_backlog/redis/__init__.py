"""Redis: one connection per server, shared by all policies and by all who ask it something."""
