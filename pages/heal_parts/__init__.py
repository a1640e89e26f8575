"""The parts of Heal: what is asked, what it takes, and what came of it."""
