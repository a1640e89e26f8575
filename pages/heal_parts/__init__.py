"""The parts of Heal: what is asked, and what came of it."""
