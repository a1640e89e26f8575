"""Which blocks to remove, by measuring: our landscape that learns, and the other methods. Loads torch.

`learn` (learning); PEERS, the registry of other methods (greedy, evolutionary, Block Influence, ...), with
`chosen_at_once` and `searched` that run them (other_methods). study is the command `python -m core study`:
its parts measure (study_parts), its page is written by study_page. Of a real model, bed_study and
bed_chapters measure, and bed_page and what is named after it write.
"""
