"""The parts of Explore around the picture: the row of controls, what the picture asks for, uploads."""
