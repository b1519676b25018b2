"""The processes behind fill.py: what is trained (`models.py`, `workloads.py`), and how (`ddp.py`, `pipeline.py`), one process a core."""
