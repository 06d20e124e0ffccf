"""Faults that a sweep must survive, one file each; the other files of the table are in their own folders.

| fault | where |
|---|---|
| S1 kill -9 of the sweep, anywhere | `test_crash_points.py`; at random moments `sweep/test_sweep_processes.py` |
| S2 a cell takes its process down | `test_segfault.py`; workers of a cluster `sweep/test_ray_actors.py` |
| S3 SIGINT, SIGTERM, SIGHUP, ignored ones | `test_interrupts.py`, `sweep/test_sweep_processes.py` |
| S4 disk full | `test_disk_full.py`; betons `beton/test_writer_faults.py`, labels `train/test_stored_labels.py` |
| S5 no locks, files of other users | `test_no_locks.py`, `test_other_users.py` |
| S5 a damaged cache of kernels | `kernels/test_cache.py` |
| S5 read-only, paths that cannot be | `test_read_only.py`, `test_files.py`, `cli/test_cli_errors.py` |
| S6 two sweeps on one store | `sweep/test_sweep_processes.py`, `sweep/test_store.py` |
| S7 stale lease, clock | `sweep/test_store.py`, `sweep/test_sweep_run.py` |
| S8 damaged, newer, foreign store | `sweep/test_store.py`, `sweep/test_old_stores.py` |
| S9 NaN at step k | `test_diverged.py`, `train/test_evaluation.py`, `nn/test_fit.py` |
| S10 a method's output is wrong | `test_wrong_method.py` |
| S11 labels and classes that do not fit | `sweep/test_sweep_plan.py`, `loader/test_changes.py` |
| S12 fewer images than a batch | `loader/test_batches.py`, `train/test_protocols.py` |
| S13, S14 equal bytes, cache hits and misses | `sweep/test_sweep_plan.py`, `test_compress.py` |
| B damaged betons | `beton/test_verify.py`, `loader/test_faults.py`, `loader/test_changes.py` |
| W sources and writers | `beton/test_sources.py`, `beton/test_images.py`, `beton/test_writer_faults.py` |
| X1 hostile YAML | `sweep/test_sweep_config.py` |
| X2 hostile pickle, npy, tar | `observe/test_teacher.py`, `test_hostile_npy.py`, `beton/test_sources.py` |
| X3, X4 hostile names | `test_hostile_names.py`, `report/test_result_table.py` |
| X5 trackers | `track/` |
| X6 memory, a lost GPU | `sweep/test_failures.py`, `sweep/test_sweep_isolation.py` |
| X7 streams and terminals | `test_no_tty.py`, `cli/test_cli_errors.py` |
| X8 plug-ins | `methods/test_registry.py`, `test_wrong_method.py` |
| all of them, in any order | `test_soak.py` |
"""
