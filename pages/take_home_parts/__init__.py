"""The parts of Take home: what is asked, the cards, and the hub."""
