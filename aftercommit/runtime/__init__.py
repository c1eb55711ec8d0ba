"""How a process of a role lives: settings, signals, the poll loop, its sign of life."""
