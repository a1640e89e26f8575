"""The parts of Compare: energies against losses, searches, the table, protocols of others."""
