"""The main job, shown on real parts: `python -m demo`, or `make demo`.

A storm of clients makes an ingestion API outrun its workers; the operator steps up, meets the
database's budget, pauses ingestion, drains, resumes, steps down. Start reading at `story.py`.

The parts of the guarded system (`api.py`, `worker.py`, `storm.py`, `holder.py`)
run as pods and know nothing of the operator.
"""
