"""The forms in which a pruned model is taken home, as the app and the command line know them. Loads no torch.

Names and words of them (names), which a state can have (offers), what changes in a config (config_changes);
what lies in an export's folder: its record (record), its card (card); what others make of it: a recipe for
mergekit (recipe), commands of other tools (commands), the hub (hub). core.export writes and proves them.
"""
